"""The teacher's concentrated knowledge: its top-k at every response position, taken once and kept in Parquet.

`position` is the index, in the tokenised example, of the token that is predicted: the distribution kept at
position t is the one over token t given the tokens before it.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset, disable_progress_bars

from firstlib.models import LanguageModel, body_and_head, logits_of
from firstlib.progress import steps
from firstlib.tasks.encoding import Encoded, pad

FORMAT = 1
_FILE = "knowledge.parquet"
_ROWS = 4096  # examples in a row group
_CHUNK = 2**23  # logits held at once, in numbers

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("position", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.list_(pa.int32()))),
        ("probabilities", pa.list_(pa.list_(pa.float16()))),
        ("residual", pa.list_(pa.float16())),
    ]
)


@dataclass(frozen=True)
class TopK:
    """What a teacher says at one example's P response positions.

    Attributes:
        position: `(P,)` index of the token predicted.
        token_ids: `(P, K)`, most probable first.
        probabilities: `(P, K)`, of the whole vocabulary's softmax.
        residual: `(P,)`, the mass outside the K, summed over the vocabulary and not by subtraction.
    """

    example_id: str
    position: np.ndarray
    token_ids: np.ndarray
    probabilities: np.ndarray
    residual: np.ndarray


@dataclass(frozen=True)
class Origin:
    """Whose knowledge it is: a store is refused where any of these differs from what is expected."""

    teacher: str
    tokenizer: str
    data: str
    k: int
    format: int = FORMAT


def extract_top_k(model: LanguageModel, encoded: Sequence[Encoded], k: int, batch: int = 64) -> Iterator[TopK]:
    """The model's top-k at every response position, teacher-forced, longest examples first.

    The output head is applied to response positions only, a chunk at a time.

    Raises:
        ValueError: k is larger than the vocabulary.
    """
    vocabulary = body_and_head(model)[1].weight.shape[0]
    if not 0 < k <= vocabulary:
        raise ValueError(f"k = {k}, but the vocabulary has {vocabulary} tokens")
    order = sorted(encoded, key=lambda example: (-len(example.token_ids), example.id))
    with steps("extracting", len(order)) as at:
        for first in range(0, len(order), batch):
            examples = order[first : first + batch]
            yield from _split(examples, *_top_k_of_batch(model, examples, k))
            at(first + len(examples))


@torch.inference_mode()
def _top_k_of_batch(
    model: LanguageModel, examples: Sequence[Encoded], k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    body, head = body_and_head(model)
    ids, mask = pad([example.token_ids for example in examples])
    device = head.weight.device
    hidden = body(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
    kept = torch.zeros_like(ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        kept[row, example.start - 1 : len(example.token_ids) - 1] = True
    chunks = hidden[kept.to(device)].split(max(1, _CHUNK // head.weight.shape[0]))
    parts = [top_k_of_logits(logits_of(model, chunk), k) for chunk in chunks]
    token_ids, probabilities, residual = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return token_ids, probabilities, residual


def top_k_of_logits(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids `(N, k)` and probabilities `(N, k)` of the top k of logits `(N, V)`, and the mass `(N,)` of the others."""
    normaliser = logits.logsumexp(dim=-1, keepdim=True)
    top = logits.topk(k, dim=-1)
    others = logits.scatter(-1, top.indices, -torch.inf)
    residual = (others.logsumexp(dim=-1, keepdim=True) - normaliser).exp().squeeze(-1)
    return top.indices, (top.values - normaliser).exp(), residual


def _split(
    examples: Sequence[Encoded], token_ids: np.ndarray, probabilities: np.ndarray, residual: np.ndarray
) -> Iterator[TopK]:
    ends = np.cumsum([len(example.token_ids) - example.start for example in examples])
    for example, part in zip(examples, np.split(np.arange(len(residual)), ends[:-1]), strict=True):
        position = np.arange(example.start, len(example.token_ids))
        yield TopK(example.id, position, token_ids[part], probabilities[part], residual[part])


def write_store(folder: Path, knowledge: Iterable[TopK], origin: Origin) -> None:
    """Writes a store as it comes, a row group at a time: plain Parquet, readable by anything that reads Parquet."""
    schema = SCHEMA.with_metadata({"first": json.dumps(asdict(origin))})
    with pq.ParquetWriter(folder / _FILE, schema, compression="zstd") as writer:
        for group in _groups(knowledge, _ROWS):
            writer.write_table(_table(group, schema))


def _groups(items: Iterable[TopK], size: int) -> Iterator[list[TopK]]:
    group: list[TopK] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _table(group: Sequence[TopK], schema: pa.Schema) -> pa.Table:
    columns = {
        "example_id": [item.example_id for item in group],
        "position": [item.position.astype(np.int32) for item in group],
        "token_ids": [list(item.token_ids.astype(np.int32)) for item in group],
        "probabilities": [list(item.probabilities.astype(np.float16)) for item in group],
        "residual": [item.residual.astype(np.float16) for item in group],
    }
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}, schema)


class KnowledgeStore:
    """A written store, memory-mapped: found by example id, never by order."""

    def __init__(self, folder: Path, expected: Origin | None = None) -> None:
        """Opens the store in `folder`.

        Raises:
            ValueError: Its origin differs from the expected one; the message names both.
        """
        self.path = folder / _FILE
        self.origin = Origin(**json.loads(pq.read_schema(self.path).metadata[b"first"]))
        if expected is not None and self.origin != expected:
            raise ValueError(f"{self.path}: {_difference(self.origin, expected)}; extract the knowledge again")
        disable_progress_bars()
        cache = str(folder / "cache")
        self._table = Dataset.from_parquet(str(self.path), cache_dir=cache).with_format("arrow")
        self._row = {name: row for row, name in enumerate(self._table.data.column("example_id").to_pylist())}

    def __len__(self) -> int:
        return len(self._row)

    def __iter__(self) -> Iterator[TopK]:
        return (self[name] for name in self._row)

    def __getitem__(self, example_id: str) -> TopK:
        """The knowledge on one example.

        Raises:
            KeyError: The store has nothing on it.
        """
        if example_id not in self._row:
            raise KeyError(f"{self.path} has nothing on example {example_id!r}; extract the knowledge again")
        row = self._table[self._row[example_id]]
        return TopK(
            example_id,
            row["position"][0].values.to_numpy(),
            self._matrix(row["token_ids"]),
            self._matrix(row["probabilities"]).astype(np.float32),
            row["residual"][0].values.to_numpy().astype(np.float32),
        )

    @property
    def positions(self) -> int:
        """How many positions the store holds."""
        return sum(len(lengths) for lengths in self._table.data.column("position"))

    @property
    def bytes_per_position(self) -> float:
        """The file's size over the positions in it."""
        return self.path.stat().st_size / self.positions

    def all_probabilities(self) -> np.ndarray:
        """Every position's top-k probabilities, `(positions, K)`."""
        return np.concatenate([item.probabilities for item in self])

    def _matrix(self, column: pa.ChunkedArray) -> np.ndarray:
        return column[0].values.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.origin.k)


def bytes_by_k(store: KnowledgeStore, ks: Sequence[int]) -> list[float]:
    """What a position would take with only the top k kept, measured by writing such a store; one number to each k.

    Raises:
        ValueError: A k is larger than the store's own.
    """
    if max(ks) > store.origin.k:
        raise ValueError(f"k = {max(ks)}, but {store.path} holds the top {store.origin.k}")
    return [_bytes_with(store, k) for k in ks]


def _bytes_with(store: KnowledgeStore, k: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder), (_shortened(item, k) for item in store), replace(store.origin, k=k))
        return (Path(folder) / _FILE).stat().st_size / store.positions


def _shortened(item: TopK, k: int) -> TopK:
    cut = item.probabilities[:, k:].sum(axis=1)
    return replace(
        item,
        token_ids=item.token_ids[:, :k],
        probabilities=item.probabilities[:, :k],
        residual=item.residual + cut,
    )


def _difference(found: Origin, expected: Origin) -> str:
    pairs = [(name, value, getattr(expected, name)) for name, value in asdict(found).items()]
    return ", ".join(f"its {name} is {has}, expected {wants}" for name, has, wants in pairs if has != wants)
