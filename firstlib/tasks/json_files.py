"""JSON as data sets are published in it: one object a line, a list, or an object that holds rows.

Objects that hold rows are those of pandas' `to_json`, the hub's row viewer (`rows`), and objects with one list, such as
`data`, or with one list for each split.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from firstlib.tasks.delimited import encoding_of, opened
from firstlib.tasks.splits import splits_in

PEEK_BYTES = 2**12  # bytes read to see whether a file is a list
_HOLDERS = ("data", "rows", "questions", "examples", "instances", "items", "records")
_SPACE = re.compile(r"\s*")
Row = Mapping[str, Any]


def rows_of(file: Path) -> Iterator[tuple[str | None, Row]]:
    """Yields a file's rows, each with the key it stands under where the file holds a list for each split, else None.

    JSON Lines are read one at a time, everything else as a whole.

    Raises:
        ValueError: The file is not JSON in UTF-8 or UTF-16, or does not hold rows.
    """
    with opened(file) as stream:
        beginning = stream.read(PEEK_BYTES)
    encoding = encoding_of(beginning) or "utf-8-sig"
    if encoding.startswith("utf-8") and not beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _from_lines(file)
    else:
        yield from _from_whole(file, encoding)


def _from_lines(file: Path) -> Iterator[tuple[str | None, Row]]:
    """Yields a row a line; where the first line is not a whole object, or holds all rows, reads the file as one."""
    with opened(file) as stream:
        lines = ((number, line) for number, line in enumerate(stream, 1) if line.strip(b" \t\r\n\xef\xbb\xbf"))
        first, second = next(lines, None), next(lines, None)
        if first and (_is_cut(first[1]) if second else _holds_rows(_from_line(first[1], first[0]))):
            yield from _from_whole(file, "utf-8-sig")
            return
        for number, line in chain(filter(None, (first, second)), lines):
            yield None, _as_row(_from_line(line, number), f"line {number}")


def _is_cut(line: bytes) -> bool:
    """Whether a line is only the beginning of an object that is written over several lines."""
    return line.strip(b" \t\r\n\xef\xbb\xbf").rstrip().endswith((b"{", b"[", b",", b":"))


def _from_line(line: bytes, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_fields)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg} (column {error.colno})") from error
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object's fields; JSON itself lets one be there twice, and then the last wins in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the field {twice[:60]!r} is there twice in one object; leave one out")
    return found


def _from_whole(file: Path, encoding: str) -> Iterator[tuple[str | None, Row]]:
    with opened(file) as stream:
        text = stream.read().decode(encoding).removeprefix("\ufeff")
    values = list(_values(text))
    whole = values[0] if len(values) == 1 else values
    for split, rows in _tables(whole):
        yield from ((split, _as_row(row, f"row {number}")) for number, row in enumerate(rows, 1))


def _values(text: str) -> Iterator[Any]:
    """Yields the values of a text that holds one or several, one after the other."""
    decoder, place = json.JSONDecoder(object_pairs_hook=_fields), 0
    while (place := _SPACE.match(text, place).end()) < len(text):  # type: ignore[union-attr]
        value, place = decoder.raw_decode(text, place)
        yield value


def _holds_rows(value: Any) -> bool:
    return isinstance(value, dict) and (_by_split(value) is not None or _table(value) is not None)


def _tables(value: Any) -> list[tuple[str | None, Sequence[Any]]]:
    """Returns the lists of rows that a value holds, by the key of their split."""
    if isinstance(value, list):
        return [(None, value)]
    if isinstance(value, dict):
        by_split, table = _by_split(value), _table(value)
        if by_split is not None:
            return list(by_split.items())
        return [(None, table if table is not None else [value])]
    raise ValueError(f"holds {type(value).__name__}, not rows; write a list of objects, or one object a line")


def _by_split(value: dict[str, Any]) -> dict[str | None, list[Any]] | None:
    if value and all(len(splits_in(key)) == 1 and _are_rows(rows) for key, rows in value.items()):
        return {key: rows if isinstance(rows, list) else list(rows.values()) for key, rows in value.items()}
    return None


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _table(value: dict[str, Any]) -> list[Any] | None:
    """Returns the rows of an object that holds some, as pandas and the hub's row viewer write them."""
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # orient="split"
        return [dict(zip(value["columns"], cells, strict=True)) for cells in value["data"]]
    if _are_rows(value.get("rows")) and all(isinstance(row.get("row"), dict) for row in value["rows"]):
        return [row["row"] for row in value["rows"]]  # the hub's row viewer
    held = [key for key, rows in value.items() if _are_rows(rows)]
    if held in ([name] for name in _HOLDERS):
        return value[held[-1]]
    inner = list(value.values())
    if len(inner) > 1 and all(isinstance(part, dict) and part for part in inner):
        return _by_column(value) if all(map(_is_numbered, inner)) else inner if _is_numbered(value) else None
    if len(inner) > 1 and all(isinstance(part, list) for part in inner) and len({len(part) for part in inner}) == 1:
        return [dict(zip(value, cells, strict=True)) for cells in zip(*inner, strict=True)]  # orient="list"
    return None


def _is_numbered(value: dict[str, Any]) -> bool:
    return all(key.isdecimal() for key in value)


def _by_column(value: dict[str, Any]) -> list[Any]:
    """Returns the rows of pandas' default, `{"question": {"0": ...}, "answer": {"0": ...}}`."""
    numbers = dict.fromkeys(number for column in value.values() for number in column)
    return [{name: column.get(number) for name, column in value.items()} for number in numbers]


def _as_row(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: must be an object with fields, not {type(row).__name__}")
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
