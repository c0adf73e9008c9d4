"""Sequences whose items are made when they are asked for, so that memory stays flat however long they are."""

import json
import mmap
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload

import numpy as np

from firstlib.runtime.errors import UserError
from firstlib.runtime.files import disk_is_full

T = TypeVar("T")
CHARACTERS = 2**19  # of text in memory at once, where a long sequence is worked on in pieces


class LazySequence(Sequence[T], Generic[T]):
    """Items by their number, each made anew whenever it is asked for.

    >>> squares = LazySequence(5, lambda i: i * i)
    >>> squares[3], list(squares[1:3]), len(squares)
    (9, [1, 4], 5)
    """

    def __init__(self, length: int, get: Callable[[int], T]) -> None:
        """Of so many items, numbered from 0, that `get` makes."""
        self._length, self._get = length, get

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "LazySequence[T]": ...

    def __getitem__(self, index: int | slice) -> "T | LazySequence[T]":
        """One item, or some of them, which are made as late."""
        places = range(self._length)[index]
        return select(self, places) if isinstance(places, range) else self._get(places)


def select(items: Sequence[T], places: Sequence[int] | np.ndarray) -> LazySequence[T]:
    """The items at these places, in this order.

    >>> list(select("abc", [2, 0]))
    ['c', 'a']
    """
    return LazySequence(len(places), lambda i: items[int(places[i])])


def on_disk(items: Iterable[T], write: Callable[[T], Any], read: Callable[[Any], T]) -> LazySequence[T]:
    """Items as they come, kept as JSON lines in a temporary file that ends with the process.

    Args:
        items: gone through once.
        write: what of an item JSON is to hold.
        read: an item from that.

    Raises:
        UserError: There is no room for the file.

    >>> list(on_disk(({i} for i in range(3)), list, set))
    [{0}, {1}, {2}]
    """
    ends = array("q", [0])
    with temporary_room(), tempfile.TemporaryFile(prefix="first-") as file:
        for item in items:
            ends.append(ends[-1] + file.write(json.dumps(write(item)).encode()))
        if not ends[-1]:
            return LazySequence(0, read)
        file.flush()
        lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # the file is there as long as this is
    return LazySequence(len(ends) - 1, lambda i: read(json.loads(lines[ends[i] : ends[i + 1]])))


@contextmanager
def temporary_room() -> Iterator[None]:
    """Where temporary files are written.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise UserError(
                f"no space left for temporary files in {tempfile.gettempdir()}; make room, or let TMPDIR name a folder "
                "that has more"
            ) from error
        raise


def in_pieces(items: Iterable[T], weigh: Callable[[T], int], most: int = CHARACTERS) -> Iterator[list[T]]:
    """Neighbours together, each piece of at most that weight, or a single item.

    >>> list(in_pieces(["a", "bb", "cc", "dddddd", "e"], len, 4))
    [['a', 'bb'], ['cc'], ['dddddd'], ['e']]
    """
    piece: list[T] = []
    total = 0
    for item in items:
        weight = weigh(item)
        if piece and total + weight > most:
            yield piece
            piece, total = [], 0
        piece.append(item)
        total += weight
    if piece:
        yield piece
