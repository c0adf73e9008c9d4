"""Rows without padding, their shared prefixes read once, give the states and the gradients of padded rows."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


def alike():
    """Five rows: the first three begin with the same four tokens, and the last is the second once more."""
    ids, mask = batch()
    ids[1:3, :4] = ids[0, :4]
    ids[4], mask[4] = ids[1], mask[1]
    return ids * mask, mask


def by_hand(model, ids, mask):
    body, _ = body_and_head(model)
    rows = zip(ids, mask.sum(1), strict=True)
    return torch.cat([body(input_ids=row[None, :n], use_cache=False).last_hidden_state[0] for row, n in rows])


@pytest.mark.parametrize("rows", [batch, alike])
@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_states_of_rows_read_alone(name, rows):
    model = built(name)
    ids, mask = rows()
    with torch.no_grad(), packing.packs(model) as packed:
        torch.testing.assert_close(packing.states_of(model, ids, mask), by_hand(model, ids, mask), rtol=1e-4, atol=2e-5)
    assert packed == (name not in PADDED)
    assert model.config._attn_implementation != packing.ATTENTION


@pytest.mark.parametrize("rows", [batch, alike])
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen2_moe", "phi3"])
def test_gradients_are_those_of_padded_rows_with_checkpointing_too(name, rows):
    model = built(name)
    ids, mask = rows()
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5))[mask.bool()]

    def gradients():
        model.zero_grad()
        (packing.states_of(model, ids, mask).square().sum(1) * weights).sum().backward()
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


def test_a_prefix_that_rows_share_is_read_once():
    model = built("llama")
    ids, mask = alike()
    read = []
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, states: read.append(states.shape[1]))
    with torch.no_grad(), packing.packs(model):
        read.clear()
        packing.states_of(model, ids, mask)
        assert read == [6 + (11 - 4) + 11]  # all tokens of the third and the last row are other rows' too


def test_a_prefix_of_few_tokens_is_read_with_each_row():
    model = built("llama")
    ids, mask = batch()
    ids[:, 0] = 7
    read = []
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, states: read.append(states.shape[:2]))
    with torch.no_grad(), packing.packs(model):
        for rows in (slice(0, 2), slice(0, 5)):  # of 17 tokens 16 would be left, and of 32 tokens 28
            packing.states_of(model, ids[rows], mask[rows])
    assert [tuple(shape) for shape in read[-2:]] == [(1, 17), (1, 28)]


def test_gradients_of_a_shared_token_add_up_in_float32(monkeypatch):
    select, seen = torch.Tensor.index_select, []
    monkeypatch.setattr(torch.Tensor, "index_select", lambda x, *how: (seen.append(x.dtype), select(x, *how))[1])
    ids = torch.full((400, 1), 7)
    token = torch.ones(1, 1, 1, 2, dtype=torch.bfloat16, requires_grad=True)
    packing.Rows.of(ids, torch.ones_like(ids)).unpacked(token).sum().backward()
    assert token.grad.flatten().tolist() == [400, 400]  # in bfloat16, 256 + 1 is 256
    assert seen == [torch.float32]  # the CPU adds up exactly anyway


def test_the_states_wanted_are_those_of_all():
    model = built("llama")
    ids, mask = alike()
    wanted = (torch.arange(ids.shape[1]) % 3 == 0) & mask.bool()
    with torch.no_grad():
        for reading in nullcontext(), packing.packs(model):  # padded, and packed
            with reading:
                every = packing.states_of(model, ids, mask)
                torch.testing.assert_close(packing.states_of(model, ids, mask, wanted), every[wanted[mask.bool()]])


@pytest.mark.parametrize(("where", "rate"), [("layer", 0.1), ("layer", 0.0), ("attention", 0.1)])
def test_with_dropout_each_row_reads_its_own_tokens(where, rate):
    model = built("llama")
    if where == "layer":
        model.model.layers[0].mlp.down_proj = torch.nn.Sequential(
            model.model.layers[0].mlp.down_proj, torch.nn.Dropout(rate)
        )
    else:
        model.config.attention_dropout = rate
    ids, mask = alike()
    read = []
    model.model.layers[0].mlp.register_forward_hook(lambda _, __, states: read.append(states.shape[1]))
    for training in (True, False):
        model.train(training)
        with torch.no_grad(), packing.packs(model):
            read.clear()
            packing.states_of(model, ids, mask)
            assert read == [int(mask.sum()) if training and rate else 24]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=7), st.booleans())
def test_places_share_a_token_where_their_prefixes_are_the_same(rows, share):
    length = max(map(len, rows))
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    found = packing.Rows.of(ids, mask, share)
    tokens = found.tokens.reshape(mask.shape)
    prefixes = {}
    for number, row in enumerate(rows):
        for end in range(1, len(row) + 1):
            own = None if share else number
            prefixes.setdefault((own, *row[:end]), set()).add(int(tokens[number, end - 1]))
    assert all(len(those) == 1 for those in prefixes.values())
    assert sorted(*zip(*map(tuple, prefixes.values()), strict=True)) == list(range(len(found.places)))
    assert ids.flatten()[found.places][tokens[mask.bool()]].tolist() == ids[mask.bool()].tolist()
