"""Rows of different lengths, read as one row without padding, in which a prefix that rows share is read once.

Everything in a decoder but attention works token by token. So the rows' real tokens are put one after the other, and
only attention, where tokens of one row meet, unpacks them into `(B, T)` and packs its result again. Flash-attention's
variable-length kernels do the same; this needs nothing but torch, so it also works on a CPU.

A token's state depends only on the tokens up to it. Where rows begin alike, as prompts with one preamble do, one token
stands for those of all rows, and its gradient is the sum of theirs.
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
MOST_PACKED = 0.9  # of B x T after packing, and of the tokens after sharing: with more, unpacking costs what is saved
_LENGTHS = (8, 5)  # of the rows on which packed and padded reading are compared


@dataclass(frozen=True)
class Rows:
    """Where the N tokens of a packed row belong.

    Attributes:
        shape: B rows of at most T tokens.
        places: `(N,)`, the place in B x T where each token is taken from.
        tokens: `(B x T,)`, which of the N tokens stands at each place; at padding, any.
    """

    shape: tuple[int, int]
    places: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor, share: bool = True) -> "Rows":
        """Takes token ids `(B, T)` and a mask that is 1 for tokens, with padding on the right.

        >>> mask = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]])
        >>> rows = Rows.of(torch.tensor([[5, 6, 7], [5, 6, 8], [5, 9, 0]]), mask)
        >>> rows.places, rows.tokens  # 5, 6, 7 of the first row, 8 of the second, 9 of the third
        (tensor([0, 1, 2, 5, 7]), tensor([0, 1, 2, 0, 1, 3, 0, 4, 0]))
        """
        device, ids, mask = mask.device, ids.cpu(), mask.cpu()  # a few integers; not every device can sort rows
        here = torch.arange(mask.numel()).reshape(mask.shape)
        place = _shared_places(ids.masked_fill(mask == 0, -1)) if share else here
        taken = ((place == here) & mask.bool()).flatten()
        tokens = (taken.cumsum(0) - 1)[place] * mask
        return cls((mask.shape[0], mask.shape[1]), taken.nonzero()[:, 0].to(device), tokens.flatten().to(device))

    def unpacked(self, packed: Tensor) -> Tensor:
        """Returns `(1, H, N, D)` as `(B, H, T, D)`; padding, which only follows what attends, is any token."""
        exact = torch.promote_types(packed.dtype, torch.float32)  # some devices add gradients in the type selected from
        found = packed[0].transpose(0, 1).to(exact).index_select(0, self.tokens).to(packed.dtype)
        return found.unflatten(0, self.shape).transpose(1, 2)

    def packed(self, states: Tensor) -> Tensor:
        """Returns `(B, T, ...)` as `(1, N, ...)`."""
        return states.flatten(0, 1).index_select(0, self.places)[None]


def _shared_places(ids: Tensor) -> Tensor:
    """For each place of `(B, T)` one in B x T, the same for all rows that are alike up to there."""
    rows, row_of = torch.unique(ids, dim=0, return_inverse=True)  # in lexicographic order: alike rows are neighbours
    alike = torch.zeros_like(rows)
    alike[1:] = (rows[1:] == rows[:-1]).cumprod(1)
    stands_for = torch.where(alike == 1, 0, torch.arange(len(rows))[:, None]).cummax(0).values
    first = torch.zeros(len(rows), dtype=torch.long).scatter_reduce(
        0, row_of, torch.arange(len(ids)), "amin", include_self=False
    )
    return (first[stands_for] * ids.shape[1] + torch.arange(ids.shape[1]))[row_of]


def states_of(model: LanguageModel, input_ids: Tensor, mask: Tensor, wanted: Tensor | None = None) -> Tensor:
    """Returns the last hidden states `(M, D)` of the tokens `(B, T)` that `wanted` marks, row by row; None: all.

    Inside `packs`, a batch with much padding, or with shared prefixes, is read packed; otherwise rows are read with
    their padding.
    """
    body, _ = body_and_head(model)
    wanted = (mask if wanted is None else wanted).bool()
    if causal_model(model).config.get_text_config()._attn_implementation == ATTENTION:
        rows = _rows(input_ids, mask, share=not _drops_out(model))
        if len(rows.places) < MOST_PACKED * mask.numel():
            return _packed_states(body, input_ids, mask, rows).index_select(0, rows.tokens[wanted.flatten()])
    padded: Tensor = body(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
    return padded[wanted]


def _rows(input_ids: Tensor, mask: Tensor, share: bool) -> Rows:
    rows = Rows.of(input_ids, mask, share)
    pays = len(rows.places) < MOST_PACKED * int(mask.sum())
    return rows if pays or not share else Rows.of(input_ids, mask, share=False)


def _packed_states(body: torch.nn.Module, input_ids: Tensor, mask: Tensor, rows: Rows) -> Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    found = body(
        input_ids=rows.packed(input_ids), position_ids=rows.packed(positions), use_cache=False, rows=rows,
        attention_mask=torch.zeros(1, 1, 1, 1, device=mask.device),  # any: a mask of four dimensions is not replaced
    )  # fmt: skip
    states: Tensor = found.last_hidden_state[0]
    return states


def _drops_out(model: LanguageModel) -> bool:
    """Whether dropout is on: then each row draws its own, and nothing may be shared."""
    if not model.training:
        return False
    config = causal_model(model).config.get_text_config()
    layers = (layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout))
    return bool(getattr(config, "attention_dropout", 0)) or any(layers)


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
