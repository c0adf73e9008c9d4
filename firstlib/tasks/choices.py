"""The choices of a row, in every form in which they are published."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firstlib.tasks.literals import value_of

_TEXT = ("text", "atext", "content", "choice", "option", "value", "texts", "choices", "options")
_LABEL = ("label", "labels", "key", "letter", "aid", "id", "para")
_MARKED = re.compile(r"\s*[(\[]?([A-Za-z])\s*[)\].:]\s*(.+)", re.DOTALL)


class NoChoicesError(ValueError):
    """A row's choices cannot be read; the message is the reason."""


@dataclass(frozen=True)
class Choices:
    """The choices of a row.

    Attributes:
        texts: As they are shown.
        labels: As they are published; empty where they have none.
        values: As they are published, before they became text.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[Any, ...]


def choices_of(values: Sequence[Any]) -> Choices:
    """Returns the choices of one field that lists them, or of a field for each.

    Raises:
        NoChoicesError: There are none, or one has no text.

    >>> choices_of(["['tea', 'the sea']"]).texts, choices_of(["tea", "the sea"]).texts
    (('tea', 'the sea'), ('tea', 'the sea'))
    >>> choices_of([{"label": ["1", "2"], "text": ["tea", "the sea"]}]).labels
    ('1', '2')
    """
    value: Any = list(values) if len(values) > 1 else values[0]
    if isinstance(value, str):
        try:
            value = value_of(value)
        except ValueError as error:
            raise NoChoicesError(f"the choices are {error}") from error
    texts, labels = _parts(value)
    while texts and (texts[-1] is None or texts[-1] == ""):
        texts, labels = texts[:-1], labels[:-1]  # questions with fewer choices than columns
    if not texts:
        raise NoChoicesError("no choices")
    shown = _without_marks([_shown(text) for text in texts])
    return Choices(tuple(shown), tuple(_shown(label) for label in labels), tuple(texts))


def _parts(value: Any) -> tuple[list[Any], list[Any]]:
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


def _without_marks(texts: Sequence[str]) -> list[str]:
    """Returns the texts without `A)`, `(B)`, `C.`, where all have one and in order."""
    marks = [_MARKED.fullmatch(text) for text in texts]
    found = "".join(mark.group(1).lower() for mark in marks if mark)
    if len(texts) > 1 and found == "abcdefghijklmnopqrstuvwxyz"[: len(texts)]:
        return [mark.group(2) for mark in marks if mark]
    return list(texts)
