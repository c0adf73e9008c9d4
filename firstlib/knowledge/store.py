"""The store: one Parquet file, a row a position, readable by anything that reads Parquet.

Types and encodings are chosen by measurement (`make bench`). Probabilities are float32 with the 11 significant bits
of half precision but not its narrow range: a residual of 1e-9 stays what it is. Parquet splits their bytes
into streams, so that the empty ones vanish (DuckDB reads that of float32, but not of float16). Ranks lie side by
side in lists, because neighbours repeat each other. Brotli leaves less than zstd does, and still writes and reads
faster than any model computes.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from firstlib.knowledge.parts import Parts
from firstlib.knowledge.shards import file_name, whole_set
from firstlib.knowledge.top_k import TopK
from firstlib.runtime.errors import StoreError
from firstlib.runtime.sequences import temporary_room

FORMAT = 2
ROWS = 2**17  # positions in a row group: what is in memory at once, writing or reading
PACKED = 256  # examples packed together, on the way to a row group
_HALF = ("probabilities", "residual")
_DROPPED = 13  # of float32's 24 significant bits
_ENCODINGS = {
    "position": "DELTA_BINARY_PACKED",
    "token_ids.list.element": "PLAIN",
    "probabilities.list.element": "BYTE_STREAM_SPLIT",
    "residual": "BYTE_STREAM_SPLIT",
    "log_normalisers.list.element": "BYTE_STREAM_SPLIT",
}


@dataclass(frozen=True)
class Origin:
    """Whose knowledge it is: a store is refused where any of these differs from what is expected.

    Attributes:
        temperatures: At which the log normalisers are kept too; none by default, because they take 4 bytes each.
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
    parts: Parts | None = None,
) -> None:
    """Writes a store as it comes, a row group at a time, to a local folder or any fsspec URL.

    Of several processes each writes its file. Row groups go through `parts` first, where given: then what an earlier
    try left there comes before `knowledge`.
    """
    schema = _schema(origin)
    options: dict[str, Any] = {"compression": "brotli", "compression_level": 5, "use_dictionary": ["example_id"]}
    encodings = {name: how for name, how in _ENCODINGS.items() if name.partition(".")[0] in schema.names}
    with (
        fsspec.open(_file(folder, file_name(rank, processes)), "wb") as file,
        pq.ParquetWriter(file, schema, column_encoding=encodings, **options) as writer,
    ):
        groups = _groups(knowledge, schema)
        for table in parts.through(groups) if parts else groups:
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
    """The store's files, with the folder's protocol.

    Raises:
        StoreError: One is missing, or there are files of two stores.
    """
    system, path = fsspec.core.url_to_fs(str(folder))
    try:
        names = [entry.rsplit("/", 1)[-1] for entry in system.ls(path, detail=False)]
        return [_file(folder, name) for name in whole_set(names)]
    except (FileNotFoundError, ValueError) as error:
        raise StoreError(f"knowledge store {folder}: {error}; extract the knowledge again") from error


def _groups(items: Iterable[TopK], schema: pa.Schema) -> Iterator[pa.Table]:
    """Row groups, packed a few items at a time: the small arrays of thousands would tear memory into pieces."""
    packed: list[pa.Table] = []
    loose: list[TopK] = []
    rows = 0
    for item in items:
        loose.append(item)
        rows += len(item.position)
        if rows >= ROWS or len(loose) == PACKED:
            packed.append(_table(loose, schema))
            loose = []
        if rows >= ROWS:
            yield pa.concat_tables(packed).combine_chunks()
            packed, rows = [], 0
    if loose:
        packed.append(_table(loose, schema))
    if packed:
        yield pa.concat_tables(packed).combine_chunks()


def _table(group: Sequence[TopK], schema: pa.Schema) -> pa.Table:
    names = np.array([item.example_id for item in group], dtype=object)
    columns = [pa.array(names.repeat([len(item.position) for item in group]), pa.string())]
    for field in list(schema)[1:]:
        values = np.concatenate([getattr(item, field.name) for item in group])
        columns.append(_column(half_precision(values) if field.name in _HALF else values, field.type))
    return pa.table(columns, schema)


def half_precision(values: np.ndarray) -> np.ndarray:
    """Float32 rounded to 11 significant bits, as float16 has them, at any magnitude.

    >>> float(half_precision(np.array([1 / 3]))[0]) == float(np.float16(1 / 3))
    True
    >>> half_precision(np.array([1e-9])) > 0
    array([ True])
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> _DROPPED) & 1  # ties go to the even neighbour
    half = np.uint32(2 ** (_DROPPED - 1) - 1) + odd
    return ((bits + half) >> _DROPPED << _DROPPED).view(np.float32)


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Numbers `(N,)`, or `(N, K)` as lists of K."""
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values.astype(kind.to_pandas_dtype()))
    flat = pa.array(values.astype(kind.value_type.to_pandas_dtype()).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)


class KnowledgeStore:
    """A written store: found by example id, never by order.

    It is unpacked once into memory-mapped arrays in a temporary folder, so that any example is a slice away and memory
    stays flat however large the store is.
    """

    def __init__(self, folder: Path | str, expected: Origin | None = None) -> None:
        """Opens the store in a local folder or at any fsspec URL.

        Raises:
            UserError: There is no room to unpack it.
            StoreError: A part is missing, an example is there twice, or the origin differs from the expected one, or
                between parts; the message names both.
        """
        self.paths = _files(folder)
        self.path = self.paths[0]
        with ExitStack() as stack:
            files = [stack.enter_context(fsspec.open(path, "rb")) for path in self.paths]
            parts = [pq.ParquetFile(file) for file in files]
            self.origin = expected or _origin(parts[0].schema_arrow)
            for path, part in zip(self.paths, parts, strict=True):
                if (found := _origin(part.schema_arrow)) != self.origin:
                    raise StoreError(f"{path}: {_difference(found, self.origin)}; extract the knowledge again")
            self.size = sum(file.seek(0, os.SEEK_END) for file in files)
            self._unpack(parts)

    def _unpack(self, parts: Sequence[pq.ParquetFile]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="first-store-")
        rows = sum(part.metadata.num_rows for part in parts)
        k, temperatures = self.origin.k, len(self.origin.temperatures)
        self._arrays = {
            "position": self._blank("position", np.int32, (rows,)),
            "token_ids": self._blank("token_ids", np.int32, (rows, k)),
            "probabilities": self._blank("probabilities", np.float32, (rows, k)),
            "residual": self._blank("residual", np.float32, (rows,)),
            "log_normalisers": self._blank("log_normalisers", np.float32, (rows, temperatures)),
        }
        self._rows: dict[str, slice] = {}
        start = 0
        # One row group after the other: `iter_batches` keeps a buffer of every one that it has passed.
        for group in (parquet.read_row_group(i) for parquet in parts for i in range(parquet.num_row_groups)):
            part = slice(start, start := start + len(group))
            for name, array in self._arrays.items():
                if name in group.column_names:
                    array[part] = _numbers(group.column(name)).reshape(array[part].shape)
            self._note(group.column("example_id"), part.start)

    def _blank(self, name: str, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
        if not np.prod(shape):
            return np.empty(shape, kind)
        path = Path(self._scratch.name) / name
        with temporary_room(), path.open("wb") as file:
            _reserve(file.fileno(), 0, int(np.prod(shape)) * np.dtype(kind).itemsize)
        mapped = np.memmap(path, kind, "r+", shape=shape)
        return mapped.view(np.ndarray)  # the same memory, ten times quicker to slice

    def _note(self, names: pa.ChunkedArray, start: int) -> None:
        """Where each example's rows are; those of one example follow each other."""
        runs = pc.run_end_encode(names.combine_chunks())
        begin = start
        for name, end in zip(runs.values.to_pylist(), (runs.run_ends.to_numpy() + start).tolist(), strict=True):
            known = self._rows.get(name)
            if known and known.stop != begin:
                raise StoreError(f"{self.path}: example {name!r} is there twice; extract the knowledge again")
            self._rows[name] = slice(known.start if known else begin, end)
            begin = end

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, example_id: object) -> bool:
        return example_id in self._rows

    def __iter__(self) -> Iterator[TopK]:
        return (self[name] for name in self._rows)

    def __getitem__(self, example_id: str) -> TopK:
        """The knowledge on one example.

        Raises:
            KeyError: The store has nothing on it.
        """
        rows = self._rows.get(example_id)
        if rows is None:
            raise KeyError(f"{self.path} has nothing on example {example_id!r}; extract the knowledge again")
        return TopK(example_id, **{name: array[rows] for name, array in self._arrays.items()})

    @property
    def positions(self) -> int:
        """How many positions the store holds."""
        return len(self._arrays["position"])

    @property
    def bytes_per_position(self) -> float:
        """The file's size over the positions in it."""
        return self.size / self.positions

    def all_probabilities(self) -> np.ndarray:
        """Every position's top-k probabilities, `(positions, K)`."""
        return self._arrays["probabilities"]


def _reserve(file: int, start: int, length: int) -> None:
    """Room on the disk, asked for at once: a mapped file that finds none later ends the process without a word."""
    if reserve := getattr(os, "posix_fallocate", None):  # macOS has none
        reserve(file, start, length)
    else:
        os.truncate(file, start + length)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    flat = column.combine_chunks().flatten() if pa.types.is_fixed_size_list(column.type) else column
    return flat.to_numpy()


def _origin(schema: pa.Schema) -> Origin:
    content = json.loads(schema.metadata[b"first"])
    known = {field.name: content[field.name] for field in fields(Origin) if field.name in content}  # of any version
    return Origin(**{**known, "temperatures": tuple(content.get("temperatures", ()))})


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
        write_store(folder, (_shortened(item, k) for item in store), replace(store.origin, k=k))
        return Path(_file(folder, file_name())).stat().st_size / store.positions


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
