"""Weights between a base model's and a tuned one's, without training."""

from pathlib import Path

import torch

from firstlib.models import loading
from firstlib.models.heads import LanguageModel
from firstlib.settings.schema import Model


@torch.no_grad()
def average_with_base(model: Model, trained: Path, share: float) -> LanguageModel:
    """Returns a model with the weights base + share (tuned - base), ready to be asked.

    An adapter adds a product of two matrices to the base model's weights, so its second matrix is multiplied by the
    share, and the base model stays as it is, in 4 bits too.

    Between the two, calibration is often better than at either end at little cost in accuracy:
    https://arxiv.org/abs/2510.17426.

    Args:
        model: The base model's settings.
        trained: Folder of the tuned weights, or of the adapter.
        share: 0 gives the base model, 1 the tuned one.
    """
    tuned = loading.load_trained(model, trained)
    if model.tuning == "full":
        for weight, base in zip(tuned.parameters(), loading.load_base(model).parameters(), strict=True):
            weight.copy_(torch.lerp(base, weight, share))
    else:
        for name, weight in tuned.named_parameters():
            if ".lora_B." in name or ".lora_embedding_B." in name:
                weight.mul_(share)
    return tuned
