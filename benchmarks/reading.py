"""Extraction beside the limit: the same model's bare forward pass on the same tokens, with nothing padded.

The model has SmolLM2-135M's shape and random weights; lengths are those of CommonsenseQA's questions. The bare pass
reads as many tokens in rows of one length and applies no output head, so a ratio of 1 cannot be beaten where every
token is read. It can where prompts share a prefix: here Alpaca's preamble, or five worked examples.
"""

from collections.abc import Sequence
from functools import cache
from time import perf_counter

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measure import Work
from firstlib.knowledge import extract_top_k
from firstlib.models.heads import body_and_head
from firstlib.tasks.encoding import Encoded

VOCABULARY, BATCH, K = 49_152, 16, 5
QUESTION, RESPONSE = (55, 80), 7  # tokens
PREFIXES = {"no shared prefix": 0, "Alpaca's preamble": 38, "five examples": 375}
COUNTS = {"no shared prefix": 64, "Alpaca's preamble": 64, "five examples": 16}


@cache
def model(layers: int = 30) -> LlamaForCausalLM:
    """A random model of SmolLM2-135M's shape, sharpened so that the top tokens are far apart."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers,
        num_attention_heads=9, num_key_value_heads=3,
    )  # fmt: skip
    found = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        found.lm_head.weight.mul_(8)
    return found


def examples(prefix: int, count: int) -> list[Encoded]:
    """Random examples whose first tokens are the same."""
    rng = np.random.default_rng(0)
    shared = rng.integers(0, VOCABULARY, prefix).tolist()
    found = []
    for i in range(count):
        question, response = (rng.integers(0, VOCABULARY, n).tolist() for n in (rng.integers(*QUESTION), RESPONSE))
        found.append(Encoded(str(i), [*shared, *question, *response], prefix + len(question)))
    return found


def ours(prefix: int, count: int) -> Work:
    """Our extraction of the top 5 at every response position."""
    encoded = examples(prefix, count)
    list(extract_top_k(model(), encoded[:2], K, 2))

    def work() -> dict[str, float]:
        started = perf_counter()
        list(extract_top_k(model(), encoded, K, BATCH))
        return {"rate": tokens(encoded) / (perf_counter() - started)}

    return work


def bare(prefix: int, count: int) -> Work:
    """The decoder's pass over as many tokens, in rows of one length; no head."""
    total, body = tokens(examples(prefix, count)), body_and_head(model())[0]
    rows = torch.randint(VOCABULARY, (count, total // count), generator=torch.Generator().manual_seed(0))
    body(input_ids=rows[:2], use_cache=False)

    @torch.inference_mode()
    def work() -> dict[str, float]:
        started = perf_counter()
        for batch in rows.split(BATCH):
            body(input_ids=batch, use_cache=False)
        return {"rate": rows.numel() / (perf_counter() - started)}

    return work


def tokens(encoded: Sequence[Encoded]) -> int:
    """How many tokens there are."""
    return sum(len(example.token_ids) for example in encoded)


def parity() -> dict[str, float]:
    """Checks probabilities behind a shared prefix against the model's own forward pass on whole texts."""
    small, encoded = model(2), examples(PREFIXES["five examples"], 4)
    differences = []
    for item in extract_top_k(small, encoded, K, BATCH):
        example = encoded[int(item.example_id)]
        with torch.inference_mode():
            logits = small(input_ids=torch.tensor([example.token_ids])).logits[0, example.start - 1 : -1].double()
        right = logits.softmax(-1).gather(1, torch.from_numpy(item.token_ids).long()).numpy()
        differences.append(np.abs(item.probabilities - right).max())
        assert 0.05 < right[:, 0].mean() < 0.95, "nothing to compare"
    assert max(differences) < 1e-5, f"probabilities differ by {max(differences)}"
    return {"largest difference": float(max(differences))}


VARIANTS = {
    f"{name}, {label}": (lambda maker=maker, label=label: maker(PREFIXES[label], COUNTS[label]))
    for label in PREFIXES
    for name, maker in (("ours", ours), ("bare", bare))
}
GOALS = {"no shared prefix": "ratio at least 0.95", "Alpaca's preamble": "over 1", "five examples": "over 1"}
ROWS = [
    (
        f"135M shape, {label}", "rate", "tokens/s", f"ours, {label}", f"bare, {label}",
        "the decoder's bare pass, nothing padded", GOALS[label],
    )
    for label in PREFIXES
]  # fmt: skip
