"""Weights between a base model's and a tuned one's, all of them or an adapter's."""

import pytest
import torch

from firstlib.models import loading
from firstlib.models.averaging import average_with_base
from firstlib.settings.schema import Lora


def tuned(spec, folder):
    """Writes weights, or an adapter, that are far from the base model's; returns the folder."""
    model = loading.load_for_training(spec, seed=0)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(folder)
    return folder


def merged(model):
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


@pytest.mark.parametrize(("tuning", "targets"), [("full", ()), ("lora", ()), ("lora", ("embed_tokens", "q_proj"))])
def test_every_weight_lies_a_share_of_the_way(base, tmp_path, tuning, targets):
    spec = base.model_copy(update={"tuning": tuning, "lora": Lora(targets=targets)})
    trained = tuned(spec, tmp_path)
    start = dict(loading.load_base(base).named_parameters())
    end = dict(merged(loading.load_trained(spec, trained)).named_parameters())
    between = merged(average_with_base(spec, trained, 0.3))
    assert any(not torch.equal(start[name], end[name]) for name in start)
    for name, weight in between.named_parameters():
        torch.testing.assert_close(weight, start[name].lerp(end[name], 0.3))


def test_a_share_of_an_adapter_is_saved_and_loaded(base, tmp_path):
    spec = base.model_copy(update={"tuning": "lora"})
    average_with_base(spec, tuned(spec, tmp_path / "tuned"), 0.0).save_pretrained(tmp_path / "averaged")
    ids = torch.tensor([[1, 4, 5]])
    found = loading.load_trained(spec, tmp_path / "averaged")(ids).logits
    torch.testing.assert_close(found, loading.load_base(base)(ids).logits)
