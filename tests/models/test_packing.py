"""Rows without padding give the states and the gradients of padded rows."""

import pytest
import torch
from test_families import FAMILIES, built

from firstlib.models import packing
from firstlib.models.heads import body_and_head

LENGTHS = (6, 11, 3, 11, 1)
# Families whose attention has no such interface, or looks elsewhere than its mask says, read padded rows.
PADDED = {
    "falcon_h1", "recurrent_gemma", "mamba", "mamba2", "bloom", "gemma2", "falcon", "gpt_neo", "gptj", "stablelm",
    "nemotron",
}  # fmt: skip


def batch():
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(3, 40, mask.shape, generator=torch.Generator().manual_seed(3))
    return ids * mask, mask.long()


def by_hand(model, ids, mask):
    body, _ = body_and_head(model)
    rows = zip(ids, mask.sum(1), strict=True)
    return torch.cat([body(input_ids=row[None, :n], use_cache=False).last_hidden_state[0] for row, n in rows])


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_states_of_rows_read_alone(name):
    model = built(name)
    ids, mask = batch()
    with torch.no_grad(), packing.packs(model) as packed:
        torch.testing.assert_close(packing.states_of(model, ids, mask), by_hand(model, ids, mask), rtol=1e-4, atol=2e-5)
    assert packed == (name not in PADDED)
    assert model.config._attn_implementation != packing.ATTENTION


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen2_moe", "phi3"])
def test_gradients_are_those_of_padded_rows_with_checkpointing_too(name):
    model = built(name)
    ids, mask = batch()

    def gradients():
        model.zero_grad()
        packing.states_of(model, ids, mask).square().sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    with packing.packs(model) as packed:
        assert packed
        plain = gradients()
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        checkpointed = gradients()
    for name, gradient in expected.items():
        torch.testing.assert_close(plain[name], gradient, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(checkpointed[name], plain[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gemma3_text", "cohere2", "mistral"])
def test_a_window_shorter_than_the_rows_is_kept_to(name, monkeypatch):
    monkeypatch.setitem(FAMILIES, name, {**FAMILIES[name], "sliding_window": 4})
    model = built(name)
    ids, mask = batch()
    with torch.no_grad(), packing.packs(model) as packed:
        found = packing.states_of(model, ids, mask)
    assert packed
    with torch.no_grad():
        torch.testing.assert_close(found, by_hand(model, ids, mask), rtol=1e-4, atol=2e-5)


def test_within_it_the_model_itself_reads_as_before():
    model = built("llama")
    ids, mask = batch()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        with packing.packs(model):
            torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, expected)
