"""Sharding of a store over several processes: assignment of examples, file names, and completeness checks.

An example's shard depends on its id alone. Each process writes one file; a store consists of all of them.
"""

import re
from array import array
from collections.abc import Iterable, Sequence

from firstlib.runtime.hashing import number_from
from firstlib.runtime.sequences import select
from firstlib.tasks.encoding import Encoded

_SHARD = re.compile(r"knowledge-(\d{5})-of-(\d{5})\.parquet$")


def shard(encoded: Sequence[Encoded], rank: int, count: int) -> Sequence[Encoded]:
    """Returns the examples assigned to process `rank` of `count`."""
    return select(encoded, array("q", (index for index, e in enumerate(encoded) if number_from(e.id) % count == rank)))


def file_name(rank: int = 0, count: int = 1) -> str:
    """Returns the name of a process's file.

    >>> file_name(), file_name(0, 2)
    ('knowledge.parquet', 'knowledge-00001-of-00002.parquet')
    """
    return "knowledge.parquet" if count == 1 else f"knowledge-{rank + 1:05}-of-{count:05}.parquet"


def complete_set(names: Iterable[str]) -> list[str]:
    """Selects the files of a store from the names in a folder, in order.

    Raises:
        ValueError: A file is missing, or there are files of more than one store.
    """
    found = sorted(name for name in names if name == file_name() or _SHARD.search(name))
    counts = {int(match.group(2)) if (match := _SHARD.search(name)) else 1 for name in found}
    if len(counts) > 1:
        raise ValueError(f"{', '.join(found)} belong to more than one store")
    count = counts.pop() if counts else 1
    missing = sorted({file_name(rank, count) for rank in range(count)} - set(found))
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")
    return found
