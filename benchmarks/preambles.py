"""A training step of SmolLM2-135M's shape on prompts with one preamble, as Alpaca's have, beside the same peers.

The preamble is 36 tokens, as many as Alpaca's with Llama's tokenizer; ours reads them once a batch. Instructions are as
long as Alpaca's. Responses are cut to 128 tokens: with longer ones a peer's logits and padding do not fit in 23 GB.
"""

from functools import partial

import numpy as np

from benchmarks import reading
from benchmarks.step import soft
from benchmarks.training import BATCH, FIGURES, FITS, PEERS, STEPS, difference, timed
from firstlib.distillation.targets import Targets
from firstlib.tasks.encoding import Encoded

PREAMBLE, LONGEST = 36, 128


def targets(count: int) -> list[Targets]:
    """A stored teacher's top 5 on the examples' responses."""
    rng = np.random.default_rng(0)
    preamble = rng.integers(0, reading.VOCABULARY, PREAMBLE).tolist()
    asked = np.clip(rng.normal(26, 8, count), 8, 60).astype(int)
    responses = np.clip(rng.lognormal(3.75, 0.95, count), 2, LONGEST).astype(int)  # many short ones, a few long ones
    return soft(
        [
            Encoded(str(i), preamble + rng.integers(0, reading.VOCABULARY, a + r).tolist(), PREAMBLE + int(a))
            for i, (a, r) in enumerate(zip(asked, responses, strict=True))
        ],
        reading.VOCABULARY,
    )


def parity() -> dict[str, float]:
    """Checks losses and weights of two steps on two layers, beside GKD on the same stored teacher."""
    taught = targets(BATCH * STEPS)
    return {"largest difference": difference(FITS["ours"], taught, FITS["GKD"], taught)}


VARIANTS = {name: partial(timed, fit, False, targets) for name, fit in FITS.items()}
ROWS = [
    (f"135M shape, full, {what}", figure, unit, "ours", name, peer, goal)
    for what, figure, unit, goal in FIGURES
    for name, peer in PEERS.items()
]
