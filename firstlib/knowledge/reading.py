"""Reading examples with a model: the hidden states that predict their responses; a shared prefix is read once.

Prompts often begin alike: with Alpaca's preamble, or with the worked examples of a few-shot prompt. The keys and values
of such a prefix are computed once and every example continues from them (prefix caching, as in vLLM: Kwon et al.
2023, https://arxiv.org/abs/2309.06180). A layer's keys are joined with those of the batch while that layer is computed,
so memory holds the prefix once, however many examples continue from it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from firstlib.models.heads import COMPLAINTS, LanguageModel, agree, body_and_head
from firstlib.runtime.allocator import reuse_freed_memory
from firstlib.tasks.encoding import Encoded, pad

_PROBE, _PROBED = 8, 4  # tokens of the sequence on which both ways are compared, and of its prefix


class Batch(NamedTuple):
    """Examples that are read together; the first `shared` tokens of their prompts are the same."""

    examples: Sequence[Encoded]
    shared: int = 0


class _Continued(DynamicLayer):
    """One layer's keys and values of a prefix, `(1, heads, tokens, size)`, which any number of rows continue."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._prefix = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Returns the prefix's keys and values with those of the rows behind them; keeps only the prefix's."""
        pairs = zip(self._prefix, (key_states, value_states), strict=True)
        keys, values = (torch.cat([kept.expand(len(new), -1, -1, -1), new], -2) for kept, new in pairs)
        return keys, values


class _Prefix(NamedTuple):
    token_ids: list[int]
    cache: DynamicCache

    def continued(self) -> DynamicCache:
        cache = DynamicCache()
        cache.layers.extend(_Continued(keys, values) for keys, values in self._layers())
        return cache

    def copied(self) -> DynamicCache:
        """A cache that grows when it is read on from; this one stays as it is."""
        return DynamicCache(self._layers())

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        layers: list[Any] = self.cache.layers
        return [(layer.keys, layer.values) for layer in layers]


class Reader:
    """Reads batches with one model, and keeps the prefix that the latest ones share."""

    def __init__(self, model: LanguageModel) -> None:
        reuse_freed_memory()
        self.model = model
        self._kept: list[_Prefix] = []  # each is the prefix of the next
        self._continues: bool | None = None

    @torch.inference_mode()
    def response_states(self, batch: Batch) -> Tensor:
        """Returns the hidden states `(M, D)` that predict the examples' M response tokens, example by example."""
        examples, shared = batch
        if shared and not self.keep(examples[0].token_ids[:shared]):
            shared = 0
        hidden = self._read([example.token_ids[shared:-1] for example in examples], self._kept[-1] if shared else None)
        rows = zip(hidden, examples, strict=True)
        return torch.cat([row[e.start - 1 - shared : len(e.token_ids) - 1 - shared] for row, e in rows])

    @torch.inference_mode()
    def keep(self, token_ids: Sequence[int]) -> bool:
        """Reads a prefix, on from an earlier one where it continues that. False: this family's is not kept."""
        if self._continues is None:
            self._continues = _continues_exactly(self)
        wanted = list(token_ids)
        self._kept = [one for one in self._kept if wanted[: len(one.token_ids)] == one.token_ids]
        known = self._kept[-1] if self._kept else _Prefix([], DynamicCache())
        if self._continues and len(known.token_ids) < len(wanted):
            cache = known.copied()
            self._body(wanted[len(known.token_ids) :], cache)
            self._kept.append(_Prefix(wanted, cache))
        return self._continues

    def _body(self, token_ids: list[int], cache: DynamicCache) -> None:
        body, head = body_and_head(self.model)
        body(input_ids=torch.tensor([token_ids], device=head.weight.device), past_key_values=cache, use_cache=True)

    def _read(self, rows: Sequence[Sequence[int]], prefix: _Prefix | None) -> Tensor:
        """Returns the hidden states `(B, T, D)` of rows, after a prefix or from the start."""
        body, head = body_and_head(self.model)
        ids, mask = pad(rows)
        how: dict[str, Any] = {"use_cache": False}
        if prefix:
            mask = torch.cat([mask.new_ones(len(rows), len(prefix.token_ids)), mask], 1)
            how = {"use_cache": True, "past_key_values": prefix.continued()}
        device = head.weight.device
        states: Tensor = body(input_ids=ids.to(device), attention_mask=mask.to(device), **how).last_hidden_state
        return states


def _continues_exactly(reader: Reader) -> bool:
    """Returns whether rows that continue a prefix give the states of whole rows; checked on one short text.

    They do not where a family keeps something else than keys and values of every token.
    """
    size = reader.model.config.get_text_config().vocab_size
    rows = [[i % size for i in range(start, start + length)] for start, length in ((0, _PROBE), (0, _PROBE - 2))]
    whole = reader._read(rows, None)[:, _PROBED:]
    prefix = _Prefix(rows[0][:_PROBED], DynamicCache())
    try:
        reader._body(prefix.token_ids, prefix.cache)
        after = reader._read([row[_PROBED:] for row in rows], prefix)
    except COMPLAINTS:
        return False
    real = torch.arange(whole.shape[1]) < torch.tensor([[len(row) - _PROBED] for row in rows])
    return agree(after[real], whole[real])
