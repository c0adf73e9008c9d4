"""Extracting the top 5 from a random-weight model of Qwen2-0.5B's shape, compared with its plain forward pass."""

from functools import cache

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.measure import Work
from firstlib.knowledge import extract_top_k
from firstlib.tasks.encoding import Encoded

LENGTH, SEQUENCES, K = 512, 2, 5
EIGHT = (1.0, 0.5, 0.75, 1.25, 1.5, 2.0, 3.0, 5.0)


@cache
def model(layers: int = 24) -> Qwen2ForCausalLM:
    """A model of Qwen2-0.5B's shape, sharpened so that the top tokens are far apart."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=layers,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.no_grad():
        found = Qwen2ForCausalLM(config).eval()
        found.lm_head.weight.mul_(3)
    return found


def examples(start: int, count: int = SEQUENCES, length: int = LENGTH) -> list[Encoded]:
    """Sequences of random tokens whose response begins at `start`."""
    ids = np.random.default_rng(0).integers(0, 151_936, (count, length)).tolist()
    return [Encoded(str(i), row, start) for i, row in enumerate(ids)]


def ours(start: int, temperatures: tuple[float, ...] = (1.0,)) -> Work:
    """Our extraction, one sequence at a time."""
    model()(input_ids=torch.tensor([examples(1)[0].token_ids[:32]]))

    def work() -> dict[str, float]:
        found = list(extract_top_k(model(), examples(start), K, 1, temperatures=temperatures))
        return {"mass": float(np.mean([item.probabilities.sum(1).mean() for item in found]))}

    return work


def forward(take: bool) -> Work:
    """Calls the model as usual, with all logits; if `take`, also applies log-softmax and top-k to them."""
    model()(input_ids=torch.tensor([examples(1)[0].token_ids[:32]]))

    @torch.inference_mode()
    def work() -> dict[str, float]:
        mass = [plain(example, take) for example in examples(1)]
        return {"mass": float(np.mean(mass))}

    return work


def plain(example: Encoded, take: bool) -> float:
    """Runs one sequence."""
    logits = model()(input_ids=torch.tensor([example.token_ids]), use_cache=False).logits[0]
    if not take:
        return float(logits[0, 0])
    return float(logits.log_softmax(-1).topk(K).values[:-1].exp().sum(1).mean())


def parity() -> dict[str, float]:
    """Checks ids, probabilities and log normalisers against a dense softmax."""
    small, example = model(2), examples(1, 1, 40)[0]
    found = next(extract_top_k(small, [example], K, temperatures=EIGHT))
    with torch.inference_mode():
        logits = small(input_ids=torch.tensor([example.token_ids])).logits[0, :-1].double()
    top = logits.softmax(-1).topk(K)
    assert (top.indices.numpy() == found.token_ids).all()
    np.testing.assert_allclose(found.probabilities, top.values.numpy(), rtol=1e-4)
    every = np.stack([(logits / t).logsumexp(-1).numpy() for t in EIGHT], 1)
    np.testing.assert_allclose(found.log_normalisers, every, rtol=1e-5)
    return {"largest difference": float(np.abs(found.probabilities - top.values.numpy()).max())}


VARIANTS = {
    "ours": lambda: ours(1),
    "ours, 8 temperatures": lambda: ours(1, EIGHT),
    "ours, response only": lambda: ours(int(0.8 * LENGTH)),
    "forward": lambda: forward(False),
    "log-softmax": lambda: forward(True),
}
FORWARD, TAKEN = "the model's own forward pass, all logits", "forward, log-softmax and top-k (transformers)"
ROWS = [
    ("every position, time", "seconds", "s", "ours", "forward", FORWARD, "ratio at most 1.02"),
    ("every position, time", "seconds", "s", "ours", "log-softmax", TAKEN, ""),
    ("every position, peak above the model", "MiB", "MiB", "ours", "forward", FORWARD, "at most 143 (150 MB)"),
    ("every position, peak above the model", "MiB", "MiB", "ours", "log-softmax", TAKEN, ""),
    ("with 8 temperatures, time", "seconds", "s", "ours, 8 temperatures", "forward", FORWARD, "ratio at most 1.18"),
    ("the last fifth only, time", "seconds", "s", "ours, response only", "forward", FORWARD, "ratio at most 0.77"),
]  # fmt: skip
