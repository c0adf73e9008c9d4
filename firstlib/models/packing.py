"""Rows of different lengths, read as one row without padding.

Everything in a decoder but attention works token by token. So the rows' real tokens are put one after the other, and
only attention, where tokens of one row meet, unpacks them into `(B, T)` and packs its result again. Flash-attention's
variable-length kernels do the same; this needs nothing but torch, so it also works on a CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from firstlib.models.heads import COMPLAINTS, LanguageModel, agree, body_and_head, causal_model

ATTENTION = "packed_rows"
MOST_PADDING = 0.1  # share of a batch: with less, unpacking for attention costs what packing saves
_LENGTHS = (8, 5)  # of the rows on which packed and padded reading are compared


@dataclass(frozen=True)
class Rows:
    """Where the N tokens of a packed row belong."""

    shape: tuple[int, int]  # B rows of at most T tokens
    places: Tensor  # (N,), in B x T

    @classmethod
    def of(cls, mask: Tensor) -> "Rows":
        """Takes a mask `(B, T)` that is 1 for tokens, with padding on the right."""
        return cls((mask.shape[0], mask.shape[1]), mask.flatten().nonzero()[:, 0])

    def unpacked(self, packed: Tensor) -> Tensor:
        """Returns `(1, H, N, D)` as `(B, H, T, D)`; padding, which only follows what attends, is 0."""
        heads, size = packed.shape[1], packed.shape[3]
        padded = packed.new_zeros(self.shape[0] * self.shape[1], heads, size)
        return padded.index_copy(0, self.places, packed[0].transpose(0, 1)).unflatten(0, self.shape).transpose(1, 2)

    def packed(self, states: Tensor) -> Tensor:
        """Returns `(B, T, ...)` as `(1, N, ...)`."""
        return states.flatten(0, 1).index_select(0, self.places)[None]


def states_of(model: LanguageModel, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Returns the last hidden states `(N, D)` of the tokens `(B, T)` that the mask marks, row by row.

    Inside `packs`, a batch with much padding is read packed; otherwise rows are read with their padding.
    """
    body, _ = body_and_head(model)
    packing = causal_model(model).config.get_text_config()._attn_implementation == ATTENTION
    if not packing or mask.float().mean() >= 1 - MOST_PADDING:
        padded: Tensor = body(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        return padded[mask.bool()]
    rows = Rows.of(mask)
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    found = body(
        input_ids=rows.packed(input_ids), position_ids=rows.packed(positions), use_cache=False, rows=rows,
        attention_mask=torch.zeros(1, 1, 1, 1, device=mask.device),  # any: a mask of four dimensions is not replaced
    )  # fmt: skip
    states: Tensor = found.last_hidden_state[0]
    return states


@contextmanager
def packs(model: LanguageModel) -> Iterator[bool]:
    """Within it, `states_of` packs rows, if the model's family gives the same states so; yields whether it does."""
    inner = causal_model(model)
    before = inner.config._attn_implementation
    suited = before == "sdpa" and inner._supports_flash_attn  # such families put their patterns into no mask
    try:
        if suited:
            expected = _probe(model)
            inner.set_attn_implementation(ATTENTION)
            if not _gives(model, expected):
                inner.set_attn_implementation(before)
        yield inner.config._attn_implementation == ATTENTION
    finally:
        if suited:
            inner.set_attn_implementation(before)


@torch.no_grad()
def _probe(model: LanguageModel) -> Tensor:
    """The states of two short rows."""
    device = body_and_head(model)[1].weight.device
    mask = (torch.arange(max(_LENGTHS)) < torch.tensor(_LENGTHS)[:, None]).long().to(device)
    ids = torch.arange(mask.numel(), device=device).reshape(mask.shape)
    training = model.training
    model.eval()
    try:
        return states_of(model, ids % causal_model(model).config.get_text_config().vocab_size, mask)
    finally:
        model.train(training)


def _gives(model: LanguageModel, expected: Tensor) -> bool:
    try:
        return agree(_probe(model), expected)
    except COMPLAINTS:
        return False


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention within each row; the interface is transformers'. Without `rows` it is transformers' own."""
    rows = options.pop("rows", None)
    if rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if unknown:
        raise ValueError(f"packed rows do not know {', '.join(unknown)}")
    repeats = query.shape[1] // key.shape[1]
    query, key, value = (rows.unpacked(part) for part in (query, repeat_kv(key, repeats), repeat_kv(value, repeats)))
    band = _band(options.get("sliding_window"), query)
    found = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, band, options.get("dropout", 0.0), is_causal=band is None, scale=options.get("scaling")
    )
    return rows.packed(found.transpose(1, 2)), None


def _band(window: int | None, query: Tensor) -> Tensor | None:
    """What each token sees where a window is shorter than the rows; None: all tokens before it."""
    length = query.shape[2]
    if not window or window >= length:
        return None
    every = torch.ones(length, length, dtype=torch.bool, device=query.device)
    return every.tril() & every.triu(1 - window)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
