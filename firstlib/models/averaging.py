"""Weights between a base model's and a tuned one's, without training."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model


@torch.no_grad()
def average_with_base(model: Model, trained: Path, share: float) -> PreTrainedModel:
    """Returns a model with the weights base + share (tuned - base), ready to be asked.

    Between the two, calibration is often better than at either end at little cost in accuracy:
    https://arxiv.org/abs/2510.17426.

    Args:
        model: The base model's settings.
        trained: Folder of the tuned weights.
        share: 0 gives the base model, 1 the tuned one.

    Raises:
        UserError: The model was tuned by adapters.
    """
    if model.tuning != "full":
        raise UserError("afterwards: base-weights averages all weights, and an adapter has its own; use tuning: full")
    averaged, tuned = loading.load_base(model), loading.load_trained(model, trained)
    for weight, other in zip(averaged.parameters(), tuned.parameters(), strict=True):
        weight.lerp_(other, share)
    return averaged.eval()
