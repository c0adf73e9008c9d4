"""A cache of row groups for a store that is being built, so a failure costs at most one row group."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from firstlib.runtime.hashing import file_hash


class RowGroupCache:
    """A folder with one file per row group, named by its index and the hash of its bytes.

    Opening the cache deletes the first incomplete or damaged file and all files after it; they are extracted again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        for path in sorted(folder.glob("*")):
            if path.name == self._name(len(self.paths), path):
                self.paths.append(path)
            else:
                path.unlink()

    @staticmethod
    def _name(index: int, path: Path) -> str:
        return f"{index:06}-{file_hash(path)[:16]}.parquet"

    def example_ids(self) -> set[str]:
        """Returns the ids of all cached examples."""
        return {name for path in self.paths for name in pq.read_table(path, columns=["example_id"])[0].to_pylist()}

    def collect(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Appends each table to the cache, then yields all cached tables in order, including earlier ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            self._append(table)
        for path in self.paths:
            yield pq.read_table(path).combine_chunks()

    def _append(self, table: pa.Table) -> None:
        temporary = self.folder / f".{os.getpid()}"
        pq.write_table(table, temporary)
        index = len(self.paths)
        self.paths.append(temporary.rename(self.folder / self._name(index, temporary)))
