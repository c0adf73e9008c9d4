"""Taking a teacher's top-k: one forward pass, the output head on response positions only, a few of them at a time.

The head is large: some of its rows after the others are applied to many positions, so that it is read once. The logits
are worked on a block at a time, small enough to stay in the processor's cache: then the exponentials cost little beside
the product that made the logits, even at several temperatures.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from firstlib.knowledge.top_k import TopK
from firstlib.models.loading import LanguageModel, body_and_head, head_has_rows, logits_of
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps
from firstlib.runtime.sequences import select
from firstlib.tasks.encoding import Encoded, longest_first, pad

CHUNK = 2**24  # logits held at once, in numbers: enough rows that reading the head does not dominate
BLOCK = 2**19  # logits worked on at once: 2 MiB, about a core's cache
NARROWEST = 2**14  # rows of the head taken at once, at least
LOWEST = torch.finfo(torch.float32).min  # stands for the highest of logits that are all minus infinity
TILE = 256  # columns of which only the highest is looked at first, in the search for the top k
PADDING = 0.9  # a batch's shortest example is at least this share of its longest


class Found(NamedTuple):
    """The top k of N positions: a `TopK` in tensors, without its names."""

    token_ids: Tensor  # (N, K)
    probabilities: Tensor  # (N, K)
    residual: Tensor  # (N,)
    log_normalisers: Tensor  # (N, G)


_Rows = TypeVar("_Rows", "Found", "_Part")


def extract_top_k(
    model: LanguageModel,
    encoded: Sequence[Encoded],
    k: int,
    batch: int = 64,
    *,
    temperatures: Sequence[float] = (1.0,),
    vocabulary: int | None = None,
    autocast: torch.dtype | None = None,
    known: Collection[str] = (),
) -> Iterator[TopK]:
    """The model's top-k at every response position, teacher-forced, longest examples first.

    Args:
        model: teacher; its own scaling and soft-capping of logits are respected.
        encoded: examples; only the positions of their responses are kept.
        k: tokens to keep at a position.
        batch: examples at a time, at most; those of one batch are of about the same length.
        temperatures: where the log of the normaliser is kept too, G of them.
        vocabulary: rows of the head that are tokens (default: all); the padding after them gets no mass.
        autocast: type of the matrix products, where it is not the model's own.
        known: ids of examples that an earlier try has done. The batches are the same without them, and so every bit.

    Raises:
        ValueError: k is larger than the vocabulary, or a temperature is not positive.
    """
    rows = body_and_head(model)[1].weight.shape[0] if vocabulary is None else vocabulary
    if not 0 < k <= rows:
        raise ValueError(f"k = {k}, but the vocabulary has {rows} tokens")
    if not all(t > 0 for t in temperatures):
        raise ValueError(f"temperatures must be above 0, not {list(temperatures)}")
    with steps("extracting", len(encoded)) as at:
        done = 0
        for examples in batches_by_length(encoded, batch):
            if not all(example.id in known for example in examples):
                with _precision(model, autocast):
                    found = _of_batch(model, examples, k, temperatures, rows)
                parts = _split(examples, *(part.cpu().numpy() for part in found))
                yield from (item for item in parts if item.example_id not in known)
            done += len(examples)
            at(done)


def batches_by_length(encoded: Sequence[Encoded], largest: int) -> Iterator[list[Encoded]]:
    """Longest first; a batch ends where padding would begin to cost (the order never depends on the input's)."""
    group: list[Encoded] = []
    for example in select(encoded, longest_first(encoded)):
        if group and (len(group) == largest or len(example.token_ids) < PADDING * len(group[0].token_ids)):
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def _precision(model: LanguageModel, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(model.device.type, dtype=dtype)


@torch.inference_mode()
def _of_batch(
    model: LanguageModel, examples: Sequence[Encoded], k: int, temperatures: Sequence[float], vocabulary: int
) -> Found:
    body, head = body_and_head(model)
    ids, mask = pad([example.token_ids for example in examples])
    device = head.weight.device
    hidden = body(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
    kept = torch.zeros_like(ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        kept[row, example.start - 1 : len(example.token_ids) - 1] = True
    narrowest = min(vocabulary, NARROWEST) if head_has_rows(model) else vocabulary
    positions = hidden[kept.to(device)].split(max(1, CHUNK // narrowest))
    return _joined([_of_positions(model, some, k, temperatures, vocabulary) for some in positions])


def _of_positions(
    model: LanguageModel, hidden: Tensor, k: int, temperatures: Sequence[float], vocabulary: int
) -> Found:
    """Some rows of the head after the others, for all the positions: so each is read once, and logits stay few."""
    width = max(NARROWEST, CHUNK // len(hidden)) if head_has_rows(model) else vocabulary
    parts = (
        _of_columns(logits_of(model, hidden, first, min(first + width, vocabulary)), first, k, temperatures)
        for first in range(0, vocabulary, width)
    )
    return _finished(reduce(partial(_merged, k=k, temperatures=temperatures), parts), temperatures)


def top_k_of_logits(logits: Tensor, k: int, temperatures: Sequence[float] = (1.0,)) -> Found:
    """The top k of logits `(N, V)`, with the mass of the others and the log normaliser at each temperature.

    >>> top_k_of_logits(torch.tensor([[0.5, 0.3, 0.2]]).log(), 2).probabilities
    tensor([[0.5000, 0.3000]])

    Raises:
        UserError: A logit is NaN or infinitely high.
    """
    return _finished(_of_columns(logits, 0, k, temperatures), temperatures)


class _Part(NamedTuple):
    """What is known of N positions from a part of the vocabulary; sums are of exponentials below the highest logit."""

    values: Tensor  # (N, K) the highest logits
    token_ids: Tensor  # (N, K)
    highest: Tensor  # (N, 1)
    others: Tensor  # (N, 1) the sum over all but those
    sums: Tensor  # (N, G) the sum over all at each temperature; where that is 1, it follows from the rest


def _of_columns(logits: Tensor, first: int, k: int, temperatures: Sequence[float]) -> _Part:
    rows = max(1, BLOCK // logits.shape[1])
    scratch = torch.empty_like(logits[:rows])
    return _joined([_of_block(block, first, k, temperatures, scratch[: len(block)]) for block in logits.split(rows)])


def _of_block(logits: Tensor, first: int, k: int, temperatures: Sequence[float], scratch: Tensor) -> _Part:
    values, ids = top_of_tiles(logits, min(k, logits.shape[1]))
    highest = values[:, :1].clamp(min=LOWEST)
    others = torch.sub(logits, highest, out=scratch).exp_().scatter_(1, ids, 0).sum(1, keepdim=True)
    sums = [others if t == 1 else _sum_at(t, logits, highest, scratch) for t in temperatures]
    return _Part(values, ids + first, highest, others, torch.cat([*sums, highest[:, :0]], 1))


def _sum_at(temperature: float, logits: Tensor, highest: Tensor, scratch: Tensor) -> Tensor:
    return torch.sub(logits, highest, out=scratch).mul_(1 / temperature).exp_().sum(1, keepdim=True)


def _merged(a: _Part, b: _Part, k: int, temperatures: Sequence[float]) -> _Part:
    """Two parts of the vocabulary as one: a token that falls out of the top k becomes one of the others."""
    values, ids = torch.cat([a.values, b.values], 1), torch.cat([a.token_ids, b.token_ids], 1)
    top = values.topk(min(k, values.shape[1]), dim=1)
    highest = torch.maximum(a.highest, b.highest)
    fallen = (values - highest).exp().scatter_(1, top.indices, 0).sum(1, keepdim=True)
    others = sum((part.others * (part.highest - highest).exp() for part in (a, b)), start=fallen)
    scale = torch.tensor(temperatures, device=highest.device)
    sums = sum(
        (part.sums * ((part.highest - highest) / scale).exp() for part in (a, b)), start=torch.zeros_like(a.sums)
    )
    return _Part(top.values, ids.gather(1, top.indices), highest, others, sums)


def _finished(part: _Part, temperatures: Sequence[float]) -> Found:
    top = (part.values - part.highest).exp()
    total = part.others + top.sum(1, keepdim=True)
    if not (total > 0).all():  # NaN is not, nor is anything where every logit is minus infinity
        raise UserError("the model gives logits that are no numbers; look at its weights, or choose another dtype")
    sums = [total if t == 1 else part.sums[:, [i]] for i, t in enumerate(temperatures)]
    normalisers = [s.log() + part.highest / t for s, t in zip(sums, temperatures, strict=True)]
    log_normalisers = torch.cat([*normalisers, total[:, :0]], 1)
    return Found(part.token_ids, top / total, (part.others / total).squeeze(1), log_normalisers)


def top_of_tiles(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What `logits.topk(k)` gives, for a small k much sooner: the top k lie in the k tiles with the highest maxima.

    >>> top_of_tiles(torch.tensor([[3.0, 1.0, 2.0]]), 2)[1]
    tensor([[0, 2]])
    """
    n, vocabulary = logits.shape
    tiles = vocabulary // TILE
    if tiles < 4 * k:
        top = logits.topk(k, dim=1)
        return top.values, top.indices
    whole, rest = logits[:, : tiles * TILE].unflatten(1, (tiles, TILE)), logits[:, tiles * TILE :]
    best = whole.amax(2).topk(k, dim=1).indices
    columns = (best[:, :, None] * TILE + torch.arange(TILE, device=logits.device)).flatten(1)
    columns = torch.cat([columns, torch.arange(tiles * TILE, vocabulary, device=logits.device).expand(n, -1)], 1)
    top = torch.cat([logits.gather(1, columns[:, : k * TILE]), rest], 1).topk(k, dim=1)
    return top.values, columns.gather(1, top.indices)


def _joined(parts: Sequence[_Rows]) -> _Rows:
    return parts[0] if len(parts) == 1 else type(parts[0])(*map(torch.cat, zip(*parts, strict=True)))


def _split(examples: Sequence[Encoded], *parts: np.ndarray) -> Iterator[TopK]:
    end = 0
    for example in examples:
        position = np.arange(example.start, len(example.token_ids))
        rows = slice(end, end := end + len(position))
        yield TopK(example.id, position, *(part[rows] for part in parts))
