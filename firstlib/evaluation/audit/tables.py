"""Reads tables of answers: CSV, JSON Lines or Parquet with confidences, or with each choice's probability.

| what a table holds | columns |
|---|---|
| confidences | `confidence`, from 0 to 1, and `correct`: true or false, 1 or 0 |
| probabilities | a column of lists (`probabilities`), or one column for each choice (`p_a`, `p_b`, ...), and `answer` |

`answer` is the index of the right choice from 0, a letter, or the name of its column without the prefix. Columns `id`
and `subject` are read where they are there.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from firstlib.evaluation.audit.answers import SUM_TOLERANCE, UNKNOWN, Answers, Reading, of_probabilities
from firstlib.evaluation.audit.options import Columns, Options
from firstlib.evaluation.audit.unusable import Unusable
from firstlib.runtime.errors import UserError, first_line

KIND = "a table of answers"
STDIN = "-"
USUAL = {
    "confidence": ("confidence", "conf"),
    "correct": ("correct", "is_correct"),
    "probabilities": ("probabilities", "probs"),
    "answer": ("answer", "label", "target"),
    "id": ("id", "question_id"),
    "by": ("subject", "task"),
}
_ONE_CHOICE = re.compile(r"(?:p|prob|probability)_(?P<choice>.+)")
_PARQUET, _LETTERS = b"PAR1", "abcdefghijklmnopqrstuvwxyz"


def read(place: str, options: Options) -> Answers:
    """Returns the answers in a table, or on standard input.

    Raises:
        UserError: The table is not readable, lacks a column, or too many of its rows cannot be used.
    """
    content = sys.stdin.buffer.read() if place == STDIN else None
    return of_table("standard input" if place == STDIN else place, _loaded(place, content), options)


def of_table(name: str, table: pa.Table, options: Options) -> Answers:
    """Returns the answers in a table that is read already; `name` stands in messages."""
    found = _Table(name, table, options.columns)
    if not table.num_rows:
        raise UserError(f"{name}: has no rows; give a table that holds answers")
    return _of_confidences(found, options) if found.has_confidences() else _of_probabilities(found, options)


# -- files -------------------------------------------------------------------------------------------------------


def _loaded(place: str, content: bytes | None) -> pa.Table:
    file = Path(place)
    try:
        source: Any = file if content is None else BytesIO(content)
        kind = _kind(file.suffix if content is None else "", content if content is not None else _start(file))
        return _FORMATS[kind](source)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        name = "standard input" if content is not None else place
        raise UserError(f"{name}: is not readable as a table ({first_line(error):.160}); correct it") from error


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(4096)


def _kind(suffix: str, start: bytes) -> str:
    if start.startswith(_PARQUET):
        return "parquet"
    if suffix in (".jsonl", ".json", ".ndjson") or (not suffix and start.lstrip()[:1] in (b"{", b"[")):
        return "json"
    return "tsv" if suffix == ".tsv" else "csv"


def _from_json(source: Any) -> pa.Table:
    text = (source.read() if isinstance(source, BytesIO) else source.read_bytes()).decode("utf-8-sig")
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        rows = [_json_line(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
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
        return pa.array([None if value is None else json.dumps(value).strip('"') for value in values])


def _from_csv(source: Any, delimiter: str = ",") -> pa.Table:
    convert = pa.csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    return pa.csv.read_csv(source, parse_options=pa.csv.ParseOptions(delimiter=delimiter), convert_options=convert)


_FORMATS: dict[str, Callable[[Any], pa.Table]] = {
    "parquet": pq.read_table,
    "json": _from_json,
    "csv": _from_csv,
    "tsv": lambda source: _from_csv(source, "\t"),
}


# -- columns -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table with the names of its columns."""

    name: str
    table: pa.Table
    columns: Columns

    def has_confidences(self) -> bool:
        """Whether the table is read by its confidences."""
        if self.columns.probabilities or self.columns.answer:
            return False
        named = self.columns.confidence or self.columns.correct
        return bool(named or (self._usual("confidence") and self._usual("correct")))

    def column(self, role: str) -> str:
        """Returns the name of a column that must be there."""
        found = self.optional(role)
        if found is None:
            has = ", ".join(map(repr, self.table.column_names[:8])) + ", ..." * (len(self.table.column_names) > 8)
            raise UserError(
                f"{self.name}: has no column {USUAL[role][0]!r}; it has {has:.200}; name yours with --{role}"
            )
        return found

    def optional(self, role: str) -> str | None:
        """Returns the name of a column, or None where there is none of the usual names."""
        named = getattr(self.columns, role)
        if named is None:
            return self._usual(role)
        if named not in self.table.column_names:
            raise UserError(f"{self.name}: has no column {named!r}; check --{role}")
        return named

    def choices(self) -> list[str]:
        """Returns the columns that hold probabilities: one of lists, or one for each choice."""
        named = list(self.columns.probabilities)
        for name in named:
            if name not in self.table.column_names:
                raise UserError(f"{self.name}: has no column {name!r}; check --probabilities")
        if named:
            return named
        if (lists := self._usual("probabilities")) is not None:
            return [lists]
        found = [name for name in self.table.column_names if _ONE_CHOICE.fullmatch(name)]
        if len(found) < 2:
            raise UserError(
                f"{self.name}: has neither `confidence` and `correct` nor `probabilities` and `answer`; it has "
                f"{', '.join(map(repr, self.table.column_names[:8])):.160}; name yours: --confidence and --correct, "
                "or --probabilities and --answer"
            )
        return found

    def texts(self, role: str) -> np.ndarray | None:
        """Returns an optional column as texts `(N,)`; an empty field is an empty text."""
        name = self.optional(role)
        if name is None:
            return None
        column = self.table.column(name)
        if pa.types.is_nested(column.type):
            raise UserError(f"{self.name}: column {name!r} holds lists; give one of texts or numbers as --{role}")
        return np.array(pc.fill_null(pc.cast(column, pa.string()), "").to_pylist())

    def floats(self, name: str) -> np.ndarray:
        """Returns a column as float64 `(N,)`, NaN where a field is empty or not a number."""
        column = self.table.column(name).combine_chunks()
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        return np.array([_number(value) for value in column.to_pylist()])

    def _usual(self, role: str) -> str | None:
        return next((name for name in USUAL[role] if name in self.table.column_names), None)


def _number(value: Any) -> float:
    try:
        return float("nan") if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return float("nan")


# -- confidences -------------------------------------------------------------------------------------------------


def _of_confidences(found: _Table, options: Options) -> Answers:
    if options.reading is not None:
        raise UserError(f"{found.name}: has confidences, which can be read in one way only; leave out --reading")
    confidence = found.floats(found.column("confidence"))
    correct = _verdicts(found, found.column("correct"))
    unusable = Unusable(found.name, options.allowed)
    good = _kept(unusable, (
        (confidence >= 0) & (confidence <= 1),
        lambda row: f"confidence is {_told(found, 'confidence', row)}; it must be from 0 to 1, not a percentage",
    ), (
        correct >= 0, lambda row: f"correct is {_told(found, 'correct', row)}; it must be true or false, or 1 or 0",
    ))  # fmt: skip
    return _answers(found, good, unusable, "candidates", confidence, correct == 1)


def _told(found: _Table, role: str, row: int) -> str:
    return f"{found.table.column(found.column(role))[row].as_py()!r:.40}"


def _verdicts(found: _Table, name: str) -> np.ndarray:
    """Returns 1 for right, 0 for wrong, -1 for anything else, `(N,)`."""
    column = found.table.column(name).combine_chunks()
    if pa.types.is_boolean(column.type):
        return pc.fill_null(pc.cast(column, pa.int8()), -1).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        values = found.floats(name)
        return np.where(values == 1, 1, np.where(values == 0, 0, -1))
    words = {"true": 1, "false": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}
    return np.array([words.get(str(value).strip().lower(), -1) for value in column.to_pylist()])


# -- probabilities -----------------------------------------------------------------------------------------------


def _of_probabilities(found: _Table, options: Options) -> Answers:
    if options.reading == "acc_norm":
        raise UserError("reading acc_norm: only logs of lm-evaluation-harness have it; use candidates or vocabulary")
    names = found.choices()
    rows, count = _lists(found, names[0]) if len(names) == 1 else _side_by_side(found, names)
    answer = _right(found, names, count)
    unusable, total = Unusable(found.name, options.allowed), rows.sum(axis=1)
    within = ((rows >= 0) & (rows <= 1)).all(axis=1) & (count >= 2)
    checks = [
        (count >= 2, lambda row: f"has {count[row]} probabilities; a question has two choices or more"),
        (within, lambda row: f"has the probability {_outside(rows[row]):g}; it must be from 0 to 1"),
        (answer != UNKNOWN, lambda row: f"answer {_told(found, 'answer', row)} is none of its {count[row]} choices"),
    ]
    if options.reading is None:
        sums = np.abs(total - 1) <= SUM_TOLERANCE
        remedy = "--reading candidates divides by the sum, --reading vocabulary does not"
        checks.append((sums, lambda row: f"its probabilities sum to {total[row]:.6g}; {remedy}"))
    checks.append((total > 0, lambda row: "its probabilities are all 0"))
    checks.append((total <= 1 + SUM_TOLERANCE if options.reading == "vocabulary" else total >= 0,
                   lambda row: f"its probabilities sum to {total[row]:.6g}, more than 1"))  # fmt: skip
    good = _kept(unusable, *checks)
    if options.reading == "candidates":
        rows = rows / np.where(total > 0, total, 1)[:, None]
    confidence, correct = of_probabilities(rows, answer)
    return _answers(found, good, unusable, options.reading or "candidates", confidence, correct, rows, answer)


def _outside(row: np.ndarray) -> float:
    return float(row[~((row >= 0) & (row <= 1))][0])


def _lists(found: _Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities `(N, C)`, 0 where a list is shorter, and the length of each list `(N,)`."""
    column = found.table.column(name).combine_chunks()
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        column = _parsed(found, name, column)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = column.flatten()
    if not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise UserError(f"{found.name}: column {name!r} holds lists of {flat.type}; give lists of numbers")
    rows = np.zeros((len(lengths), max(1, int(lengths.max(initial=0)))))
    exists = np.arange(rows.shape[1]) < lengths[:, None]
    rows[exists] = pc.cast(flat, pa.float64()).to_numpy(zero_copy_only=False)
    return rows, lengths


def _parsed(found: _Table, name: str, column: pa.Array) -> pa.Array:
    """Returns lists that a CSV file holds as JSON texts."""
    try:
        return pa.array([None if text is None else json.loads(text) for text in column.to_pylist()])
    except (TypeError, ValueError, RecursionError, pa.ArrowException) as error:
        raise UserError(f"{found.name}: column {name!r} holds no lists of numbers; name yours with --probabilities") \
            from error  # fmt: skip


def _side_by_side(found: _Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities `(N, C)` and the number of choices `(N,)`; empty fields at a row's end are no choices."""
    rows = np.stack([found.floats(name) for name in names], axis=1)
    given = np.stack([pc.is_valid(found.table.column(name)).to_numpy() for name in names], axis=1)
    count = given.shape[1] - given[:, ::-1].argmax(axis=1)
    count[~given.any(axis=1)] = 0
    return np.where(np.arange(len(names)) < count[:, None], rows, 0.0), count


def _right(found: _Table, names: Sequence[str], count: np.ndarray) -> np.ndarray:
    """Returns the index of each row's right choice, or `UNKNOWN`."""
    column = found.table.column(found.column("answer")).combine_chunks()
    own = [found_name["choice"] if (found_name := _ONE_CHOICE.fullmatch(name)) else name for name in names]
    texts = np.array(pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()) if len(names) > 1 else None
    if texts is not None and np.isin(texts[texts != ""], own).all():
        places = {text: place for place, text in enumerate(own)}
        answer = np.array([places.get(text, UNKNOWN) for text in texts])
    elif pa.types.is_integer(column.type):
        answer = pc.fill_null(column, UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        answer = np.array([_as_choice(value) for value in column.to_pylist()])
    return np.where((answer >= 0) & (answer < count), answer, UNKNOWN)


def _as_choice(value: Any) -> int:
    """Returns the index that a number or a letter names.

    >>> [_as_choice(value) for value in (2, 2.0, "2", "c", "C", "red", None)]
    [2, 2, 2, 2, 2, -1, -1]
    """
    text = str(value).strip().lower()
    if len(text) == 1 and text in _LETTERS:
        return _LETTERS.index(text)
    number = _number(value)
    return int(number) if number == number and number == int(number) and number >= 0 else UNKNOWN


# -- rows --------------------------------------------------------------------------------------------------------


def _kept(unusable: Unusable, *checks: tuple[np.ndarray, Callable[[int], str]]) -> np.ndarray:
    """Returns the rows that pass every check, and counts the others by the first check that they fail."""
    left = np.ones(len(checks[0][0]), bool)
    for passed, reason in checks:
        failed = np.flatnonzero(left & ~passed)
        for row in failed[:3]:
            unusable.add(int(row) + 1, reason(int(row)), 0)
        unusable.count += len(failed)
        left &= passed
    return np.flatnonzero(left)


def _answers(
    found: _Table, good: np.ndarray, unusable: Unusable, reading: Reading, confidence: np.ndarray, correct: np.ndarray,
    probabilities: np.ndarray | None = None, answer: np.ndarray | None = None,
) -> Answers:  # fmt: skip
    ids, groups = found.texts("id"), found.texts("by")
    lost = unusable.settled(found.table.num_rows)
    whole = Answers(found.name, KIND, reading, confidence, correct, probabilities, answer, ids, groups, lost=lost)
    kept = whole if len(good) == len(whole) else whole.take(good)
    if kept.ids is not None and len(np.unique(kept.ids)) < len(kept):
        values, counts = np.unique(kept.ids, return_counts=True)
        raise UserError(f"{found.name}: the id {str(values[counts > 1][0])!r:.60} is there twice; make ids unique")
    return kept
