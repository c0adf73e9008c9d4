"""Which choice a table's answer means: by the end of its column's name, by its index from 0, or by its letter.

One column is read in one way. The answers `1` and `2` mean other choices by name than by index where the columns are
`p_1` and `p_2`; an answer that is neither, such as `?`, must not change what the others mean.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from firstlib.evaluation.audit.answers import UNKNOWN
from firstlib.evaluation.audit.choices import LETTERS, ends_of
from firstlib.evaluation.audit.columns import Table, number
from firstlib.runtime.errors import UserError
from firstlib.tasks.answers import yes_or_no


def right_choices(found: Table, names: Sequence[str], count: np.ndarray, allowed: float) -> np.ndarray:
    """Returns the index of each row's right choice `(N,)`, or `UNKNOWN`.

    Args:
        found: The table.
        names: The column of lists, or the columns of each choice.
        count: The number of choices of each row `(N,)`.
        allowed: The share of rows that may be of no use.

    Raises:
        UserError: The answers mean other choices by name than by index, and either may be meant; or they are numbers
            that do not count the columns from 0.
    """
    cells = found.plain(found.column("answer"), "answer", "an index, a letter or the end of a column's name")
    encoded = cells.dictionary_encode()
    place = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    values = encoded.dictionary.to_pylist()
    rows = np.bincount(place, minlength=len(values) + 1)[: len(values)]  # of each value; the last is of empty cells
    by_index = np.array([as_choice(value) for value in values], dtype=np.int64)
    meant = by_index
    if len(names) > 1:
        by_index = np.where(by_index < len(names), by_index, UNKNOWN)
        meant = _decided(found.name, values, rows, _by_name(values, ends_of(names)), by_index, allowed)
    if meant is by_index:
        numbers = np.append([number(value) for value in values], np.nan)[place]
        _check_numbers(found.name, ends_of(names), numbers, count)
    answer = np.append(meant, UNKNOWN)[place]
    return np.where(answer < count, answer, UNKNOWN)


def _decided(
    name: str, values: Sequence[Any], rows: np.ndarray, by_name: np.ndarray, by_index: np.ndarray, allowed: float
) -> np.ndarray:
    """Returns what each value means: by name where names explain anything that indices do not, or the other way."""
    differ = (by_name != UNKNOWN) & (by_name != by_index)
    if not differ.any():
        return by_index
    named, indexed = by_name != UNKNOWN, by_index != UNKNOWN
    if rows[named].sum() >= rows[indexed].sum():
        return by_name
    if rows[indexed & ~named].sum() > allowed * rows.sum():  # as names, too many would be of no use
        return by_index
    one, other = values[int(differ.argmax())], values[int((indexed & ~named).argmax())]
    raise UserError(
        f"{name}: the answer {one!r:.40} is a column's name and an index, {other!r:.40} is an index only; correct one, "
        "or name the columns of choices p_0, p_1, ..."
    )


def _check_numbers(name: str, ends: Sequence[str], numbers: np.ndarray, count: np.ndarray) -> None:
    """Refuses numbers `(N,)`, NaN where an answer is none, if they may mean something else than a place from 0."""
    given = np.isfinite(numbers)
    if not given.any():
        return
    last = given & (numbers == count)
    if last.any() and ((numbers >= 1) & (numbers <= count))[given].all():
        raise UserError(
            f"{name}: its answers count from 1: {last.sum():,} equal the number of choices, and none is 0; subtract "
            "1, or name the columns of choices p_1, p_2, ..."
        )
    if [_truth(end) for end in ends] == [True, False]:
        raise UserError(
            f"{name}: the answer 1 may mean {ends[0]!r:.40} or the second choice, {ends[1]!r:.40}; write the answers "
            "as these names"
        )
    alike = [end.casefold() for end in ends]
    if alike != sorted(alike) and all(len(end) == 1 and end in LETTERS for end in alike):
        raise UserError(
            f"{name}: its choices stand in the order {', '.join(ends):.40}, so the answer 1 may be {ends[1]!r} or 'b'; "
            "write the answers as letters"
        )


def _truth(end: str) -> bool | None:
    return {"pos": True, "positive": True, "neg": False, "negative": False}.get(end.casefold(), yes_or_no(end))


def _by_name(values: Sequence[Any], ends: Sequence[str]) -> np.ndarray:
    """Returns the index of the column that each value names; as it is written, or else without regard to case."""
    exact = {end: index for index, end in enumerate(ends)}
    alike = [_simple(end) for end in ends]
    once = {text: index for index, text in enumerate(alike) if Counter(alike)[text] == 1}
    return np.array(
        [exact.get(str(value).strip(), once.get(_simple(value), UNKNOWN)) for value in values], dtype=np.int64
    )


def _simple(value: Any) -> str:
    """Returns a text in small letters, and whole numbers in one way.

    >>> [_simple(value) for value in (" B", "01", 1.0, "1.0", True)]
    ['b', '1', '1', '1', 'true']
    """
    whole = as_choice(value) if not str(value).strip().isalpha() else UNKNOWN
    return str(value).strip().casefold() if whole == UNKNOWN else str(whole)


def as_choice(value: Any) -> int:
    """Returns the index that a number or a letter names.

    >>> [as_choice(value) for value in (2, 2.0, "2", "c", "C", "red", None, "infinity", "9" * 400)]
    [2, 2, 2, 2, 2, -1, -1, -1, -1]
    """
    text = str(value).strip().lower()
    if len(text) == 1 and text in LETTERS:
        return LETTERS.index(text)
    index = number(value)
    return int(index) if 0 <= index < 2**31 and index == int(index) else UNKNOWN
