"""Row groups of a store on their way into it: each a file of its own, so that a fault costs no more than one."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from firstlib.runtime.hashing import file_hash


class Parts:
    """A folder of row groups in order, each named by its number and the hash of its bytes.

    One that was broken off or damaged is removed, with all that follow it: they are extracted again.
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
    def _name(number: int, path: Path) -> str:
        return f"{number:06}-{file_hash(path)[:16]}.parquet"

    def examples(self) -> set[str]:
        """The ids of the examples that are there."""
        return {name for path in self.paths for name in pq.read_table(path, columns=["example_id"])[0].to_pylist()}

    def through(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Keeps each table as the next part, and gives all of them back when the last has come."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            self._keep(table)
        for path in self.paths:
            yield pq.read_table(path).combine_chunks()

    def _keep(self, table: pa.Table) -> None:
        temporary = self.folder / f".{os.getpid()}"
        pq.write_table(table, temporary)
        number = len(self.paths)
        self.paths.append(temporary.rename(self.folder / self._name(number, temporary)))
