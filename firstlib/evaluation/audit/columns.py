"""The columns of a table of answers: which holds what, and its cells as texts or numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firstlib.evaluation.audit.options import Columns
from firstlib.runtime.errors import UserError

USUAL = {
    "confidence": ("confidence", "conf"),
    "correct": ("correct", "is_correct"),
    "probabilities": ("probabilities", "probs"),
    "answer": (
        "answer", "label", "target", "gold", "answerKey", "answer_key", "correct_answer", "right_answer",
        "ground_truth", "truth", "expected",
    ),
    "id": ("id", "question_id"),
    "by": ("subject", "task"),
}  # fmt: skip
_ROUNDED = 1.5  # larger numbers are no rounded probabilities
_TEXTS = ("answer", "id", "by")  # parts that are compared as they are written


def texts_among(columns: Columns) -> list[str]:
    """Returns the names of columns that are texts, whatever they look like: the id `001` is not `1`."""
    named = {role: getattr(columns, role) for role in _TEXTS}
    return [name for role, given in named.items() for name in ((given,) if given else USUAL[role])]


@dataclass(frozen=True)
class Table:
    """A table, its name in messages, and the names of its columns."""

    name: str
    table: pa.Table
    columns: Columns

    def __len__(self) -> int:
        return int(self.table.num_rows)

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
            raise UserError(
                f"{self.name}: has no column {USUAL[role][0]!r}; it has {self.told():.200}; name yours with --{role}"
            )
        return found

    def optional(self, role: str) -> str | None:
        """Returns the name of a column, or None where there is none of the usual names."""
        named = getattr(self.columns, role)
        if named not in (None, ()):
            return self.known(named, role)
        found = self._usual(role)
        if len(found) > 1:
            first, second = found[:2]
            if self.cells(self.known(first, role)).to_pylist() != self.cells(self.known(second, role)).to_pylist():
                raise UserError(f"{self.name}: columns {first!r} and {second!r} differ; choose one with --{role}")
        return self.known(found[0], role) if found else None

    def known(self, name: str, role: str) -> str:
        """Returns a name that one column has, and refuses any other."""
        count = self.table.column_names.count(name)
        if count != 1:
            wrong = (
                f"column {name!r} is there twice; rename one"
                if count
                else f"has no column {name!r}; it has {self.told():.200}; check --{role}"
            )
            raise UserError(f"{self.name}: {wrong}")
        return name

    def told(self) -> str:
        """Returns the names of the first columns, for messages."""
        names = self.table.column_names
        return ", ".join(map(repr, names[:8])) + ", ..." * (len(names) > 8)

    def cells(self, name: str) -> pa.Array:
        """Returns a column's cells; those of a categorical one as what they stand for."""
        column = self.table.column(name)
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        return column.combine_chunks()

    def cell(self, name: str, row: int) -> str:
        """Returns one cell, for messages."""
        return f"{self.table.column(name)[row].as_py()!r:.40}"

    def told_number(self, name: str, row: int) -> str:
        """Returns a cell that is no number from 0 to 1, and what to do about it."""
        value = self.table.column(name)[row].as_py()
        if value is None or str(value).strip() == "":
            return "empty"
        wanted = "it must be from 0 to 1"
        if re.fullmatch(r"\s*0?,\d+\s*", str(value)):
            wanted += ", with a point, or with semicolons between cells"
        elif number(value) > _ROUNDED or "%" in str(value):
            wanted += ", not a percentage"
        elif number(value) < 0:
            wanted += ", not a logarithm"
        return f"{self.cell(name, row)}; {wanted}"

    def plain(self, name: str, role: str, wanted: str) -> pa.Array:
        """Returns a column's cells, and refuses any that hold lists or objects."""
        found = self.cells(name)
        if pa.types.is_nested(found.type):
            raise UserError(f"{self.name}: column {name!r} holds lists or objects; give {wanted} as --{role}")
        return found

    def texts(self, role: str) -> np.ndarray | None:
        """Returns an optional column as texts `(N,)`; an empty field is an empty text."""
        name = self.optional(role)
        if name is None:
            return None
        found = self.plain(name, role, "texts or numbers")
        try:
            return np.array(pc.fill_null(pc.cast(found, pa.string()), "").to_pylist())
        except pa.ArrowException as error:
            raise UserError(f"{self.name}: column {name!r} is no text ({found.type}); give another as --{role}") \
                from error  # fmt: skip

    def floats(self, name: str) -> np.ndarray:
        """Returns a column as float64 `(N,)`, NaN where a field is empty or not a number."""
        found = self.cells(name)
        if is_number(found.type):
            return pc.cast(found, pa.float64()).to_numpy(zero_copy_only=False)
        return np.array([number(value) for value in found.to_pylist()])

    def _usual(self, role: str) -> Sequence[str]:
        return [name for name in USUAL[role] if name in self.table.column_names]


def is_number(kind: pa.DataType) -> bool:
    """Whether a column's type is one of numbers."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def number(value: Any) -> float:
    """Returns a number, NaN for anything else.

    >>> [number(value) for value in (1, " 0.5", "1_0", True, None, "1" + "0" * 400)]
    [1.0, 0.5, nan, nan, nan, inf]
    """
    try:
        return float("nan") if value is None or isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
