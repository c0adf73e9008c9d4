"""The choices of a row, in every form in which they are published."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firstlib.tasks.literals import value_of

_TEXT = ("text", "atext", "content", "choice", "option", "value", "texts", "choices", "options")
_LABEL = ("label", "labels", "key", "letter", "aid", "id", "para")
_MARKED = re.compile(r"\s*[(\[]?([A-Za-z])\s*([)\].:])\s*(.+)", re.DOTALL)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_SHORTEST_NAME = 3  # letters of a field's name that an answer may be; `A` and `1` alone are letters and numbers


class NoChoicesError(ValueError):
    """A row's choices cannot be read; the message is the reason."""


@dataclass(frozen=True)
class Choices:
    """The choices of a row.

    Attributes:
        texts: As they are shown.
        labels: As they are published; empty where they have none.
        values: As they are published, before they became text.
        marks: The letters that the texts themselves begin with, like `B) the sea`, in their order; empty: none.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[Any, ...]
    marks: str = ""


def choices_of(values: Sequence[Any], fields: Sequence[str] = ()) -> Choices:
    """Returns the choices of one field that lists them, or of a field for each.

    Args:
        values: Of the fields.
        fields: Their names, by which an answer may call its choice, like COPA's `choice1`.

    Raises:
        NoChoicesError: There are none, one has no text, or one begins with the letter of another's label or field.

    >>> choices_of(["['tea', 'the sea']"]).texts, choices_of(["tea", "the sea"]).texts
    (('tea', 'the sea'), ('tea', 'the sea'))
    >>> choices_of([{"label": ["1", "2"], "text": ["tea", "the sea"]}]).labels
    ('1', '2')
    """
    texts, labels = _parts(list(values) if len(values) > 1 else values[0])
    if len(fields) > 1 and all(len(name) >= _SHORTEST_NAME for name in fields):
        labels = list(fields)
    while texts and (texts[-1] is None or texts[-1] == ""):
        texts, labels = texts[:-1], labels[:-1]  # questions with fewer choices than columns
    if not texts:
        raise NoChoicesError("no choices")
    shown, names = [_shown(text) for text in texts], tuple(_shown(label) for label in labels)
    marks = _marks(shown)
    letters = "".join(name[-1:].lower() for name in names or fields[: len(shown)])
    if letters != marks and sorted(letters) == sorted(marks):
        raise NoChoicesError(f"the choices labelled {', '.join(letters)} begin with {', '.join(marks)}")
    return Choices(tuple(_without_marks(shown, marks)), names, tuple(texts), marks)


def _parts(value: Any) -> tuple[list[Any], list[Any]]:
    """Returns texts and labels, which may be written in one cell."""
    if isinstance(value, str):
        try:
            value = value_of(value)
        except ValueError as error:
            raise NoChoicesError(f"the choices are {error}") from error
    if isinstance(value, Mapping):
        return _of_object(value)
    if not isinstance(value, Sequence):
        raise NoChoicesError(
            "no choices" if value is None else f"the choices are not a list, but {type(value).__name__}"
        )
    if value and all(isinstance(each, Mapping) for each in value):
        text, label = (next((k for k in names if k in value[0]), None) for names in (_TEXT, _LABEL))
        if text is None:
            raise NoChoicesError(f"a choice has the fields {', '.join(map(str, value[0]))[:60]}, and none is its text")
        return [each.get(text) for each in value], [each.get(label) for each in value] if label else []
    return list(value), []


def _of_object(value: Mapping[Any, Any]) -> tuple[list[Any], list[Any]]:
    """Returns texts and labels of `{"text": [...], "label": [...]}` or of `{"A": ..., "B": ...}`."""
    text = next((key for key in _TEXT if isinstance(value.get(key), list)), None)
    if text:
        label = next((key for key in _LABEL if isinstance(value.get(key), list)), None)
        texts, labels = list(value[text]), list(value[label]) if label else []
        if labels and len(labels) != len(texts):
            raise NoChoicesError(f"{len(texts)} choices with {len(labels)} labels")
        return texts, labels
    if value and all(isinstance(key, str) and re.fullmatch(r"[A-Za-z]|\d{1,2}", key) for key in value):
        return list(value.values()), list(value)
    raise NoChoicesError(f"the choices are an object with {', '.join(map(str, value))[:60]}, not a list")


def _shown(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, int | float) and value == value):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise NoChoicesError("a choice has no text")
    return value


def _marks(texts: Sequence[str]) -> str:
    """Returns the letters of `A)`, `(B)`, `C.`, where all texts begin with one; empty: they do not, or mean no place.

    `M: I see` is said by a man, and letters with dots that are not just the first of the alphabet are initials.
    """
    found = [_MARKED.fullmatch(text) for text in texts]
    letters = "".join(mark.group(1).lower() for mark in found if mark)
    if len(texts) < 2 or len(letters) < len(texts) or len(set(letters)) < len(letters):
        return ""
    meant = set(letters) & set(_ALPHABET[: len(letters)]) and all(mark.group(2) != "." for mark in found if mark)
    return letters if meant or _are_first(letters) else ""


def _are_first(letters: str) -> bool:
    return "".join(sorted(letters)) == _ALPHABET[: len(letters)]


def _without_marks(texts: Sequence[str], marks: str) -> list[str]:
    if not marks or not _are_first(marks):  # with a gap, they may belong to the texts
        return list(texts)
    return [mark.group(3) for text in texts if (mark := _MARKED.fullmatch(text))]
