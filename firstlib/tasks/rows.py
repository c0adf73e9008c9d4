"""Converts a row of a data set to a question, or to an example of free text, once its layout is known."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firstlib.runtime.hashing import number_from
from firstlib.tasks import prompts
from firstlib.tasks.answers import WAYS, contradicts, is_hidden, plain_value, yes_or_no
from firstlib.tasks.choices import Choices, NoChoicesError, choices_of
from firstlib.tasks.layouts import Roles, flattened
from firstlib.tasks.question import Example, Item, Question, as_example

Row = Mapping[str, Any]
NO_ANSWER = "no answer"
UNREAD_ANSWER = "the answer"  # how each reason starts that is about an answer which is there
_LONGEST_VALUE = 40  # characters of a value in a message


@dataclass(frozen=True)
class Reading:
    """How the rows of a data set are read.

    Attributes:
        roles: Which field holds which part.
        way: How the answers are written, one of `answers.WAYS`.
        given: Whether the preset says so; else an answer that is written so and otherwise too is not used.
        upper: Whether letters are capitals, as in OpenBookQA's prompt.
    """

    roles: Roles
    way: str = "mixed"
    given: bool = False
    upper: bool = False


class UnusableRow(Exception):  # noqa: N818
    """A row cannot be converted to a question; the message is the reason."""


def read_row(reading: Reading, row: Row, name: str) -> Item:
    """Converts a row to a question, or to an example if answers are free text.

    Raises:
        UnusableRow: The row has no answer or two identical choices, or a field is missing or has the wrong type.
    """
    item = _READERS[reading.roles.layout.kind](reading, flattened(row), name)
    try:
        "".join(vars(as_example(item)).values()).encode()
    except UnicodeEncodeError as error:
        raise UnusableRow("half of a surrogate pair, which is not a character") from error
    return item


def row_id(task: str, split: str, row: Row, index: int, field: str = "id") -> str:
    """Returns the row's id, or else an id made from task, split and index.

    >>> row_id("boolq", "train", {"question": "is it"}, 7)
    'boolq-train-7'
    """
    own = row.get(field)
    return f"{task}-{split}-{index}" if own is None or own == "" or isinstance(own, dict | list) else str(own)


def choices_in(roles: Roles, row: Row) -> Choices:
    """Returns the choices of a row.

    Raises:
        UnusableRow: They cannot be read.
    """
    try:
        return choices_of([row.get(name) for name in roles.choices], roles.choices)
    except NoChoicesError as error:
        raise UnusableRow(str(error)) from error


def _lettered(reading: Reading, row: Row, name: str) -> Item:
    stem = _stem(reading.roles, row)
    if reading.roles.wrong:
        texts, answer = _shuffled(name, *_right_and_wrong(reading.roles, row))
        return _multiple_choice(name, stem, texts, answer, reading.upper)
    choices, value = choices_in(reading.roles, row), plain_value(row.get(reading.roles.answer))
    if value is None or value == "":
        raise UnusableRow(NO_ANSWER)
    place = WAYS[reading.way](value, choices)
    if place is None or (not reading.given and contradicts(reading.way, value, choices)):
        raise UnusableRow(_unread(reading, value, choices))
    texts, answer = choices.texts, place
    if not reading.roles.layout.ordered:
        texts, answer = _shuffled(name, texts, answer)
    return _multiple_choice(name, stem, texts, answer, reading.upper)


def _unread(reading: Reading, value: Any, choices: Choices) -> str:
    if is_hidden(value):
        return NO_ANSWER
    named = {WAYS[way](value, choices) for way in ("label", "letter", "text")} - {None}
    if reading.way in ("mixed", "letter", "text") and len(named) > 1:
        return f"{UNREAD_ANSWER} {_short(value)} is both a choice and the letter of another choice"
    if isinstance(value, list):
        return f"{UNREAD_ANSWER} is a list of {len(value)}; leave one"
    wanted = {
        "mixed": "neither a choice nor a letter",
        "label": "neither a choice nor a letter" if not choices.labels else "not one of the choices",
        "letter": "neither a choice nor a letter",
        "text": "neither a choice nor a letter",
        "from-0": f"not a number from 0 to {len(choices.texts) - 1}",
        "from-1": f"not a number from 1 to {len(choices.texts)}",
        "one-hot": "not a mark for each choice",
    }
    return f"{UNREAD_ANSWER} {_short(value)} is {wanted[reading.way]}"


def _right_and_wrong(roles: Roles, row: Row) -> tuple[tuple[str, ...], int]:
    right = row.get(roles.answer)
    if is_hidden(right):
        raise UnusableRow(NO_ANSWER)
    try:
        return choices_of([[right, *choices_of([row.get(name) for name in roles.wrong]).values]]).texts, 0
    except NoChoicesError as error:
        raise UnusableRow(str(error)) from error


def _shuffled(name: str, texts: Sequence[str], answer: int) -> tuple[tuple[str, ...], int]:
    """Returns the choices in an order that follows from the row's id and their texts, and the answer's new place."""
    order = sorted(range(len(texts)), key=lambda place: number_from(f"{name}:{texts[place]}"))
    return tuple(texts[place] for place in order), order.index(answer)


def _yes_no(reading: Reading, row: Row, name: str) -> Item:
    roles, value = reading.roles, plain_value(row.get(reading.roles.answer))
    right = yes_or_no(value)
    if right is None:
        told = f"{UNREAD_ANSWER} {_short(value)} is neither true nor false"
        raise UnusableRow(NO_ANSWER if is_hidden(value) else told)
    question, passage = _text(row, roles.question).rstrip("?"), _context(roles, row)
    if roles.context and not passage.strip():
        raise UnusableRow(f"no {roles.context[0]}")
    return Question(
        id=name,
        prompt=prompts.yes_no(question, passage),
        lead="",
        candidates=("Yes", "No"),
        closing="",
        answer=0 if right else 1,
        choices=("Yes", "No"),
    )


def _instruction(reading: Reading, row: Row, name: str) -> Item:
    roles, answer = reading.roles, row.get(reading.roles.answer)
    if answer is None or answer == "":
        raise UnusableRow(NO_ANSWER)
    prompt = prompts.instruction(_text(row, roles.question), _context(roles, row))
    return Example(name, prompt, str(answer) if isinstance(answer, int | float) else _text(row, roles.answer))


_READERS = {"multiple-choice": _lettered, "yes-no": _yes_no, "free-text": _instruction}


def _multiple_choice(name: str, stem: str, texts: Sequence[str], answer: int, upper: bool) -> Question:
    if len({text.strip() for text in texts}) < len(texts):
        raise UnusableRow("two choices read the same")
    if not 2 <= len(texts) <= prompts.MAX_CHOICES:
        raise UnusableRow(f"{len(texts)} choices; must be 2 to {prompts.MAX_CHOICES}")
    return Question(
        id=name,
        prompt=prompts.multiple_choice(stem, texts, upper),
        lead=prompts.ANSWER_LEAD,
        candidates=prompts.letters(len(texts), upper),
        closing=").",
        answer=answer,
        choices=tuple(texts),
    )


def _stem(roles: Roles, row: Row) -> str:
    question = _text(row, roles.question)
    words = roles.layout.words or {}
    context = _context(roles, row)
    return "\n".join([*([context] if context.strip() else []), words.get(question.strip().lower(), question)])


def _context(roles: Roles, row: Row) -> str:
    """Returns the passages of a row; empty if it has none."""
    found = []
    for name in roles.context:
        value = row.get(name)
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = "\n".join(value)
        if not isinstance(value, str | None):
            raise UnusableRow(f"`{name}` is not text")
        found += [value] if value else []
    return "\n\n".join(found)


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UnusableRow(f"no {field}" if value is None or isinstance(value, str) else f"`{field}` is not text")
    return value


def _short(value: Any) -> str:
    return reprlib.repr(value)[:_LONGEST_VALUE]
