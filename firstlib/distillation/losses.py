"""The sparse distillation loss (Eq. 5 of the paper), fused with the student's output head.

The teacher is known by its top K tokens, but the student's softmax needs every logit. `top_k_kl` therefore
takes hidden states and the output matrix instead of logits, and finishes value and gradients of a few
positions before it turns to the next: no (N, V) tensor is ever built.

One derivation serves every reading. At a position let q_i be the target's mass on each of the K tokens, r its
mass on the rest of the vocabulary, T = sum_i q_i + r, s the student's softmax and t its mass on the rest. The
gradient in the logits is

    T s_i - q_i            for each of the K tokens,
    (T t - r) s_j / t      for every other token, where r is matched as one bucket,
    T s_j - r / (V - K)    for every other token, where r is spread evenly.

t sums exponentials of the other logits; 1 - sum_i s_i would be noise where the student is confident.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx, once_differentiable

from firstlib.distillation.options import Student, Tail
from firstlib.metrics.checks import SUM_TOLERANCE

SMALLEST_CHUNK, LARGEST_CHUNK = 8 * 2**20, 96 * 2**20  # bytes of logits: below slower, above no faster
HEAD_BLOCK = 4096  # rows of the head whose gradient is added at once, to keep the temporary small


def top_k_kl(
    hidden: Tensor,
    head: Tensor,
    token_ids: Tensor,
    probabilities: Tensor,
    *,
    tail: Tail | str = Tail.DROP,
    student: Student | str = Student.FULL,
    gold: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    vocabulary: int | None = None,
) -> Tensor:
    """Returns the mean over positions of Eq. 5 (https://arxiv.org/abs/2408.12168), in nats.

    A position's loss is sum_i q_i log(q_i / s_i), with 0 log 0 = 0. Matrix products run in the inputs' type
    (or autocast's), softmax and loss in float32 (float64 for float64). The target gets no gradient.

    Here the student gives each of 4 tokens 1/4, the teacher 1/2 to two: 1/2 log 2 + 1/2 log 2 = log 2.

    >>> hidden, head = torch.zeros(1, 3), torch.ones(4, 3)
    >>> top_k_kl(hidden, head, torch.tensor([[2, 0]]), torch.tensor([[0.5, 0.5]]))
    tensor(0.6931)

    Args:
        hidden: `(N, D)` the student's last hidden states, one row a position.
        head: `(V, D)` the output matrix; where it is frozen, no gradient is allocated for it.
        token_ids: `(N, K)` int64, the teacher's K tokens at each position, all different.
        probabilities: `(N, K)` their target probabilities q, rows summing to at most 1.
        tail: what becomes of 1 - sum_i q_i, a `Tail` or its name.
        student: which softmax s comes from, a `Student` or its name.
        gold: `(N,)` int64, the true tokens; read by `tail="gold"` only.
        softcap: bounds the logits, as Gemma-2 does: `softcap * tanh(logits / softcap)`.
        scale: multiplies the logits, before `softcap`.
        vocabulary: how many rows of `head` are tokens (default: all); the padding after them gets no mass.

    Returns:
        A scalar; 0 without positions.

    Raises:
        ValueError: shapes or types that do not fit, a row that is no (partial) distribution, a token twice in
            a row or outside the vocabulary, options out of range or at odds with each other.

    """
    tail, student = Tail(tail), Student(student)
    vocabulary = len(head) if vocabulary is None else vocabulary
    _check_options(tail, student, gold, softcap)
    _check_shapes(hidden, head, token_ids, probabilities, vocabulary)
    _check_gold(gold, len(hidden))
    _check_rows(token_ids, probabilities, gold, tail, vocabulary)

    matmul_dtype = _matmul_dtype(hidden, head)
    output = _Output(student is Student.FULL, softcap, vocabulary, matmul_dtype)
    target = _make_target(token_ids, probabilities.detach().to(output.dtype), tail, gold, vocabulary)
    hidden = hidden if scale == 1 else hidden * scale
    total: Tensor = _TopKKL.apply(hidden, head, target, output, torch.is_grad_enabled())
    return total / max(len(hidden), 1)


class _Target(NamedTuple):
    """What each position is to match."""

    token_ids: Tensor  # (N, K), a row's tokens all different
    probabilities: Tensor  # (N, K)
    residual: Tensor  # (N, 1), mass on the rest of the vocabulary: 0 unless the tail is ghost or smooth
    spread: bool  # the residual is spread evenly, instead of matched as one bucket

    def at(self, rows: slice) -> "_Target":
        return _Target(self.token_ids[rows], self.probabilities[rows], self.residual[rows], self.spread)


def _make_target(token_ids: Tensor, q: Tensor, tail: Tail, gold: Tensor | None, vocabulary: int) -> _Target:
    """Reduce the five tail policies to the masses of K (or K + 1) tokens and a residual."""
    mass = q.sum(1, keepdim=True)
    residual = (1 - mass).clamp(min=0)
    if tail is Tail.RENORMALISE:
        q = q / mass
    if tail is Tail.GOLD and gold is not None:
        token_ids, q = (x[:, :vocabulary] for x in _add_gold(token_ids, q, gold[:, None], residual))
    if tail not in (Tail.GHOST, Tail.SMOOTH) or token_ids.shape[1] == vocabulary:  # no rest: r is rounding
        residual = torch.zeros_like(residual)
    return _Target(token_ids, q, residual, spread=tail is Tail.SMOOTH)


def _add_gold(ids: Tensor, q: Tensor, gold: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Give the residual to the gold token: in its own column if it has one, else in column K + 1."""
    found = ids == gold
    missing = ~found.any(1, keepdim=True)
    # Where gold has its own, column K + 1 takes the first token not among the K, with no mass: a row's tokens
    # must differ. Sorted, the tokens run 0, 1, 2, ... up to the first that is not among them.
    unused = (ids.sort(1).values == torch.arange(ids.shape[1], device=ids.device)).sum(1, keepdim=True)
    extra = torch.where(missing, gold, unused)
    return torch.cat([ids, extra], 1), torch.cat([q + residual * found, residual * missing], 1)


class _Output(NamedTuple):
    """How hidden states become logits, and how many positions at a time."""

    full: bool  # logits of the whole vocabulary, not of the K tokens alone
    softcap: float | None
    vocabulary: int
    matmul_dtype: torch.dtype

    @property
    def dtype(self) -> torch.dtype:
        """The type of softmax, loss and accumulated gradients."""
        return torch.promote_types(self.matmul_dtype, torch.float32)

    def positions(self, n: int, numbers: int) -> int:
        """Choose how many of n positions to do at once, if each needs so many numbers per buffer."""
        width = self.dtype.itemsize * (1 if self.softcap is None else 2)
        width += self.matmul_dtype.itemsize if self.matmul_dtype != self.dtype else 0
        room = min(LARGEST_CHUNK, max(SMALLEST_CHUNK, n * numbers * width // 4))
        return max(1, room // max(numbers * width, 1))


_Gradients = tuple[Tensor | None, Tensor | None]  # of hidden and of head, each only where it is needed


class _Context(FunctionCtx):
    """What the forward pass leaves for the backward pass."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, Tensor]
    problem: tuple[_Target, _Output]
    gradients: _Gradients | None


class _TopKKL(Function):
    """The loss summed over positions; its gradients are finished together with its value."""

    @staticmethod
    def forward(
        ctx: _Context, hidden: Tensor, head: Tensor, target: _Target, output: _Output, differentiate: bool
    ) -> Tensor:
        ctx.save_for_backward(hidden, head)
        ctx.problem = target, output
        needs = ctx.needs_input_grad if differentiate else (False, False)
        total, ctx.gradients = _solve(hidden, head, target, output, needs)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # The first call hands over the gradients, scaled in place: copying the head's would double the peak.
        # A later call, through a retained graph, recomputes them. Autograd casts to the inputs' types.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            gradients = _solve(*ctx.saved_tensors, *ctx.problem, ctx.needs_input_grad)[1]
        of_hidden, of_head = (None if gradient is None else gradient.mul_(upstream) for gradient in gradients)
        return of_hidden, of_head, None, None, None


def _solve(
    hidden: Tensor, head: Tensor, target: _Target, output: _Output, needs: tuple[bool, ...]
) -> tuple[Tensor, _Gradients]:
    """Sum the loss over positions, with the gradients that are needed, a chunk at a time."""
    total = hidden.new_zeros((), dtype=output.dtype)
    of_hidden = torch.zeros_like(hidden, dtype=output.dtype) if needs[0] else None
    of_head = torch.zeros_like(head, dtype=output.dtype) if needs[1] else None
    numbers = output.vocabulary if output.full else target.token_ids.shape[1] * head.shape[1]
    chunk = output.positions(len(hidden), numbers)
    with torch.autocast(hidden.device.type, enabled=False):
        weight = head[: output.vocabulary].to(output.matmul_dtype)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            into = (None if of_hidden is None else of_hidden[rows], of_head)
            total += _step(hidden[rows].to(weight.dtype), weight, target.at(rows), output, into)
    return total, (of_hidden, of_head)


def _step(hidden: Tensor, weight: Tensor, target: _Target, output: _Output, into: _Gradients) -> Tensor:
    """Return a chunk's loss; write its gradients into those given."""
    ids, full, softcap, (of_hidden, of_head) = target.token_ids, output.full, output.softcap, into
    if full:
        logits = (hidden @ weight.T).to(output.dtype)  # @, because einsum copies a bfloat16 head
    else:  # the K tokens are a vocabulary of their own
        logits = torch.einsum("nd,nkd->nk", hidden, weight[ids]).to(output.dtype)
        target = target._replace(token_ids=torch.arange(ids.shape[1], device=ids.device).expand_as(ids))
    if softcap is not None:
        logits.div_(softcap).tanh_()
        slope = logits.square().neg_().add_(1)
        logits.mul_(softcap)
    loss = _divergence(logits, target)
    gradient = (logits if softcap is None else logits.mul_(slope)).to(hidden.dtype)
    if of_hidden is not None:
        of_hidden.copy_(gradient @ weight if full else torch.einsum("nk,nkd->nd", gradient, weight[ids]))
    if of_head is not None:
        _add_to_head(of_head[: len(weight)], gradient, hidden, None if full else ids)
    return loss


def _add_to_head(of_head: Tensor, gradient: Tensor, hidden: Tensor, ids: Tensor | None) -> None:
    """Add gradient.T @ hidden, whose rows are all tokens or, where given, the `(n, K)` ids."""
    if ids is not None:
        outer = torch.einsum("nk,nd->nkd", gradient, hidden).to(of_head.dtype)
        of_head.index_add_(0, ids.flatten(), outer.flatten(0, 1))
        return
    for block, columns in zip(of_head.split(HEAD_BLOCK), gradient.split(HEAD_BLOCK, 1), strict=True):
        block.add_(columns.T @ hidden)


def _divergence(logits: Tensor, target: _Target) -> Tensor:
    """Sum a chunk's loss and overwrite its `(n, V)` logits with their gradient (letters as at the top)."""
    ids, q, r, spread = target
    others = max(logits.shape[1] - ids.shape[1], 1)
    chosen = logits.gather(1, ids)
    if spread:
        mean_rest = (logits.sum(1, keepdim=True) - chosen.sum(1, keepdim=True)) / others
    rest = logits.scatter_(1, ids, -torch.inf)
    highest = rest.amax(1, keepdim=True).clamp(min=torch.finfo(rest.dtype).min)
    summed = rest.sub_(highest).exp_().sum(1, keepdim=True)
    summed.clamp_(min=1)  # the highest adds 1: less only where there is no rest
    log_rest = highest + summed.log()
    log_all = torch.logaddexp(log_rest, chosen.logsumexp(1, keepdim=True))
    log_s, log_t = chosen - log_all, log_rest - log_all

    mass = q.sum(1, keepdim=True) + r
    tail = mass * log_t.exp()
    if spread:  # r is matched against the geometric mean of the rest's probabilities, V - K times
        log_t = mean_rest - log_all + math.log(others)
        rest.mul_(tail / summed).sub_(r / others)
    else:
        rest.mul_((tail - r) / summed)
    rest.scatter_(1, ids, mass * log_s.exp() - q)
    return (torch.xlogy(q, q) - q * log_s).sum() + (torch.xlogy(r, r) - r * log_t).sum()


def _matmul_dtype(hidden: Tensor, head: Tensor) -> torch.dtype:
    """Follow autocast where it is on (it leaves float64 alone), else the inputs."""
    device, types = hidden.device.type, (hidden.dtype, head.dtype)
    if torch.is_autocast_enabled(device) and torch.float64 not in types:
        return torch.get_autocast_dtype(device)
    _require(types[0] == types[1], f"hidden is {types[0]} and head {types[1]}: cast one, or use autocast")
    return hidden.dtype


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise ValueError(complaint)


def _check_options(tail: Tail, student: Student, gold: Tensor | None, softcap: float | None) -> None:
    outside = student is Student.RENORMALISED and tail not in (Tail.DROP, Tail.RENORMALISE)
    _require(not outside, f"student=renormalised has no mass where tail={tail} puts some: use tail=drop")
    _require(tail is not Tail.GOLD or gold is not None, "tail=gold needs the true tokens: pass gold")
    _require(softcap is None or softcap > 0, f"softcap={softcap} must be positive, or None for no cap")


def _check_shapes(hidden: Tensor, head: Tensor, ids: Tensor, q: Tensor, vocabulary: int) -> None:
    states, matrix = tuple(hidden.shape), tuple(head.shape)
    fits = len(states) == len(matrix) == 2 and states[1] == matrix[1]
    _require(fits, f"hidden {states} and head {matrix} must be (N, D) and (V, D)")
    _require(0 < vocabulary <= matrix[0], f"vocabulary={vocabulary} must be in 1..{matrix[0]}, head's rows")
    fits = ids.ndim == 2 and ids.shape == q.shape and len(ids) == states[0] and ids.shape[1] > 0
    shapes = f"token_ids {tuple(ids.shape)} and probabilities {tuple(q.shape)}"
    _require(fits, f"{shapes} must both be (N, K), with N = {states[0]} as in hidden and K at least 1")
    _require(ids.dtype == torch.int64, f"token_ids are {ids.dtype}: convert them to torch.int64")


def _check_gold(gold: Tensor | None, n: int) -> None:
    fits = gold is None or (gold.shape == (n,) and gold.dtype == torch.int64)
    _require(fits, f"gold must be ({n},) torch.int64, one entry for each row of hidden")


def _check_rows(ids: Tensor, q: Tensor, gold: Tensor | None, tail: Tail, vocabulary: int) -> None:
    """Refuse a row that is no target: (N, K) work, and one look at its result."""
    ordered, mass = ids.sort(1).values, q.float().sum(1)
    faults = {
        "a probability is NaN: repair it or leave the position out": q.isnan().any(1),
        "a probability is negative: clip and renormalise": (q < 0).any(1),
        "probabilities sum to more than 1: divide by their sum": mass > 1 + SUM_TOLERANCE,
        f"a token id is not in 0..{vocabulary - 1}: is the tokenizer the teacher's?": (
            (ordered[:, 0] < 0) | (ordered[:, -1] >= vocabulary)
        ),
        "a token id occurs twice: merge the two": (ordered[:, 1:] == ordered[:, :-1]).any(1),
    }
    if tail is Tail.RENORMALISE:
        faults["probabilities sum to 0, nothing to renormalise: leave the position out"] = mass == 0
    if tail is Tail.GOLD and gold is not None:
        faults[f"gold is not in 0..{vocabulary - 1}: leave the position out"] = (gold < 0) | (gold >= vocabulary)
    if tail in (Tail.GHOST, Tail.SMOOTH) and ids.shape[1] == vocabulary:
        faults[f"tail={tail} has no other token to give mass to: renormalise"] = mass < 1 - SUM_TOLERANCE
    bad = torch.stack(list(faults.values()))
    if bad.any():
        fault, row = bad.nonzero()[0].tolist()
        raise ValueError(f"row {row}: {list(faults)[fault]}")
