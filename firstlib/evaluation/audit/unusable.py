"""Rows that cannot be used: counted, bounded, and named by file and row where there are too many."""

from dataclasses import dataclass, field

from firstlib.evaluation.audit.answers import SHOWN, Lost
from firstlib.runtime.errors import UserError

MOST_UNUSABLE = 0.01  # share of a file's rows
_LONGEST = 110  # characters of a reason in a message


class UnusableRow(Exception):  # noqa: N818
    """A row cannot be read as an answer; the message is the reason."""


@dataclass
class Unusable:
    """Counts the rows of one file that cannot be used.

    Attributes:
        place: The file, as messages name it.
        allowed: Share of rows that may be lost.
        unit: What the file's rows are called: row, line or sample.
        reasons: The reason by the number of the row, from 1; the first few only.
    """

    place: str
    allowed: float = MOST_UNUSABLE
    unit: str = "row"
    count: int = 0
    reasons: dict[int | str, str] = field(default_factory=dict)

    def add(self, row: int | str, reason: object, count: int = 1) -> None:
        """Counts one row, or several of which `row` is the first."""
        if len(self.reasons) < SHOWN:
            self.reasons[row] = str(reason)
        self.count += count

    def settled(self, total: int) -> Lost:
        """Returns what was lost of `total` rows.

        Raises:
            UserError: Nothing is usable, or more is lost than may be.
        """
        if self.count and (self.count >= total or self.count > self.allowed * total):
            told = "; ".join(f"{self.unit} {row}: {_short(reason)}" for row, reason in self.reasons.items())
            remedy = "correct it" if self.count >= total else f"correct it, or allow more than {self.allowed:g} of them"
            raise UserError(
                f"{self.place}: {self.count} of {total} {self.unit}s cannot be used: {told}; {remedy}"
                + ("" if self.count >= total else " with --max-unusable")
            )
        if not total:
            raise UserError(f"{self.place}: has no {self.unit}s; give a file that holds answers")
        return Lost(self.count, total, tuple(f"{self.unit} {row}: {reason}" for row, reason in self.reasons.items()))


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
