"""Sequences whose items are computed on access, so memory use does not grow with their length."""

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
CHARACTERS = 2**19  # text held in memory at once while a long sequence is processed


class LazySequence(Sequence[T], Generic[T]):
    """A sequence that calls a function for each item, on every access.

    >>> squares = LazySequence(5, lambda i: i * i)
    >>> squares[3], list(squares[1:3]), len(squares)
    (9, [1, 4], 5)
    """

    def __init__(self, length: int, get: Callable[[int], T]) -> None:
        """Takes the number of items and a function from an index, counted from 0, to its item."""
        self._length, self._get = length, get

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "LazySequence[T]": ...

    def __getitem__(self, index: int | slice) -> "T | LazySequence[T]":
        """Returns one item, or a lazy sequence for a slice."""
        indices = range(self._length)[index]
        return select(self, indices) if isinstance(indices, range) else self._get(indices)


def select(items: Sequence[T], indices: Sequence[int] | np.ndarray) -> LazySequence[T]:
    """Returns a lazy view of the items at these indices, in this order.

    >>> list(select("abc", [2, 0]))
    ['c', 'a']
    """
    return LazySequence(len(indices), lambda i: items[int(indices[i])])


def on_disk(items: Iterable[T], write: Callable[[T], Any], read: Callable[[Any], T]) -> LazySequence[T]:
    """Writes items to a temporary file, as JSON lines, and returns a sequence that reads them back on access.

    The file is deleted when the process ends.

    Args:
        items: Iterated once.
        write: Converts an item to JSON content.
        read: Converts JSON content back to an item.

    Raises:
        UserError: The disk is full.

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
        lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # keeps the file alive
    return LazySequence(len(ends) - 1, lambda i: read(json.loads(lines[ends[i] : ends[i + 1]])))


@contextmanager
def temporary_room() -> Iterator[None]:
    """Reports a full disk in one line while temporary files are written.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise UserError(
                f"no space left for temporary files in {tempfile.gettempdir()}; free some space, or set TMPDIR to a "
                "folder on a larger disk"
            ) from error
        raise


def in_pieces(items: Iterable[T], size_of: Callable[[T], int], limit: int = CHARACTERS) -> Iterator[list[T]]:
    """Groups consecutive items into lists of total size at most `limit`; a larger item is a list of its own.

    >>> list(in_pieces(["a", "bb", "cc", "dddddd", "e"], len, 4))
    [['a', 'bb'], ['cc'], ['dddddd'], ['e']]
    """
    piece: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if piece and total + size > limit:
            yield piece
            piece, total = [], 0
        piece.append(item)
        total += size
    if piece:
        yield piece
