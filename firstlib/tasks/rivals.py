"""Another field of a data set that might be its answers: it agrees with the one that is read, or the preset decides.

`label` beside `answer` may repeat it, be the right answer beside a model's, or be about something else. Where it can be
read as answers and differs, nothing but the user can tell.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from firstlib.runtime.errors import UserError
from firstlib.tasks.answers import SHARE, WAYS, is_hidden, plain_value, yes_or_no
from firstlib.tasks.choices import Choices
from firstlib.tasks.layouts import ANSWER, Roles, Row, plain
from firstlib.tasks.rows import UnusableRow, choices_in


def check_rivals(task: str, rows: Iterable[Row], roles: Roles, way: str, fields: Sequence[str]) -> None:
    """Checks that no other field says other answers.

    Args:
        task: For messages.
        rows: All rows, flattened.
        roles: Which field is read as what.
        way: How the answers are written.
        fields: Every field that has content in a row.

    Raises:
        UserError: One does; names both, and the setting that decides.
    """
    rivals = {name: _Rival() for name in _candidates(roles, fields)}
    for row in rows if rivals else ():
        choices = _choices(roles, row)
        answer = _places(plain_value(row.get(roles.answer)), choices).get(way if roles.choices else "yes-no")
        if answer is not None:
            for name, rival in rivals.items():
                if not is_hidden(value := plain_value(row.get(name))):
                    rival.add(answer, _places(value, choices))
    for name, rival in rivals.items():
        if differing := rival.fewest_differences():
            raise UserError(
                f"data set {task}: its fields {roles.answer!r} and {name[:40]!r} both read as answers, and differ in "
                f"{differing:,} of {rival.rows:,} rows; say which is right with tasks.{task}.fields.answer=NAME"
            )


@dataclass
class _Rival:
    """How a field compares with the answers: in how many rows each way reads it, and otherwise than they say."""

    rows: int = 0
    fits: Counter[str] = field(default_factory=Counter)
    differ: Counter[str] = field(default_factory=Counter)

    def add(self, answer: int | bool, places: dict[str, int | bool]) -> None:
        self.rows += 1
        self.fits.update(places.keys())
        self.differ.update(way for way, place in places.items() if place != answer)

    def fewest_differences(self) -> int:
        """Rows that differ under the way that differs least; 0 if no way reads nearly all rows."""
        fitting = [way for way, count in self.fits.items() if count >= SHARE * self.rows]
        return min((self.differ[way] for way in fitting), default=0)


def _candidates(roles: Roles, fields: Sequence[str]) -> list[str]:
    if roles.wrong or roles.layout.kind == "free-text":
        return []
    taken = {roles.question, roles.answer, roles.id, *roles.choices, *roles.context}
    return [name for name in fields if name not in taken and plain(name) in ANSWER]


def _choices(roles: Roles, row: Row) -> Choices | None:
    if not roles.choices:
        return None
    try:
        return choices_in(roles, row)
    except UnusableRow:
        return Choices((), (), ())


def _places(value: Any, choices: Choices | None) -> dict[str, int | bool]:
    """What a value says in each way that reads it."""
    if value is None or value == "":
        return {}
    if choices is None:
        said = yes_or_no(value)
        return {} if said is None else {"yes-no": said}
    return {name: place for name, read in WAYS.items() if (place := read(value, choices)) is not None}
