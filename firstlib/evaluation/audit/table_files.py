"""Reads files of tables: CSV, JSON Lines, a JSON list or Parquet, in any Unicode encoding, or says what is wrong where.

pyarrow reads what a strict reader refuses: a quote that nothing closes swallows the rows after it. Quotes are therefore
checked first.
"""

import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from firstlib.runtime.errors import UserError, first_line
from firstlib.tasks.delimited import SAMPLE_BYTES, encoding_of, separator_of

_PARQUET, _ARCHIVE, _MARK = b"PAR1", b"PK\x03\x04", b"\xef\xbb\xbf"
_START = 4096  # bytes that tell what a file is
_ANNOUNCED = re.compile(rb'"?sep=([^\r\n"])"?\r?\n', re.IGNORECASE)
_FIRST_LINE = re.compile(rb"[\r\n]*([^\r\n]*)")
_UNEVEN, _CUT = re.compile(r"Expected (\d+) columns, got (\d+): (.*)", re.DOTALL), " ..."
_BLOCK = 2**24  # bytes; a row may be as long, and pyarrow's own megabyte is less than some passages


def loaded(name: str, source: Path | bytes, texts: Sequence[str]) -> pa.Table:
    """Returns a table as it stands in a file, or in bytes that came without one.

    Args:
        name: What messages call it.
        source: The file; its name may end in `.gz`. Or its content.
        texts: Columns whose cells a CSV file keeps as they are written: the id `001` is not `1`.

    Raises:
        UserError: It is not readable as a table.
    """
    try:
        if _start_of(source) == _PARQUET:
            return pq.ParquetFile(BytesIO(source) if isinstance(source, bytes) else source).read()
        if _start_of(source) == _ARCHIVE:
            raise UserError("is a spreadsheet or an archive; save it as CSV")
        content, suffix = (source, "") if isinstance(source, bytes) else _unpacked(source)
        content = _utf8(content)
        if suffix in (".jsonl", ".json", ".ndjson") or (
            suffix not in (".csv", ".tsv") and content.lstrip()[:1] in (b"{", b"[")
        ):
            return _from_json(content.decode())
        return _from_csv(content, "\t,;|" if suffix == ".tsv" else ",;\t|", texts)
    except UnicodeDecodeError as error:
        line = _line(error.object, error.start)
        raise UserError(f"{name}: line {line} is not in {error.encoding.upper()}; save it as UTF-8") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error.__cause__
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        raise UserError(f"{name}: is not readable as a table ({first_line(error):.200}); correct it") from error


def _start_of(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[: len(_PARQUET)]
    with source.open("rb") as opened:
        return opened.read(len(_PARQUET))


def _unpacked(file: Path) -> tuple[bytes, str]:
    """Returns a file's bytes, and the end of its name that tells the format."""
    with pa.input_stream(str(file)) as stream:  # it unpacks by the end of the name
        return stream.read(), (file.with_suffix("") if file.suffix == ".gz" else file).suffix.lower()


def _utf8(content: bytes) -> bytes:
    """Returns a text in UTF-8, without the mark at its beginning."""
    encoding = encoding_of(content[:_START])
    if encoding in (None, "utf-8-sig"):
        text = content.removeprefix(_MARK)
    else:
        text = content.decode(str(encoding)).removeprefix("\ufeff").encode()
    if b"\0" in text[:_START]:
        raise UserError("is no text; give CSV, JSON Lines or Parquet")
    return text


# -- JSON --------------------------------------------------------------------------------------------------------


def _from_json(text: str) -> pa.Table:
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:  # only these ends: other line breaks, such as U+2028, may stand inside a JSON text
        rows = [_json_line(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    bad = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if bad is not None:
        raise ValueError(f"row {bad} is not an object with fields")
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _json_line(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg}, column {error.colno}") from error


def _column(values: list[Any]) -> pa.Array:
    """Returns a column; values of mixed types become texts, which the checks of each column read or refuse."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


# -- CSV ---------------------------------------------------------------------------------------------------------


def _from_csv(content: bytes, separators: str, texts: Sequence[str]) -> pa.Table:
    announced = _ANNOUNCED.match(content)  # Excel's own first line
    start = announced.end() if announced else 0
    heading = _FIRST_LINE.match(content, start)[1].decode()  # type: ignore[index]  # it matches anything
    separator = announced[1].decode() if announced else _separator(content, heading, separators)
    _check_quotes(content, start, separator)
    reading = pa.csv.ReadOptions(block_size=_BLOCK)
    parsing = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content)
    converting = pa.csv.ConvertOptions(
        null_values=[""], strings_can_be_null=True, column_types=dict.fromkeys(texts, pa.string()),
        decimal_point="," if separator == ";" else ".",
    )  # fmt: skip
    try:
        return pa.csv.read_csv(pa.BufferReader(pa.py_buffer(content).slice(start)), reading, parsing, converting)
    except pa.ArrowException as error:
        if uneven := _UNEVEN.search(str(error)):
            raise UserError(_told(content, *uneven.groups())) from error
        if "UTF8" in str(error):
            content.decode()  # it says where
        raise


def _separator(content: bytes, heading: str, separators: str) -> str:
    """Returns the separator in the heading; of several, the one that the first rows agree with."""
    found = [mark for mark in separators if mark in heading]
    if len(found) < 2:
        return found[0] if found else ","
    try:
        return separator_of(content[:SAMPLE_BYTES].decode(errors="ignore"))
    except ValueError as error:
        raise UserError(str(error)) from error


def _told(content: bytes, columns: str, cells: str, row: str) -> str:
    """Returns what is wrong with a row of too many cells or too few, and where; pyarrow cuts a long row."""
    end = rb"\r?$" if row == row.removesuffix(_CUT) else b""
    place = re.search(rb"^%b%b" % (re.escape(row.removesuffix(_CUT).encode()), end), content, re.MULTILINE)
    where = f"line {_line(content, place.start())}" if place else "a row"
    return f"{where}: {cells} cells, but {columns} columns have names; put cells that hold the separator in quotes"


def _line(content: bytes, place: int) -> int:
    return content[:place].count(b"\n") + 1


def _check_quotes(content: bytes, start: int, separator: str) -> None:
    """Refuses a quote that nothing closes before the rows after it have become a part of its cell."""
    if b'"' not in content or _strictly_quoted(content, separator):
        return
    mark = re.escape(separator.encode())
    cells = rb'"(?:(?<=\A")|(?<=[%b\r\n]"))[^"]*(?:""[^"]*)*(?P<end>"?)(?P<after>[^%b\r\n]*)' % (mark, mark)
    for cell in re.finditer(cells, content[start:]):
        several_lines = b"\n" in cell[0] or b"\r" in cell[0]
        if not cell["end"] or (cell["after"] and several_lines):
            line = _line(content, start + cell.start())
            raise UserError(f"line {line}: a quote opens a cell, and none closes it; write quotes inside cells twice")


def _strictly_quoted(content: bytes, separator: str) -> bool:
    """Whether quotes stand around whole cells only, or twice inside: true of most files, and quick to say."""
    marks = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(marks == ord('"'))
    if len(quotes) % 2:
        return False
    outside = np.isin(np.arange(256), list(f'{separator}\r\n"'.encode()))
    opening, closing = quotes[::2], quotes[1::2]
    before = outside[marks[opening - 1]] | (opening == 0)
    return bool(before.all() and outside[marks[np.minimum(closing + 1, len(marks) - 1)]].all())
