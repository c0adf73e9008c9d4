"""One store from several processes: which examples are whose, how files are called, and whether nothing is missing.

Who takes an example depends on its id alone. Each process writes its own file; a store is all of them together.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from firstlib.runtime.errors import StoreError
from firstlib.runtime.hashing import number_from
from firstlib.runtime.sequences import select
from firstlib.tasks.encoding import Encoded

if TYPE_CHECKING:
    from firstlib.knowledge.store import KnowledgeStore

_SHARD = re.compile(r"knowledge-(\d{5})-of-(\d{5})\.parquet$")


def shard(encoded: Sequence[Encoded], rank: int, count: int) -> Sequence[Encoded]:
    """The examples that process `rank` of `count` takes."""
    return select(encoded, array("q", (place for place, e in enumerate(encoded) if number_from(e.id) % count == rank)))


def file_name(rank: int = 0, count: int = 1) -> str:
    """What a process's file is called.

    >>> file_name(), file_name(0, 2)
    ('knowledge.parquet', 'knowledge-00001-of-00002.parquet')
    """
    return "knowledge.parquet" if count == 1 else f"knowledge-{rank + 1:05}-of-{count:05}.parquet"


def whole_set(names: Iterable[str]) -> list[str]:
    """The files of one store among all that lie in a folder, in order.

    Raises:
        ValueError: There is none, one is missing, or they are of two stores.
    """
    found = sorted(name for name in names if name == file_name() or _SHARD.search(name))
    counts = {int(match.group(2)) if (match := _SHARD.search(name)) else 1 for name in found}
    if len(counts) > 1:
        raise ValueError(f"{', '.join(found)} are of more than one store")
    count = counts.pop() if counts else 1
    missing = sorted({file_name(rank, count) for rank in range(count)} - set(found))
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing")
    return found


def check_complete(store: "KnowledgeStore", encoded: Sequence[Encoded]) -> None:
    """Makes sure that a store has every response position of every example, each once.

    Raises:
        StoreError: It has not; the first example is named.
    """
    for example in encoded:
        expected = list(range(example.start, len(example.token_ids)))
        if example.id not in store or store[example.id].position.tolist() != expected:
            raise StoreError(f"{store.path}: example {example.id!r} is not whole; extract the knowledge again")
    if len(store) != len(encoded):
        raise StoreError(f"{store.path}: it has {len(store)} examples, expected {len(encoded)}; extract again")
