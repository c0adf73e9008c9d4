"""Converts a row of a data set to a question, from the hub's layout, the original layout, or a user's own data.

| task | fields of a row |
|---|---|
| `csqa`, `obqa` | `question` (or `question_stem`), `choices: {label: [...], text: [...]}`, `answerKey`; or nested as `question: {stem, choices: [{label, text}, ...]}` |
| `boolq` | `question`, `passage`, `answer`: true or false |
| `alpaca` | `instruction`, `input` (may be empty), `output` |
| `own` | `question`, `choices`: a list (in CSV a JSON list), `answer`: a letter or the text of a choice; optionally `id` |
"""  # noqa: E501

import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firstlib.tasks import prompts
from firstlib.tasks.question import Example, Item, Question, as_example

Row = Mapping[str, Any]
NO_ANSWER = "no answer"
_short = reprlib.repr  # answers may have any length


class UnusableRow(Exception):  # noqa: N818
    """A row cannot be converted to a question; the message is the reason."""


def read_row(task: str, row: Row, name: str) -> Item:
    """Converts a row to a question, or to an example if answers are free text.

    Raises:
        UnusableRow: The row has no answer or two identical choices, or a field is missing or has the wrong type.
    """
    item = _READERS[task](row, name)
    try:
        "".join(vars(as_example(item)).values()).encode()
    except UnicodeEncodeError as error:
        raise UnusableRow("half of a surrogate pair, which is not a character") from error
    return item


def row_id(task: str, split: str, row: Row, index: int) -> str:
    """Returns the row's `id` field, or else an id made from task, split and index.

    >>> row_id("boolq", "train", {"question": "is it"}, 7)
    'boolq-train-7'
    """
    own = row.get("id")
    return f"{task}-{split}-{index}" if own is None or own == "" else str(own)


def _letters(upper: bool) -> Callable[[Row, str], Item]:
    def read(row: Row, name: str) -> Item:
        stem, labels, texts = _choices(row)
        answer = row.get("answerKey")
        if not answer:
            raise UnusableRow(NO_ANSWER)
        if answer not in labels:
            raise UnusableRow(f"the answer {_short(answer)} is not one of the choices")
        return _multiple_choice(name, stem, texts, labels.index(answer), upper)

    return read


def _own(row: Row, name: str) -> Item:
    texts, answer = _own_choices(row.get("choices")), row.get("answer")
    if answer is None or answer == "":
        raise UnusableRow(NO_ANSWER)
    labels = prompts.letters(len(texts))
    letter = str(answer).strip().lower()
    matches = {options.index(value) for options, value in ((texts, answer), (labels, letter)) if value in options}
    if not matches:
        raise UnusableRow(f"the answer {_short(answer)} is neither a choice nor a letter")
    if len(matches) > 1:
        raise UnusableRow(f"the answer {answer!r} is both a choice and the letter of another choice")
    return _multiple_choice(name, _text(row, "question"), texts, matches.pop(), upper=False)


def _yes_no(row: Row, name: str) -> Item:
    answer = row.get("answer")
    if answer is None:
        raise UnusableRow(NO_ANSWER)
    if not isinstance(answer, bool):
        raise UnusableRow(f"the answer {_short(answer)} is neither true nor false")
    return Question(
        id=name,
        prompt=prompts.yes_no(_text(row, "question").rstrip("?"), _text(row, "passage")),
        lead="",
        candidates=("Yes", "No"),
        closing="",
        answer=0 if answer else 1,
        choices=("Yes", "No"),
    )


def _instruction(row: Row, name: str) -> Item:
    if not row.get("output"):
        raise UnusableRow(NO_ANSWER)
    context = row.get("input") or ""
    if not isinstance(context, str):
        raise UnusableRow("`input` is not text")
    return Example(name, prompts.instruction(_text(row, "instruction"), context), _text(row, "output"))


_READERS: dict[str, Callable[[Row, str], Item]] = {
    "csqa": _letters(upper=False),
    "obqa": _letters(upper=True),
    "boolq": _yes_no,
    "alpaca": _instruction,
    "own": _own,
}


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


def _choices(row: Row) -> tuple[str, list[str], list[str]]:
    """Returns stem, labels and texts of the choices, from either layout."""
    question = row.get("question")
    inner: Row = question if isinstance(question, Mapping) else row
    stem = next((inner[key] for key in ("stem", "question", "question_stem") if isinstance(inner.get(key), str)), None)
    if not stem:
        raise UnusableRow("no question")
    choices = inner.get("choices")
    if isinstance(choices, Mapping):
        labels, texts = _list(choices.get("label")), _list(choices.get("text"))
    else:
        pairs = [choice for choice in _list(choices) if isinstance(choice, Mapping)]
        labels, texts = [pair.get("label") for pair in pairs], [pair.get("text") for pair in pairs]
    if len(labels) != len(texts) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UnusableRow("a choice has no text")
    return stem, labels, texts


def _own_choices(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UnusableRow("`choices` is not a JSON list") from error
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise UnusableRow("`choices` is not a list of texts")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UnusableRow(f"no {field}")
    return value
