"""A training step of SmolLM2-135M's shape under autocast to bfloat16, beside the same peers.

Weights and optimiser stay in float32. A processor without instructions for bfloat16 emulates it, several times slower.
"""

from functools import partial

from benchmarks.training import BATCH, FIGURES, FITS, PEERS, STEPS, difference, targets, timed

IN_BFLOAT16 = {name: partial(fit, bfloat16=True) for name, fit in FITS.items()}
ROUNDING = 0.02  # nats of a loss of ten


def parity() -> dict[str, float]:
    """Checks losses and weights of two steps on two layers, beside GKD on the same stored teacher."""
    taught = targets(BATCH * STEPS)
    return {"largest difference": difference(IN_BFLOAT16["ours"], taught, IN_BFLOAT16["GKD"], taught, ROUNDING)}


VARIANTS = {name: partial(timed, fit, False) for name, fit in IN_BFLOAT16.items()}
ROWS = [
    (f"135M shape, full, {'bfloat16' if unit == 'tokens/s' else what}", figure, unit, "ours", name, peer, goal)
    for what, figure, unit, goal in FIGURES
    for name, peer in PEERS.items()
]
