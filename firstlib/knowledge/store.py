"""The knowledge store: Parquet with one row per position, readable by any Parquet reader.

Types and encodings were chosen by measurement (`make bench`). Probabilities are float32 values rounded to the 11
significant bits of half precision, without its narrow range: a residual of 1e-9 is kept. Parquet's byte-stream split
makes the zero bytes compress to almost nothing (DuckDB reads this encoding for float32, but not for float16). The k
entries of a position form one list, because neighbouring values repeat. Brotli compresses better than zstd, and
still writes and reads faster than any model computes.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from firstlib.knowledge.row_groups import RowGroupCache
from firstlib.knowledge.shards import complete_set, file_name
from firstlib.knowledge.top_k import TopK
from firstlib.runtime.errors import StoreError
from firstlib.runtime.sequences import temporary_room
from firstlib.tasks.encoding import Encoded

FORMAT = 2  # bump when the format of a store changes
ROW_GROUP_SIZE = 2**17  # positions per row group, the unit held in memory by reading and writing
EXAMPLES_PER_TABLE = 256  # examples converted to Arrow at once
_HALF_PRECISION = ("probabilities", "residual")
_DROPPED_BITS = 13  # of float32's 24 significant bits
_ENCODINGS = {
    "position": "DELTA_BINARY_PACKED",
    "token_ids.list.element": "PLAIN",
    "probabilities.list.element": "BYTE_STREAM_SPLIT",
    "residual": "BYTE_STREAM_SPLIT",
    "log_normalisers.list.element": "BYTE_STREAM_SPLIT",
}


@dataclass(frozen=True)
class Origin:
    """What a store was extracted from. Opening a store fails if any field differs from the expected one.

    Attributes:
        teacher: Identity of the teacher.
        tokenizer: Identity of the tokenizer.
        data: Hash of the data.
        k: Tokens per position.
        temperatures: Temperatures of the stored log normalisers; none by default, because each takes 4 bytes.
        format: Version of the store's format.
    """

    teacher: str
    tokenizer: str
    data: str
    k: int
    temperatures: tuple[float, ...] = ()
    format: int = FORMAT


def write_store(
    folder: Path | str,
    knowledge: Iterable[TopK],
    origin: Origin,
    rank: int = 0,
    processes: int = 1,
    cache: RowGroupCache | None = None,
) -> None:
    """Streams knowledge to a store in a local folder or at any fsspec URL, one row group at a time.

    Args:
        folder: Where to write.
        knowledge: The content, iterated once.
        origin: Its origin, recorded in the file.
        rank: Index of this process; each process writes its own file.
        processes: Number of processes.
        cache: If given, row groups are collected here first, and those of an earlier attempt precede `knowledge`.
    """
    schema = _schema(origin)
    options: dict[str, Any] = {"compression": "brotli", "compression_level": 5, "use_dictionary": ["example_id"]}
    encodings = {name: how for name, how in _ENCODINGS.items() if name.partition(".")[0] in schema.names}
    with (
        fsspec.open(_file(folder, file_name(rank, processes)), "wb") as file,
        pq.ParquetWriter(file, schema, column_encoding=encodings, **options) as writer,
    ):
        groups = _groups(knowledge, schema)
        for table in cache.collect(groups) if cache else groups:
            writer.write_table(table)


def _schema(origin: Origin) -> pa.Schema:
    fields = [
        ("example_id", pa.string()),
        ("position", pa.int32()),
        ("token_ids", pa.list_(pa.int32(), origin.k)),
        ("probabilities", pa.list_(pa.float32(), origin.k)),
        ("residual", pa.float32()),
    ]
    if origin.temperatures:
        fields.append(("log_normalisers", pa.list_(pa.float32(), len(origin.temperatures))))
    return pa.schema(fields, {"first": json.dumps(asdict(origin))})


def _file(folder: Path | str, name: str) -> str:
    return f"{str(folder).rstrip('/')}/{name}"


def _files(folder: Path | str) -> list[str]:
    """Returns the paths of the store's files, with the folder's protocol.

    Raises:
        StoreError: A file is missing, or there are files of more than one store.
    """
    system, path = fsspec.core.url_to_fs(str(folder))
    try:
        names = [entry.rpartition("/")[2] for entry in system.ls(path, detail=False)]
        return [_file(folder, name) for name in complete_set(names)]
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(f"knowledge store {folder}: {error}; extract the knowledge again") from error


def _groups(items: Iterable[TopK], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields row groups, converted a few items at a time: thousands of small arrays would fragment memory."""
    packed: list[pa.Table] = []
    loose: list[TopK] = []
    rows = 0
    for item in items:
        loose.append(item)
        rows += len(item.position)
        if rows >= ROW_GROUP_SIZE or len(loose) == EXAMPLES_PER_TABLE:
            packed.append(_table(loose, schema))
            loose = []
        if rows >= ROW_GROUP_SIZE:
            yield pa.concat_tables(packed).combine_chunks()
            packed, rows = [], 0
    if loose:
        packed.append(_table(loose, schema))
    if packed:
        yield pa.concat_tables(packed).combine_chunks()


def _table(group: Sequence[TopK], schema: pa.Schema) -> pa.Table:
    names = np.array([item.example_id for item in group], dtype=object)
    columns = [pa.array(names.repeat([len(item.position) for item in group]))]
    for field in list(schema)[1:]:
        values = np.concatenate([getattr(item, field.name) for item in group])
        columns.append(_to_arrow(half_precision(values) if field.name in _HALF_PRECISION else values, field.type))
    return pa.table(columns, schema)  # casts, and refuses a token id that is too large


def half_precision(values: np.ndarray) -> np.ndarray:
    """Rounds to the 11 significant bits of float16 at any magnitude; returns float32 of the same shape.

    >>> float(half_precision(np.array([1 / 3]))[0]) == float(np.float16(1 / 3))
    True
    >>> half_precision(np.array([1e-9])) > 0
    array([ True])
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> _DROPPED_BITS) & 1  # ties round to even
    half = np.uint32(2 ** (_DROPPED_BITS - 1) - 1) + odd
    return ((bits + half) >> _DROPPED_BITS << _DROPPED_BITS).view(np.float32)


def _to_arrow(values: np.ndarray, dtype: pa.DataType) -> pa.Array:
    """Converts numbers `(N,)`, or `(N, K)` to lists of K, without a change of their type."""
    if not pa.types.is_fixed_size_list(dtype):
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(values.ravel(), dtype.list_size)


class KnowledgeStore:
    """A store opened for reading, indexed by example id.

    Opening compares its files' origins. What first looks into it unpacks it into memory-mapped arrays in a temporary
    folder: looking up an example is a slice, and memory use does not grow with the store.
    """

    def __init__(self, folder: Path | str, expected: Origin | None = None) -> None:
        """Opens the store in a local folder or at any fsspec URL.

        Raises:
            StoreError: A file is missing, or its origin differs from the expected one or from the other files'; the
                message names both.
        """
        self.paths = _files(folder)
        self.path = self.paths[0]
        with ExitStack() as stack:
            files = [stack.enter_context(fsspec.open(path)) for path in self.paths]
            shards = [pq.ParquetFile(file) for file in files]
            self.origin = expected or _origin(shards[0].schema_arrow)
            for path, shard in zip(self.paths, shards, strict=True):
                if (found := _origin(shard.schema_arrow)) != self.origin:
                    raise StoreError(f"{path}: {_difference(found, self.origin)}; extract the knowledge again")
            self.size = sum(file.seek(0, os.SEEK_END) for file in files)
            self.positions = sum(shard.metadata.num_rows for shard in shards)

    @cached_property
    def _unpacked(self) -> "_Unpacked":
        """All rows. Raises UserError if the disk is full, and StoreError if an example occurs twice."""
        return _Unpacked(self.paths, self.origin, self.positions)

    def __len__(self) -> int:
        return len(self._unpacked.rows)

    def __contains__(self, example_id: object) -> bool:
        return example_id in self._unpacked.rows

    def __iter__(self) -> Iterator[TopK]:
        return (self[name] for name in self._unpacked.rows)

    def __getitem__(self, example_id: str) -> TopK:
        """Returns the knowledge of one example.

        Raises:
            KeyError: The example is not in the store.
        """
        rows = self._unpacked.rows.get(example_id)
        if rows is None:
            raise KeyError(f"{self.path} has no example {example_id!r}; extract the knowledge again")
        return TopK(example_id, **{name: array[rows] for name, array in self._unpacked.arrays.items()})

    @property
    def bytes_per_position(self) -> float:
        """Size of the store's files divided by its number of positions."""
        return self.size / self.positions

    def all_probabilities(self) -> np.ndarray:
        """Returns the top-k probabilities of all positions, `(positions, K)`."""
        return self._unpacked.arrays["probabilities"]


class _Unpacked:
    """A store's columns as arrays of all positions, `(positions, ...)`, and the rows of each example."""

    def __init__(self, paths: Sequence[str], origin: Origin, positions: int) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="first-store-")
        k, temperatures = origin.k, len(origin.temperatures)
        kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
            "position": (np.int32, (positions,)),
            "token_ids": (np.int32, (positions, k)),
            "probabilities": (np.float32, (positions, k)),
            "residual": (np.float32, (positions,)),
            "log_normalisers": (np.float32, (positions, temperatures)),
        }
        self.arrays = {name: self._allocate(name, dtype, shape) for name, (dtype, shape) in kinds.items()}
        self.rows: dict[str, slice] = {}
        start = 0
        for path, group in _row_groups(paths):
            part = slice(start, start := start + len(group))
            for name, array in self.arrays.items():
                if name in group.column_names:
                    array[part] = _to_numpy(group.column(name)).reshape(array[part].shape)
            self._index(path, group.column("example_id"), part.start)

    def _allocate(self, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        if not np.prod(shape):
            return np.empty(shape, dtype)
        path = Path(self._scratch.name) / name
        with temporary_room(), path.open("wb") as file:
            _reserve(file.fileno(), int(np.prod(shape)) * np.dtype(dtype).itemsize)
        mapped = np.memmap(path, dtype, shape=shape)
        return mapped.view(np.ndarray)  # same memory, but slicing is ten times faster

    def _index(self, path: str, names: pa.ChunkedArray, start: int) -> None:
        """Records the rows of each example; the rows of an example are contiguous."""
        import pyarrow.compute as pc  # here: slow to import, and opening a store does not need it

        runs = pc.run_end_encode(names.combine_chunks())
        begin = start
        for name, end in zip(runs.values.to_pylist(), (runs.run_ends.to_numpy() + start).tolist(), strict=True):
            known = self.rows.get(name)
            if known and known.stop != begin:
                raise StoreError(f"{path}: example {name!r} occurs twice; extract the knowledge again")
            self.rows[name] = slice(known.start if known else begin, end)
            begin = end


def _row_groups(paths: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Yields row groups one by one, with their file: `iter_batches` keeps a buffer of each that it has read."""
    for path in paths:
        with fsspec.open(path) as file:
            shard = pq.ParquetFile(file)
            yield from ((path, shard.read_row_group(at)) for at in range(shard.num_row_groups))


def _reserve(file: int, length: int) -> None:
    """Preallocates disk space: writing to a mapped file on a full disk would kill the process with SIGBUS."""
    if reserve := getattr(os, "posix_fallocate", None):  # not on macOS
        reserve(file, 0, length)
    else:
        os.truncate(file, length)


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    flat = column.combine_chunks().flatten() if pa.types.is_fixed_size_list(column.type) else column
    return flat.to_numpy()


def _origin(schema: pa.Schema) -> Origin:
    content = json.loads(schema.metadata[b"first"])
    # The file may come from another version of this library, whose `Origin` has other fields.
    known = {field.name: content[field.name] for field in fields(Origin) if field.name in content}
    return Origin(**{**known, "temperatures": tuple(content.get("temperatures", ()))})


def bytes_by_k(store: KnowledgeStore, ks: Sequence[int]) -> list[float]:
    """Measures bytes per position for smaller top-k stores by writing them; returns one number for each k.

    Raises:
        ValueError: A k is larger than the store's own.
    """
    if max(ks) > store.origin.k:
        raise ValueError(f"k = {max(ks)}, but {store.path} holds the top {store.origin.k}")
    return [_bytes_per_position(store, k) for k in ks]


def _bytes_per_position(store: KnowledgeStore, k: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        write_store(folder, (_truncate(item, k) for item in store), replace(store.origin, k=k))
        return Path(_file(folder, file_name())).stat().st_size / store.positions


def _truncate(item: TopK, k: int) -> TopK:
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


def check_complete(store: KnowledgeStore, encoded: Sequence[Encoded]) -> None:
    """Checks that a store has each response position of every example exactly once.

    Raises:
        StoreError: Positions or examples are missing or superfluous; the message names the first example.
    """
    for example in encoded:
        expected = list(range(example.start, len(example.token_ids)))
        if example.id not in store or store[example.id].position.tolist() != expected:
            raise StoreError(f"{store.path}: example {example.id!r} is incomplete; extract the knowledge again")
    if len(store) != len(encoded):
        raise StoreError(f"{store.path}: {len(store)} examples, expected {len(encoded)}; extract the knowledge again")
