"""Reads tables of answers: CSV, JSON Lines or Parquet with confidences, or with each choice's probability.

| what a table holds | columns |
|---|---|
| confidences | `confidence`, from 0 to 1, and `correct`: true or false, 1 or 0 |
| probabilities | a column of lists (`probabilities`), or one column for each choice (`p_a`, `p_b`, ...), and `answer` |

`answer` is the index of the right choice from 0, a letter, or the name of its column without the prefix. Columns `id`
and `subject` are read where they are there.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firstlib.evaluation.audit import choices
from firstlib.evaluation.audit.answers import SHOWN, UNKNOWN, Answers, Reading, of_probabilities, refuse_acc_norm
from firstlib.evaluation.audit.columns import USUAL, Table, is_number, texts_among
from firstlib.evaluation.audit.options import Options
from firstlib.evaluation.audit.right_answers import right_choices
from firstlib.evaluation.audit.table_files import loaded
from firstlib.evaluation.audit.unusable import Unusable
from firstlib.metrics.checks import SUM_TOLERANCE
from firstlib.runtime.errors import UserError

KIND = "a table of answers"
STDIN = "-"


def read(place: str, options: Options) -> Answers:
    """Returns the answers in a table, or on standard input.

    Raises:
        UserError: The table is not readable, lacks a column, or too many of its rows cannot be used.
    """
    name, source = ("standard input", sys.stdin.buffer.read()) if place == STDIN else (place, Path(place))
    return of_table(name, loaded(name, source, texts_among(options.columns)), options)


def of_table(name: str, table: pa.Table, options: Options) -> Answers:
    """Returns the answers in a table that is read already; `name` stands in messages."""
    found = Table(name, table, options.columns)
    if not len(found):
        raise UserError(f"{name}: has no rows; give a table that holds answers")
    return _of_confidences(found, options) if found.has_confidences() else _of_probabilities(found, options)


# -- confidences -------------------------------------------------------------------------------------------------


def _of_confidences(found: Table, options: Options) -> Answers:
    if options.reading is not None:
        raise UserError(f"{found.name}: has confidences, which can be read in one way only; leave out --reading")
    sure, right = found.column("confidence"), found.column("correct")
    confidence, correct = found.floats(sure), _verdicts(found, right)
    unusable = Unusable(found.name, options.allowed)
    good = _kept(unusable, (
        (confidence >= 0) & (confidence <= 1),
        lambda row: f"confidence is {found.told_number(sure, row)}",
    ), (
        correct >= 0, lambda row: f"correct is {found.cell(right, row)}; it must be true or false, or 1 or 0",
    ))  # fmt: skip
    return _answers(found, good, unusable, "candidates", confidence, correct == 1)


def _verdicts(found: Table, name: str) -> np.ndarray:
    """Returns 1 for right, 0 for wrong, -1 for anything else, `(N,)`."""
    column = found.cells(name)
    if pa.types.is_boolean(column.type):
        return pc.fill_null(pc.cast(column, pa.int8()), -1).to_numpy(zero_copy_only=False)
    if is_number(column.type):
        values = found.floats(name)
        return np.where(values == 1, 1, np.where(values == 0, 0, -1))
    words = {"true": 1, "false": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}
    return np.array([words.get(str(value).strip().lower(), -1) for value in column.to_pylist()])


# -- probabilities -----------------------------------------------------------------------------------------------


def _of_probabilities(found: Table, options: Options) -> Answers:
    refuse_acc_norm(options.reading)
    names, right = choices.named(found), found.column("answer")
    _check_other_answer(found, right)
    rows, count = choices.probabilities(found, names)
    answer = right_choices(found, names, count, options.allowed)
    unusable, total = Unusable(found.name, options.allowed), rows.sum(axis=1)
    within = ((rows >= 0) & (rows <= 1)).all(axis=1) & (count >= 2)
    checks = [
        (count >= 2, lambda row: _too_few(found, names, int(count[row]), row)),
        (within, lambda row: _outside(found, names, rows[row], row)),
        (
            answer != UNKNOWN,
            lambda row: (
                f"answer {found.cell(right, row)} is none of its {count[row]} choices: give "
                "its place from 0, a letter or the end of its column's name"
            ),
        ),
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


def _check_other_answer(found: Table, right: str) -> None:
    """Refuses a column `correct` that holds other answers, as it does where `answer` is the model's own."""
    other = USUAL["correct"][0]
    if found.columns.answer or other not in found.table.column_names or (_verdicts(found, other) >= 0).any():
        return
    if found.cells(other).cast(pa.string()).to_pylist() != found.cells(right).cast(pa.string()).to_pylist():
        raise UserError(f"{found.name}: columns {right!r} and {other!r} differ; choose one with --answer")


def _too_few(found: Table, names: Sequence[str], count: int, row: int) -> str:
    if len(names) == 1 and not count:
        return f"{names[0]} is {found.cell(names[0], row)}; it must be a list of numbers"
    return f"has {count} probabilities; a question has two choices or more"


def _outside(found: Table, names: Sequence[str], probabilities: np.ndarray, row: int) -> str:
    place = int(np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))[0])
    if len(names) == 1:
        return f"has the probability {probabilities[place]:g}; it must be from 0 to 1"
    return f"{names[place]} is {found.told_number(names[place], row)}"


# -- rows --------------------------------------------------------------------------------------------------------


def _kept(unusable: Unusable, *checks: tuple[np.ndarray, Callable[[int], str]]) -> np.ndarray:
    """Returns the rows that pass every check, and counts the others by the first check that they fail."""
    left = np.ones(len(checks[0][0]), bool)
    for passed, reason in checks:
        failed = np.flatnonzero(left & ~passed)
        for row in failed[:SHOWN]:
            unusable.add(int(row) + 1, reason(int(row)), 0)
        unusable.count += len(failed)
        left &= passed
    return np.flatnonzero(left)


def _answers(
    found: Table, good: np.ndarray, unusable: Unusable, reading: Reading, confidence: np.ndarray, correct: np.ndarray,
    probabilities: np.ndarray | None = None, answer: np.ndarray | None = None,
) -> Answers:  # fmt: skip
    ids, groups = found.texts("id"), found.texts("by")
    lost = unusable.settled(len(found))
    whole = Answers(found.name, KIND, reading, confidence, correct, probabilities, answer, ids, groups, lost=lost)
    kept = whole if len(good) == len(whole) else whole.take(good)
    if kept.ids is not None and len(np.unique(kept.ids)) < len(kept):
        values, counts = np.unique(kept.ids, return_counts=True)
        raise UserError(f"{found.name}: the id {str(values[counts > 1][0])!r:.60} is there twice; make ids unique")
    return kept
