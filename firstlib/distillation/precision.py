"""`mixed_precision: auto`: which number format trains faster here, found by a short trial before training.

A processor without instructions for bfloat16 emulates it, several times slower than float32; one that has them, or a
GPU, is faster with it. float16 is not tried, because it needs a scaled loss.
"""

import time
from collections.abc import Callable

import torch

from firstlib.models.heads import LanguageModel, body_and_head

FORMATS = ("no", "bf16")
EXAMPLES = 4  # in the batch of the trial: enough to tell the formats apart, few enough for a large model
SECONDS, PASSES = 3.0, 3  # of each format's trial, whichever ends first, after one pass to warm up


def try_formats(model: LanguageModel, loss: Callable[[], torch.Tensor]) -> dict[str, float]:
    """Returns the seconds of a forward and backward pass in each format; gradients and random states are left alone.

    Args:
        model: Ready to be trained, on the device that trains it.
        loss: Computes the loss of one batch.
    """
    kind = body_and_head(model)[1].weight.device.type
    devices = [torch.cuda.current_device()] if kind == "cuda" else []
    with torch.random.fork_rng(devices):
        return {name: _seconds(model, loss, kind, name == "bf16") for name in FORMATS}


def _seconds(model: LanguageModel, loss: Callable[[], torch.Tensor], kind: str, half: bool) -> float:
    def one_pass() -> float:
        started = time.perf_counter()
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        model.zero_grad()
        if kind == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    one_pass()
    found: list[float] = []
    while len(found) < PASSES and sum(found) < SECONDS:
        found.append(one_pass())
    return min(found)
