"""How the answers of a data set are written, decided over all its rows.

One row does not tell whether 2 is the second or the third choice, or a choice that reads 2. All rows together mostly
do; where two ways fit every row and differ, the data set is refused with the setting that decides.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from firstlib.runtime.errors import UserError
from firstlib.settings.data import Answers
from firstlib.tasks.choices import Choices
from firstlib.tasks.literals import value_of

# Where no answer can be read, these say that it is hidden: it may also be a choice that reads `None`.
HIDDEN = {"", "-1", "-1.0", "?", "n/a", "na", "nan", "none", "null", "hidden", "unknown", "-", "tbd", "-100"}
_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|right\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s*)?[(\[{]?([a-z])[)\]}.:]*",
    re.IGNORECASE,
)
_LETTER_AND_TEXT = re.compile(r"[(\[]?([a-z])\s*[)\].:]\s*(.+)", re.IGNORECASE | re.DOTALL)
_DIGIT = re.compile(r"\d")
_YES, _NO = ("yes", "true", "1", "1.0", "y", "t"), ("no", "false", "0", "0.0", "n", "f")
IN_WORDS: Mapping[str, str] = {
    "label": "as the choices are labelled",
    "letter": "letters",
    "text": "the choices' own texts",
    "from-0": "numbers from 0",
    "from-1": "numbers from 1",
    "truth": "true or false",
    "one-hot": "a mark for each choice",
    "mixed": "letters and texts",
}
SHARE = 0.95  # of the rows, that a way must fit to be thought of at all


def is_hidden(value: Any) -> bool:
    """Whether a value that is no answer says that the answer is hidden."""
    if isinstance(value, list):
        return not value or all(is_hidden(each) for each in value)
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in HIDDEN


def yes_or_no(value: Any) -> bool | None:
    """Returns what an answer to a yes-no question says; None: neither.

    >>> yes_or_no(True), yes_or_no("No"), yes_or_no(1), yes_or_no("maybe")
    (True, False, True, None)
    """
    text = str(value).strip().lower()
    return True if text in _YES else False if text in _NO else None


# -- ways to write an answer -------------------------------------------------------------------------------------


def by_label(value: Any, choices: Choices) -> int | None:
    """Returns the place of the choice with this label."""
    labels = [label.strip().lower() for label in choices.labels]
    for text in (_text(value), _inside(_text(value))):
        if labels.count(text.strip().lower()) == 1:
            return labels.index(text.strip().lower())
    return None


def by_letter(value: Any, choices: Choices) -> int | None:
    """Returns the place of a letter, which may be followed by the text of its own choice: `b`, `(B)`, `B. the sea`.

    It is the letter that the choices themselves begin with, if they do, and else counts them.
    """
    if not isinstance(value, str):
        return None
    alone, with_text = _LETTER.fullmatch(value.strip()), _LETTER_AND_TEXT.fullmatch(value.strip())
    if alone:
        return _lettered(alone.group(1).lower(), choices)
    if with_text:
        place = _lettered(with_text.group(1).lower(), choices)
        same = place is not None and _loose(choices.texts[place]) == _loose(with_text.group(2))
        return place if same else None
    return None


def by_text(value: Any, choices: Choices) -> int | None:
    """Returns the place of the choice with this text; without case, outer spaces and a number's zeros if need be."""
    if isinstance(value, list | dict):
        return None
    text, number = _text(value), _number(_text(value))
    for found in (
        [place for place, each in enumerate(choices.values) if type(each) is type(value) and each == value],
        [place for place, each in enumerate(choices.texts) if each == text],
        [place for place, each in enumerate(choices.texts) if _loose(each) == _loose(text)],
        [] if number is None else [place for place, each in enumerate(choices.texts) if _number(each) == number],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def from_0(value: Any, choices: Choices) -> int | None:
    """Returns the place that a number from 0 says."""
    number = _number(_text(value)) if not isinstance(value, bool | list | dict) else None
    return _within(int(number), choices) if number is not None and number == int(number) else None


def from_1(value: Any, choices: Choices) -> int | None:
    """Returns the place that a number from 1 says."""
    number = _number(_text(value)) if not isinstance(value, bool | list | dict) else None
    return _within(int(number) - 1, choices) if number is not None and number == int(number) else None


def by_truth(value: Any, choices: Choices) -> int | None:
    """Returns the place of the one of two choices, such as yes and no, that says what the answer says.

    >>> both = Choices(("yes", "no"), (), ("yes", "no"))
    >>> by_truth(1, both), by_truth("false", both), by_truth("B", both)
    (0, 1, None)
    """
    said = [yes_or_no(text) for text in choices.texts]
    wanted = None if isinstance(value, list | dict) else yes_or_no(value)
    return said.index(wanted) if wanted is not None and sorted(map(str, said)) == ["False", "True"] else None


def one_hot(value: Any, choices: Choices) -> int | None:
    """Returns the place of the only mark in a list with one for each choice."""
    marks = [_number(_text(each)) for each in value] if isinstance(value, list) else []
    right = len(marks) == len(choices.texts) and sorted(map(str, marks)) == ["0.0"] * (len(marks) - 1) + ["1.0"]
    return marks.index(1.0) if right else None


def mixed(value: Any, choices: Choices) -> int | None:
    """Returns the place that label, letter and text say, where they do not contradict one another."""
    found = {place for way in (by_label, by_letter, by_text) if (place := way(value, choices)) is not None}
    return found.pop() if len(found) == 1 else None


Way = Callable[[Any, Choices], int | None]


def contradicts(way: str, value: Any, choices: Choices) -> bool:
    """Whether an answer is one choice by its letter, and another by its text."""
    names = {"letter": by_text, "text": by_letter}
    rival = names[way](value, choices) if way in names else None
    return rival is not None and rival != WAYS[way](value, choices)


WAYS: Mapping[str, Way] = {
    "label": by_label,
    "one-hot": one_hot,
    "letter": by_letter,
    "text": by_text,
    "from-0": from_0,
    "from-1": from_1,
    "truth": by_truth,
    "mixed": mixed,
}


def plain_value(value: Any) -> Any:
    """Returns an answer as it is read: the only item of a list, the marks of TruthfulQA's targets, a parsed cell."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            value = value_of(value)
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("labels", "label") if key in value), value)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _lettered(letter: str, choices: Choices) -> int | None:
    if choices.marks:
        return choices.marks.index(letter) if letter in choices.marks else None
    return _within(ord(letter) - ord("a"), choices)


def _within(place: int, choices: Choices) -> int | None:
    return place if 0 <= place < len(choices.texts) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _inside(text: str) -> str:
    return text.strip().strip("()[]{}.: ")


def _loose(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _number(text: str) -> float | None:
    if not _DIGIT.search(text[:1000]):
        return None
    try:
        found = float(text.strip().replace("\u2212", "-"))
    except ValueError:
        return None
    return found if math.isfinite(found) and "_" not in text else None


# -- the decision ------------------------------------------------------------------------------------------------


@dataclass
class Column:
    """What is known of the answers of a data set: in how many rows each way gives a choice, and where two differ.

    Attributes:
        rows: Rows with an answer that at least one way reads.
        fits: Way -> such rows that it reads.
        differ: Two ways -> rows that both read, each in its own way.
        typed: Whether all answers are numbers and all choices texts, so that none can be meant as a choice's text.
    """

    rows: int = 0
    fits: Counter[str] = field(default_factory=Counter)
    differ: Counter[frozenset[str]] = field(default_factory=Counter)
    typed: bool = True

    def add(self, value: Any, choices: Choices) -> None:
        """Counts one row."""
        places = {name: way(value, choices) for name, way in WAYS.items()}
        read = {name: place for name, place in places.items() if place is not None}
        if not read:
            return
        self.rows += 1
        self.fits.update(read.keys())
        self.typed &= isinstance(value, int) and all(isinstance(each, str) for each in choices.values)
        names = list(read)
        self.differ.update(frozenset((a, b)) for i, a in enumerate(names) for b in names[i + 1 :] if read[a] != read[b])

    def __add__(self, other: "Column") -> "Column":
        """Returns what is known of both."""
        return Column(
            self.rows + other.rows, self.fits + other.fits, self.differ + other.differ, self.typed and other.typed
        )

    def decide(self, task: str, given: Answers | None, published: Answers | None) -> str:
        """Returns the way in which the answers are written.

        Args:
            task: For messages.
            given: What the preset says.
            published: What is known of the layout.

        Raises:
            UserError: Two ways fit equally well, and differ.
        """
        if given:
            return given
        for sure in ("label", "one-hot"):
            if self.rows and self.fits[sure] == self.rows:
                return sure
        fitting = self._fitting()
        if not fitting:
            return max(reversed(list(WAYS)), key=lambda name: self.fits[name])
        if published in fitting:
            return str(published)
        first, *others = fitting
        if rival := next((other for other in others if self.differ[frozenset((first, other))]), None):
            raise UserError(self._ambiguous(task, first, rival))
        return first

    def _fitting(self) -> list[str]:
        """Returns the ways that fit every row; if none does, those that fit nearly all."""
        names = [name for name in WAYS if name != "mixed"]
        every = [name for name in names if self.rows and self.fits[name] == self.rows]
        nearly = [name for name in names if self.rows and self.fits[name] >= SHARE * self.rows]
        found = every or (["mixed"] if self.rows and self.fits["mixed"] == self.rows else nearly)
        numbers = [name for name in found if name.startswith("from-")]
        if self.typed and numbers and "text" in found:
            found.remove("text")
        return found

    def _ambiguous(self, task: str, first: str, rival: str) -> str:
        one, other = (f"{IN_WORDS[way]} (fits {self.fits[way]:,} of {self.rows:,} rows)" for way in (first, rival))
        count, key = self.differ[frozenset((first, rival))], f"tasks.{task}.answers"
        return (
            f"data set {task}: its answers may be {one} or {other}, which differ in {count:,} rows; say which with "
            f"{key}={first} or {key}={rival}"
        )
