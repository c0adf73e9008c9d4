"""CSV as spreadsheets and pandas write it: any of four separators, any usual encoding, and every cell read as text."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

SEPARATORS = ",;\t|"
LONGEST_CELL = 2**27  # characters; Python's own bound is 131,072, which a long passage exceeds
SAMPLE_BYTES = 2**18
SAMPLE_LINES = 100
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LINE_END = re.compile(r"\r\n|\r|\n")
# Lines inside quotes, all of which read as rows of their own, from which this is no chance: prose has no tabs.
_FEWEST_LINES, _FEWEST_WITH_TABS = 5, 2
_MOST_FOREIGN = 0.25  # share of letters beyond ASCII that text in a western language may have


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Opens a file's bytes, unpacked if its name ends in `.gz`."""
    packed = file.suffix.lower() == ".gz"
    with cast(IO[bytes], gzip.open(file, "rb") if packed else file.open("rb")) as stream:
        yield stream


def encoding_of(beginning: bytes) -> str | None:
    """Returns the encoding that a file's mark or its zero bytes tell; None: neither is there.

    >>> encoding_of("id".encode("utf-16")), encoding_of("id: a".encode("utf-16-le")), encoding_of(b"id")
    ('utf-16', 'utf-16-le', None)
    """
    marked = next((name for mark, name in _MARKS.items() if beginning.startswith(mark)), None)
    even, odd = beginning[:200:2].count(0), beginning[1:200:2].count(0)
    half = len(beginning[:200]) // 4
    return marked or ("utf-16-le" if odd >= half > even else "utf-16-be" if even >= half > odd else None)


def rows_of(file: Path, encoding: str | None = None) -> Iterator[dict[str, str | None]]:
    """Yields the rows of a CSV file by heading, one at a time. An empty cell is None; `NA` and `None` are text.

    Raises:
        ValueError: The separator cannot be told, a row has more cells than the heading, quotes that are part of the
            text make several rows one, or the text cannot be decoded.
    """
    csv.field_size_limit(LONGEST_CELL)
    encoding = encoding or _encoding(file)
    with opened(file) as stream, io.TextIOWrapper(stream, encoding, newline="") as text:
        separator = _announced(text) or _separator(file, encoding)
        lines = csv.reader(text, delimiter=separator, strict=True)
        try:
            yield from _rows(lines, separator)
        except csv.Error as error:
            raise ValueError(
                f"line {lines.line_num}: {error}; put cells with quotes or separators in quotes"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"after line {lines.line_num}: not {encoding} ({error.reason}); save it as UTF-8"
            ) from error


def _rows(lines: "csv._reader", separator: str) -> Iterator[dict[str, str | None]]:  # type: ignore[name-defined]
    heading = [name.strip() for name in next(lines, [])]
    if names := _names_of_mmlu(heading):
        yield dict(zip(names, heading, strict=True))
        heading = names
    named = [name for name in heading if name]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"two columns are called {twice[0][:40]!r}; name each column once, in the first line")
    quotes = _Quotes(separator, max((place for place, name in enumerate(heading, 1) if name), default=0))
    before = lines.line_num
    for cells in lines:
        first, before = before + 1, lines.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(heading) :]):
            raise ValueError(
                f"line {lines.line_num}: {len(cells)} cells, but {len(heading)} columns have names; put cells that "
                "hold the separator in quotes"
            )
        if before > first:
            quotes.add(cells, first, before)
        padded = cells + [""] * (len(heading) - len(cells))
        yield {name: cell or None for name, cell in zip(heading, padded, strict=False) if name}
    quotes.check()


@dataclass
class _Quotes:
    """The rows of several lines: written so, or made one by a quotation mark that is part of a text.

    Where cells are not put in quotes, a text that begins with a quotation mark takes in all that follows up to the
    next cell that ends in one. Each line of such a row is then a whole row. In a file that puts cells in quotes, the
    lines of a cell have other numbers of separators, by chance the right one.

    Attributes:
        separator: Of the cells.
        columns: Cells of a row, up to the last with a name.
        lines: Lines of rows in which each line may be a row of its own.
        place: The first of these rows, for a message.
        told: Whether a row of several lines was written so.
    """

    separator: str
    columns: int
    lines: int = 0
    place: str = ""
    told: bool = False

    def add(self, cells: list[str], first: int, last: int) -> None:
        """Notes a row of several lines.

        Raises:
            ValueError: It has too few cells.
        """
        if len(cells) < self.columns:
            raise ValueError(self._message(f"lines {first} to {last}"))
        mark = self.separator
        parts = [part for part in _LINE_END.split(mark.join(cells)) if part.strip()]
        if len(parts) < 2 or self.columns < 2:
            return
        if any(part.count(mark) != self.columns - 1 or part.startswith(mark) for part in parts):
            self.told = True
            return
        self.lines += len(parts)
        self.place = self.place or f"lines {first} to {last}"

    def check(self) -> None:
        """Refuses a file in which all rows of several lines may be several rows.

        Raises:
            ValueError: It has such rows, and enough of them.
        """
        fewest = _FEWEST_WITH_TABS if self.separator == "\t" else _FEWEST_LINES
        if not self.told and self.lines >= fewest:
            raise ValueError(self._message(self.place))

    def _message(self, place: str) -> str:
        return (
            f"{place} are one row, because a cell begins with a quotation mark and a later one ends in one; put cells "
            "with quotation marks in quotes, and double the marks inside, or save it as JSONL"
        )


def _names_of_mmlu(first: list[str]) -> list[str]:
    """Returns the names of columns that MMLU's own files leave out: question, choices, letter; empty: not needed."""
    count = len(first) - 2
    letters = list("ABCDEFGHIJ"[:count])
    if (
        count < 2
        or first[-1] not in letters
        or any(len(cell) < 2 for cell in first[:1])
        or any(cell in letters for cell in first[:-1])
        or "question" in map(str.lower, first)
    ):
        return []
    return ["question", *letters, "answer"]


def _announced(text: IO[str]) -> str | None:
    """Reads past Excel's own first line, `sep=;`, and returns its separator; None: the file has no such line."""
    start = text.tell()
    first = text.readline().strip().strip('"')
    if first.lower().startswith("sep=") and len(first) == 5:
        return first[4]
    text.seek(start)
    return "\t" if first.lower() == "sep=" else None


def _separator(file: Path, encoding: str) -> str:
    with opened(file) as stream:
        return separator_of(codecs.getincrementaldecoder(encoding)().decode(stream.read(SAMPLE_BYTES)))


def separator_of(sample: str) -> str:
    """Returns the separator under which a text's first rows have as many cells as its heading.

    Raises:
        ValueError: Two separators fit equally well.
    """
    tables = {mark: _first_rows(sample, mark) for mark in SEPARATORS}
    wide = {mark: len(rows[0]) for mark, rows in tables.items() if rows and len(rows[0]) > 1}
    agreeing = {mark: width for mark, width in wide.items() if _agree(tables[mark])} or wide
    best = [mark for mark, width in agreeing.items() if width == max(agreeing.values())]
    if len(best) > 1:
        raise ValueError(f"the separator may be {' or '.join(map(repr, best))}; write a first line `sep=,` or `sep=;`")
    return best[0] if best else ","


def _first_rows(text: str, separator: str) -> list[list[str]]:
    """Returns the rows that the text begins with, the last one left out: the text may end inside it."""
    rows: list[list[str]] = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            rows += [cells] if cells else []
            if len(rows) > SAMPLE_LINES:
                break
    except csv.Error:  # also where the text ends inside quotes
        return rows
    return rows[:-1] if len(rows) > 2 else rows


def _agree(rows: list[list[str]]) -> bool:
    columns = len(rows[0])
    return all(len(cells) == columns or not any(cells[columns:]) for cells in rows if len(cells) >= columns) and (
        sum(len(cells) < columns for cells in rows) * 10 <= len(rows)
    )


def _encoding(file: Path) -> str:
    with opened(file) as stream:
        beginning = stream.read(SAMPLE_BYTES)
        marked = encoding_of(beginning)
        if marked:
            return marked
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(beginning)
            for piece in iter(lambda: stream.read(SAMPLE_BYTES), b""):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _windows(file)
    return "utf-8"


def _windows(file: Path) -> str:
    """Returns cp1252, in which western Windows programs write CSV, where the text can be in it.

    Raises:
        ValueError: The text is not in a western language, as read in cp1252.
    """
    with opened(file) as stream, io.TextIOWrapper(stream, "cp1252") as text:
        try:
            letters = [character for line in text for character in line if character.isalpha() or ord(character) > 127]
        except UnicodeDecodeError:
            letters = ["\xff"]
    foreign = sum(ord(letter) > 127 for letter in letters) / len(letters)
    if foreign > _MOST_FOREIGN:
        raise ValueError("neither UTF-8 nor Windows' cp1252; save it as UTF-8, or name its encoding in the preset")
    return "cp1252"
