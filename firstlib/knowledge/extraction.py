"""Extraction of a teacher's top-k: one forward pass; the output head is applied to response positions only, in chunks.

The head is large, so each block of its rows is applied to many positions before the next block is read. Logits are
processed in blocks that fit the processor's cache: the exponentials then cost little compared with the matrix product
that made the logits, even at several temperatures.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from firstlib.knowledge.batches import batches_by_length
from firstlib.knowledge.reading import Batch, Reader
from firstlib.knowledge.top_k import TopK
from firstlib.models.heads import LanguageModel, body_and_head, head_has_rows, logits_of
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps
from firstlib.tasks.encoding import Encoded

CHUNK = 2**24  # logits in memory at once: enough positions that reading the head does not dominate
BLOCK = 2**19  # logits processed at once: 2 MiB, about a core's cache
MIN_HEAD_ROWS = 2**14  # rows of the head applied at once, at least
LOWEST_LOGIT = torch.finfo(torch.float32).min  # replaces the highest logit if all logits are minus infinity
TILE = 256  # columns per tile in the search for the top k


class TopKTensors(NamedTuple):
    """The top k of N positions: the fields of `TopK`, without id and positions, as tensors."""

    token_ids: Tensor  # (N, K)
    probabilities: Tensor  # (N, K)
    residual: Tensor  # (N,)
    log_normalisers: Tensor  # (N, G)


_Tensors = TypeVar("_Tensors", "TopKTensors", "_Partial")


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
    """Yields the model's top-k at every response position under teacher forcing, longest examples first.

    Args:
        model: The teacher; its own logit scaling and soft-capping apply.
        encoded: The examples; only positions of their responses are extracted.
        k: Tokens to keep per position.
        batch: Maximum number of examples per batch; the examples of a batch have similar lengths.
        temperatures: G temperatures at which log normalisers are kept.
        vocabulary: Number of rows of the head that are tokens (default: all); padding rows after them get no mass.
        autocast: Type of the matrix products (default: the model's own).
        known: Ids of examples that an earlier attempt extracted. They are omitted, but batches are formed as if they
            were not, so results are identical bit for bit.

    Raises:
        ValueError: k is not between 1 and the size of the vocabulary, or a temperature is not positive; raised by
            the call itself.
        UserError: A logit is NaN or plus infinity; raised during iteration.
    """
    rows = body_and_head(model)[1].weight.shape[0] if vocabulary is None else vocabulary
    if not 0 < k <= rows:
        raise ValueError(f"k = {k}, but the vocabulary has {rows} tokens")
    if not all(t > 0 for t in temperatures):
        raise ValueError(f"temperatures must be above 0, not {list(temperatures)}")

    reader = Reader(model)

    def top_k_of(batch: Batch) -> TopKTensors:
        with _precision(model, autocast):
            return _top_k_of_batch(reader, batch, k, temperatures, rows)

    return extract_with(top_k_of, encoded, batch, known)


def extract_with(
    top_k_of: Callable[[Batch], TopKTensors], encoded: Sequence[Encoded], largest: int, known: Collection[str]
) -> Iterator[TopK]:
    """Yields what `top_k_of` returns for batches of similar length, by example; examples in `known` are omitted."""
    with steps("extracting", len(encoded)) as at:
        done = 0
        for batch in batches_by_length(encoded, largest):
            if not all(example.id in known for example in batch.examples):
                items = _by_example(batch.examples, *(tensor.cpu().numpy() for tensor in top_k_of(batch)))
                yield from (item for item in items if item.example_id not in known)
            done += len(batch.examples)
            at(done)


def _precision(model: LanguageModel, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(model.device.type, dtype=dtype)


@torch.inference_mode()
def _top_k_of_batch(
    reader: Reader, batch: Batch, k: int, temperatures: Sequence[float], vocabulary: int
) -> TopKTensors:
    model = reader.model
    fewest_rows = min(vocabulary, MIN_HEAD_ROWS) if head_has_rows(model) else vocabulary
    chunks = reader.response_states(batch).split(max(1, CHUNK // fewest_rows))
    return _concatenate([_top_k_of_hidden(model, chunk, k, temperatures, vocabulary) for chunk in chunks])


def _top_k_of_hidden(
    model: LanguageModel, hidden: Tensor, k: int, temperatures: Sequence[float], vocabulary: int
) -> TopKTensors:
    """Applies blocks of the head's rows, each to all positions `(N, D)`: each row is read once, and logits stay few."""
    width = max(MIN_HEAD_ROWS, CHUNK // len(hidden)) if head_has_rows(model) else vocabulary
    partials = (
        _partial_of_logits(logits_of(model, hidden, first, min(first + width, vocabulary)), first, k, temperatures)
        for first in range(0, vocabulary, width)
    )
    return _normalise(reduce(partial(_merge, k=k, temperatures=temperatures), partials), temperatures)


def top_k_of_logits(logits: Tensor, k: int, temperatures: Sequence[float] = (1.0,)) -> TopKTensors:
    """Returns the top k of logits `(N, V)`, the residual mass, and the log normalisers at each temperature, in nats.

    >>> top_k_of_logits(torch.tensor([[0.5, 0.3, 0.2]]).log(), 2).probabilities
    tensor([[0.5000, 0.3000]])

    Raises:
        UserError: A logit is NaN or plus infinity, or all logits of a position are minus infinity.
    """
    return _normalise(_partial_of_logits(logits, 0, k, temperatures), temperatures)


class _Partial(NamedTuple):
    """Top-k and sums of N positions over part of the vocabulary; sums are of exp(logit - highest logit)."""

    values: Tensor  # (N, K) the highest logits
    token_ids: Tensor  # (N, K)
    highest: Tensor  # (N, 1)
    others: Tensor  # (N, 1) sum over all tokens outside the top k
    sums: Tensor  # (N, G) sum over all tokens at each temperature; at temperature 1 unused: `_normalise` derives it


def _partial_of_logits(logits: Tensor, first: int, k: int, temperatures: Sequence[float]) -> _Partial:
    rows = max(1, BLOCK // logits.shape[1])
    scratch = torch.empty_like(logits[:rows])
    return _concatenate(
        [_partial_of_block(block, first, k, temperatures, scratch[: len(block)]) for block in logits.split(rows)]
    )


def _partial_of_block(logits: Tensor, first: int, k: int, temperatures: Sequence[float], scratch: Tensor) -> _Partial:
    values, ids = top_of_tiles(logits, min(k, logits.shape[1]))
    highest = values[:, :1].clamp(min=LOWEST_LOGIT)
    others = torch.sub(logits, highest, out=scratch).exp_().scatter_(1, ids, 0).sum(1, keepdim=True)
    sums = [others if t == 1 else _sum_at(t, logits, highest, scratch) for t in temperatures]
    return _Partial(values, ids + first, highest, others, torch.cat([*sums, highest[:, :0]], 1))


def _sum_at(temperature: float, logits: Tensor, highest: Tensor, scratch: Tensor) -> Tensor:
    return torch.sub(logits, highest, out=scratch).mul_(1 / temperature).exp_().sum(1, keepdim=True)


def _merge(a: _Partial, b: _Partial, k: int, temperatures: Sequence[float]) -> _Partial:
    """Merges two parts of the vocabulary; tokens that drop out of the top k are added to the others."""
    values, ids = torch.cat([a.values, b.values], 1), torch.cat([a.token_ids, b.token_ids], 1)
    top = values.topk(min(k, values.shape[1]), dim=1)
    highest = torch.maximum(a.highest, b.highest)
    dropped = (values - highest).exp().scatter_(1, top.indices, 0).sum(1, keepdim=True)
    others = sum((part.others * (part.highest - highest).exp() for part in (a, b)), start=dropped)
    scale = torch.tensor(temperatures, device=highest.device)
    sums = sum(
        (part.sums * ((part.highest - highest) / scale).exp() for part in (a, b)), start=torch.zeros_like(a.sums)
    )
    return _Partial(top.values, ids.gather(1, top.indices), highest, others, sums)


def _normalise(part: _Partial, temperatures: Sequence[float]) -> TopKTensors:
    top = (part.values - part.highest).exp()
    total = part.others + top.sum(1, keepdim=True)
    if not (total > 0).all():  # false for NaN, and if all logits are minus infinity
        raise UserError("the model returns logits that are not finite; check its weights, or choose another dtype")
    sums = [total if t == 1 else part.sums[:, [i]] for i, t in enumerate(temperatures)]
    normalisers = [s.log() + part.highest / t for s, t in zip(sums, temperatures, strict=True)]
    log_normalisers = torch.cat([*normalisers, total[:, :0]], 1)
    return TopKTensors(part.token_ids, top / total, (part.others / total).squeeze(1), log_normalisers)


def top_of_tiles(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Computes `logits.topk(k)`, much faster for small k: the top k lie in the k tiles with the highest maxima.

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


def _concatenate(parts: Sequence[_Tensors]) -> _Tensors:
    return parts[0] if len(parts) == 1 else type(parts[0])(*map(torch.cat, zip(*parts, strict=True)))


def _by_example(examples: Sequence[Encoded], *arrays: np.ndarray) -> Iterator[TopK]:
    end = 0
    for example in examples:
        position = np.arange(example.start, len(example.token_ids))
        rows = slice(end, end := end + len(position))
        yield TopK(example.id, position, *(array[rows] for array in arrays))
