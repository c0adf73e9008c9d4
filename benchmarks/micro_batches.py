"""A training step of SmolLM2-135M's shape, at once and in micro-batches of eight: tokens per second and peak memory.

The steps are the same: gradients of micro-batches are added. What waits for the backward pass is a quarter.
"""

from functools import partial

from benchmarks.training import BATCH, STEPS, difference, ours, targets, variants

PARTS, PEER = 8, f"ours, {BATCH} examples at once"
WAYS = {"at once": ours, "in parts": partial(ours, micro_batch_size=PARTS)}
VARIANTS = variants(WAYS)
ROWS = [
    (f"of {PARTS}, 135M shape, {kind}, {what}", figure, unit, f"in parts, {kind}", f"at once, {kind}", PEER, "")
    for kind in ("full", "LoRA")
    for what, figure, unit in (("float32", "rate", "tokens/s"), ("peak above the model", "MiB", "MiB"))
]


def parity() -> dict[str, float]:
    """Checks losses and weights of two steps on two layers."""
    taught = targets(BATCH * STEPS)
    return {"largest difference": difference(WAYS["at once"], taught, WAYS["in parts"], taught)}
