"""The sparse distillation loss at the size of a 0.5B student: forward and backward, time and peak memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Work
from firstlib.distillation.losses import top_k_kl

Loss = Callable[..., Tensor]
N, V, D, K = 1024, 151_936, 896, 5


def problem(n: int = N, v: int = V, d: int = D, k: int = K) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states `(N, D)`, a head `(V, D)`, and a teacher's top k: ids and probabilities `(N, K)`."""
    torch.manual_seed(0)
    hidden, head = torch.randn(n, d), torch.randn(v, d).mul_(d**-0.5)
    ids = torch.stack([torch.randperm(v)[:k] for _ in range(min(n, 64))]).repeat(-(-n // 64), 1)[:n]
    return hidden, head, ids, torch.randn(n, k).softmax(1)


def dense(hidden: Tensor, head: Tensor, ids: Tensor, q: Tensor) -> Tensor:
    """The same loss in plain PyTorch."""
    log_s = (hidden @ head.T).log_softmax(1).gather(1, ids)
    return (q * (q.log() - log_s)).sum(1).mean()


def dense_teacher(ids: Tensor, q: Tensor, v: int) -> Tensor:
    """The teacher's top k as logits over the whole vocabulary, as the peers' dense losses expect it."""
    return torch.full((len(ids), v), -1e4).scatter_(1, ids, q.log())


def gkd(hidden: Tensor, head: Tensor, teacher: Tensor) -> Tensor:
    """TRL's generalised knowledge distillation, as forward KL."""
    from trl.experimental.gkd import GKDTrainer

    loss = GKDTrainer.generalized_jsd_loss((hidden @ head.T)[None], teacher[None], beta=0.0, reduction="sum")
    return loss / len(hidden)


def torchtune(hidden: Tensor, head: Tensor, teacher: Tensor) -> Tensor:
    """Torchtune's chunked forward KL, which leaves out the teacher's entropy."""
    from torchtune.modules.loss import ForwardKLWithChunkedOutputLoss

    labels = torch.zeros(1, len(hidden), dtype=torch.long)
    student = [(part @ head.T)[None] for part in hidden.chunk(8)]
    return ForwardKLWithChunkedOutputLoss()(student, [part[None] for part in teacher.chunk(8)], labels)


def trl_chunked(hidden: Tensor, head: Tensor, teacher: tuple[Tensor, Tensor]) -> Tensor:
    """TRL's fused dense divergence, from both models' hidden states."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    return ChunkedDivergenceFunction.apply(hidden, head, None, *teacher, None, 0.0)[0].mean()


def liger(hidden: Tensor, head: Tensor, teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Liger's fused dense JSD, as forward KL and without its hard labels."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False, chunk_size=128)
    return loss(hidden, head, *teacher, torch.zeros(len(hidden), dtype=torch.long))


def gradients(loss: Loss, hidden: Tensor, head: Tensor, *target: object, frozen: bool = True) -> list[Tensor]:
    """Returns the loss and its gradients."""
    hidden.requires_grad_()
    head.requires_grad_(not frozen)
    hidden.grad = head.grad = None
    value = loss(hidden, head, *target)
    value.backward()
    return [value.detach(), hidden.grad, *([] if frozen else [head.grad])]


def parity() -> dict[str, float]:
    """Checks loss and gradients of every variant on a small problem; for the fused dense losses, K is V."""
    hidden, head, ids, q = problem(64, 500, 32, 5)
    ours = gradients(top_k_kl, hidden, head, ids, q, frozen=False)
    entropy = -(q * q.log()).sum(1).mean()
    worst = 0.0
    for loss, target, constant in (
        (dense, (ids, q), 0.0),
        (gkd, (dense_teacher(ids, q, 500),), 0.0),
        (torchtune, (dense_teacher(ids, q, 500),), entropy),
    ):
        value, *grads = gradients(loss, hidden, head, *target, frozen=False)
        worst = max(worst, agree([value - constant, *grads], ours))
    teacher = torch.randn(64, 16), torch.randn(500, 16) / 4
    every, known = torch.arange(500).expand(64, -1), (teacher[0] @ teacher[1].T).softmax(1)
    ours = gradients(top_k_kl, hidden, head, every, known, frozen=False)
    for loss in (trl_chunked, liger):
        worst = max(worst, agree(gradients(loss, hidden, head, teacher, frozen=False), ours))
    return {"largest difference": worst}


def agree(theirs: list[Tensor], ours: list[Tensor]) -> float:
    """Checks that all differences are small, and returns the largest."""
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    return max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True))


def variant(loss: Loss, frozen: bool, teacher: str = "sparse") -> Work:
    """Prepares the inputs and returns the work to measure."""
    hidden, head, ids, q = problem()
    if teacher == "logits":
        target: tuple[object, ...] = (dense_teacher(ids, q, V),)
    elif teacher == "hidden":
        target = ((torch.randn(N, D), torch.randn(V, D).mul_(D**-0.5)),)
    else:
        target = (ids, q)
    F.softmax(torch.zeros(8, 8), 1)  # starts the thread pool

    def work() -> dict[str, float]:
        return {"loss": float(gradients(loss, hidden, head, *target, frozen=frozen)[0])}

    return work


VARIANTS = {
    "ours, frozen head": lambda: variant(top_k_kl, True),
    "plain, frozen head": lambda: variant(dense, True),
    "trl chunked, frozen head": lambda: variant(trl_chunked, True, "hidden"),
    "trl gkd, frozen head": lambda: variant(gkd, True, "logits"),
    "torchtune, frozen head": lambda: variant(torchtune, True, "logits"),
    "liger, frozen head": lambda: variant(liger, True, "hidden"),
    "ours, trained head": lambda: variant(top_k_kl, False),
    "plain, trained head": lambda: variant(dense, False),
}
PLAIN, CHUNKED, GKD, TUNE, LIGER = "plain PyTorch", "trl 1.16 chunked", "trl 1.16 GKD", "torchtune 0.6.1", "liger 0.8.5"
_OTHERS = (("plain", PLAIN), ("trl chunked", CHUNKED), ("trl gkd", GKD), ("torchtune", TUNE), ("liger", LIGER))
ROWS = [
    *(
        (f"{what}, frozen head", figure, unit, "ours, frozen head", f"{name}, frozen head", peer, goal)
        for what, figure, unit, goal in (
            ("peak above inputs", "MiB", "MiB", "at most 160"),
            ("time", "seconds", "s", "at most 2.8 (axolotl, on another machine: no comparison)"),
        )
        for name, peer in _OTHERS
    ),
    *(
        (f"{what}, trained head", figure, unit, "ours, trained head", f"{name}, trained head", peer, goal)
        for what, figure, unit, goal in (
            ("peak above inputs", "MiB", "MiB", "at most 700"),
            ("time", "seconds", "s", ""),
        )
        for name, peer in _OTHERS[:1]
    ),
]  # fmt: skip
