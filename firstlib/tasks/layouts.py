"""How published data sets call the parts of a row: one table, from which a data set is recognised by its fields.

Names are compared without case, spaces, dots, hyphens and underscores: `Correct Answer` and `correct_answer` are one.
A new layout is one entry. The first that fits is taken, so narrow ones stand before general ones.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firstlib.runtime.errors import UserError
from firstlib.settings.data import Answers, Fields, Kind

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """What a data set calls the parts of a row; of several names the first that the rows have is meant.

    Attributes:
        name: As messages call it.
        question: Names of the question.
        choices: Names of the field that lists the choices.
        series: Beginnings of the names of fields with a choice each, which end in A, B, ... or in 0 or 1, 2, ...
        answer: Names of the answer.
        right, wrong: Instead of choices and answer: names of the right choice, and of the field or the series with
            the wrong ones. Their order says which is right, so it is changed.
        context: Names of a passage; all that the rows have are read, in this order.
        required: Names without which the layout does not fit, besides those above.
        kind: What an answer is.
        answers: How the answers are published, if the rows alone do not tell.
        ordered: Whether the order of the choices says nothing about the right one.
        words: What stands for the question where it is only a word.
    """

    name: str
    question: tuple[str, ...]
    choices: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    kind: Kind = "multiple-choice"
    answers: Answers | None = None
    ordered: bool = True
    words: Mapping[str, str] | None = None


_CAUSE = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
QUESTION = ("question", "questionstem", "stem", "questiontext", "qtext", "query", "problem", "goal", "ctx", "sentence",
            "input", "inputs", "prompt")  # fmt: skip
CONTEXT = ("passage", "article", "context", "premise", "paragraph", "floresspassage", "florespassage")
LISTS = ("choices", "options", "choicestext", "questionchoices", "endings", "candidates", "candidateanswers",
         "alternatives", "answerchoices", "answers", "multiplechoicetargets")  # fmt: skip
SERIES = ("", "option", "opt", "op", "choice", "answer", "ans", "ending", "sol", "alternative", "mcanswer")
ANSWER = ("answerkey", "answeridx", "answerindex", "answer", "correctoption", "correctansweridx", "correctanswerid",
          "correctanswernum", "correctanswer", "correctchoice", "correct", "rightanswer", "solution", "cop", "label",
          "gold", "key", "ra", "target", "multiplechoicescores", "goldanswer", "goldlabel", "groundtruth", "truth",
          "expected", "expectedanswer", "reference")  # fmt: skip

LAYOUTS: tuple[Layout, ...] = (
    Layout("ARC", ("question", "questionstem", "stem"), ("choices",), answer=("answerkey",)),
    Layout("ARC, flattened", ("question", "questionstem", "stem"), ("choicestext", "questionchoices"),
           answer=("answerkey",)),
    Layout("SciQ", ("question",), right=("correctanswer",), wrong=("distractor",), context=("support",)),
    Layout("GPQA", ("question",), right=("correctanswer",), wrong=("incorrectanswer",)),
    Layout("TruthfulQA", ("question",), ("mc1targets",), answer=("mc1targets",), ordered=False),
    Layout("TruthfulQA", ("question",), right=("bestanswer",), wrong=("incorrectanswers",)),
    Layout("MedMCQA", ("question",), series=("op",), answer=("cop",)),
    Layout("MedQA", ("question",), ("options",), answer=("answeridx", "correctoption")),
    Layout("RACE", ("question",), ("options",), answer=("answer",), context=("article",), required=("article",)),
    Layout("HellaSwag", ("ctx",), ("endings",), answer=("label",), answers="from-0"),
    Layout("SWAG", ("startphrase",), series=("ending",), answer=("label",), answers="from-0"),
    Layout("PIQA", ("goal",), series=("sol",), answer=("label",), answers="from-0"),
    Layout("WinoGrande", ("sentence",), series=("option",), answer=("answer",), answers="from-1"),
    Layout("SIQA", ("question",), series=("answer",), answer=("label",), context=("context",), required=("answera",),
           answers="from-1"),
    Layout("CosmosQA", ("question",), series=("answer",), answer=("label",), context=("context",),
           required=("answer0",), answers="from-0"),
    Layout("COPA", ("question",), series=("choice",), answer=("label",), context=("premise",), answers="from-0",
           words=_CAUSE),
    Layout("LogiQA", ("query",), ("options",), answer=("correctoption",), context=("context",), answers="from-0"),
    Layout("ReClor", ("question",), ("answers",), answer=("label",), context=("context",), answers="from-0"),
    Layout("Belebele", ("question",), series=("mcanswer",), answer=("correctanswernum",),
           context=("florespassage",), answers="from-1"),
    Layout("MMLU", ("question",), ("choices",), answer=("answer",), required=("subject",)),
    Layout("MMLU-Pro", ("question",), ("options",), answer=("answer",), required=("answerindex",)),
    Layout("multiple choice, with a list of choices", QUESTION, LISTS, answer=ANSWER, context=CONTEXT),
    Layout("multiple choice, with a column for each choice", QUESTION, series=SERIES, answer=ANSWER, context=CONTEXT),
    Layout("BoolQ", ("question",), answer=("answer", "label"), context=("passage",), required=("passage",),
           kind="yes-no"),
    Layout("Alpaca", ("instruction",), answer=("output",), context=("input",), required=("instruction", "output"),
           kind="free-text"),
    Layout("Dolly", ("instruction",), answer=("response",), context=("context", "input"),
           required=("instruction", "response"), kind="free-text"),
    Layout("a prompt and its completion", ("prompt", "question", "instruction"), answer=("completion", "response"),
           required=("completion",), kind="free-text"),
    Layout("a prompt and its response", ("prompt", "question"), answer=("response",), required=("response",),
           kind="free-text"),
)  # fmt: skip
# Asked for with `kind`: these fields alone may be anything.
OF_KIND: Mapping[Kind, Layout] = {
    "multiple-choice": Layout("multiple choice", QUESTION, LISTS, SERIES, ANSWER, context=CONTEXT),
    "yes-no": Layout("yes or no", QUESTION, answer=ANSWER, context=CONTEXT, kind="yes-no"),
    "free-text": Layout(
        "free text", ("instruction", *QUESTION), answer=("output", "response", "completion", *ANSWER),
        context=("input", *CONTEXT), kind="free-text",
    ),
}  # fmt: skip


_SINGLE = ("distractor", "incorrectanswer")  # one wrong choice is enough


@dataclass(frozen=True)
class Roles:
    """The fields of a data set's rows, by the part that they hold.

    Attributes:
        layout: From which they were recognised.
        question: The question.
        context: Passages.
        choices: One field that lists the choices, or a field for each.
        answer: The answer; of `right` and `wrong`, the right choice.
        wrong: The field or fields with the wrong choices.
        id: The row's id.
    """

    layout: Layout
    question: str
    context: tuple[str, ...]
    choices: tuple[str, ...]
    answer: str
    wrong: tuple[str, ...] = ()
    id: str = "id"

    def told(self) -> str:
        """Returns what was recognised, for one line."""
        parts = [f"question {' + '.join((*self.context, self.question))}"]
        parts += [f"choices {', '.join(self.wrong or self.choices)}"] if self.wrong or self.choices else []
        return f"{self.layout.name} ({'; '.join(parts)}; answer {self.answer})"


def plain(name: str) -> str:
    """Returns a name as it is compared.

    >>> plain("Correct_Answer"), plain("choices.text")
    ('correctanswer', 'choicestext')
    """
    return re.sub(r"[\W_]+", "", name.lower())


def flattened(row: Row) -> Row:
    """Returns the row with the fields of an inner object, where the question or the whole row stands in one.

    A chat of one turn becomes an instruction and its output.
    """
    for name in ("question", "data", "row"):
        inner = row.get(name)
        if isinstance(inner, Mapping):
            return {**{key: value for key, value in row.items() if key != name}, **inner}
    for name in ("messages", "conversations", "conversation"):
        if isinstance(row.get(name), list):
            return {**{key: value for key, value in row.items() if key != name}, **_turn(row[name])}
    return row


def _turn(messages: Sequence[Any]) -> dict[str, Any]:
    """Returns a chat of one turn as instruction and output; a longer one has neither."""
    said = [
        (message.get("role", message.get("from")), message.get("content", message.get("value")))
        for message in messages
        if isinstance(message, Mapping)
    ]
    system = [text for role, text in said if role == "system"]
    turns = [text for role, text in said if role != "system"]
    if len(turns) != 2 or said[-1][0] not in ("assistant", "gpt", "model"):
        return {}
    instruction = "\n\n".join([*map(str, system), str(turns[0])])
    return {"instruction": instruction, "output": turns[1]}


def recognise(task: str, fields: Collection[str], mapped: Fields, kind: Kind | None) -> Roles:
    """Returns which field holds which part.

    Args:
        task: For messages.
        fields: Every field that a row with content has.
        mapped: The preset's own names, which come first.
        kind: What an answer is, if the preset says so.

    Raises:
        UserError: A part is not found; lists the fields that are there, and what was looked for.
    """
    for part, names in _given(mapped).items():
        if unknown := [name for name in names if name not in fields]:
            raise UserError(f"tasks.{task}.fields.{part}: no row has {unknown[0][:40]!r}; {_listed(fields)}")
    layouts = [*LAYOUTS, OF_KIND[kind or "multiple-choice"]]
    fitting = [layout for layout in layouts if kind in (None, layout.kind) and _asked(layout, mapped)]
    found = (_roles(layout, fields, mapped) for layout in fitting)
    roles = next((each for each in found if each), None)
    if roles is None:
        raise UserError(_not_recognised(task, fields, mapped, kind))
    return roles


def _given(mapped: Fields) -> dict[str, tuple[str, ...]]:
    given = mapped.model_dump(exclude_none=True)
    return {part: (names,) if isinstance(names, str) else tuple(names) for part, names in given.items()}


def _asked(layout: Layout, mapped: Fields) -> bool:
    """Whether a layout can have the parts that the preset names."""
    if mapped.choices:
        return layout.kind == "multiple-choice" and not layout.wrong
    return True


def _roles(layout: Layout, fields: Collection[str], mapped: Fields) -> Roles | None:
    by_name, given = {plain(name): name for name in fields}, _given(mapped)

    def first(part: str, names: Iterable[str]) -> str | None:
        return next(iter(given.get(part, ())), None) or next((by_name[n] for n in names if n in by_name), None)

    question, answer = first("question", layout.question), first("answer", layout.right or layout.answer)
    choices = given.get("choices") or _choices(layout, by_name, taken={question, answer})
    wrong = _choices(replace(layout, choices=layout.wrong, series=layout.wrong), by_name, taken={answer})
    if not question or not answer or any(name not in by_name for name in layout.required):
        return None
    if layout.kind == "multiple-choice" and not (wrong if layout.wrong else choices):
        return None
    context = given.get("context") or tuple(by_name[name] for name in layout.context if name in by_name)
    context = tuple(name for name in context if name not in (question, answer))
    identity = given.get("id", (by_name.get("id", "id"),))[0]
    multiple = layout.kind == "multiple-choice"
    return Roles(layout, question, context, tuple(choices) if multiple else (), answer, tuple(wrong), identity)


def _choices(layout: Layout, by_name: Mapping[str, str], taken: Collection[str | None]) -> tuple[str, ...]:
    """Returns the field that lists the choices, or the longest series of fields with a choice each."""
    for name in layout.choices:
        if name in by_name and (by_name[name] not in taken or name in layout.answer):
            return (by_name[name],)
    found: list[tuple[str, ...]] = [_series(beginning, by_name) for beginning in layout.series]
    return max(found, key=len, default=())


def _series(beginning: str, by_name: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the fields whose names are a beginning and A, B, ... or 0, 1, ... or 1, 2, ...; none with a gap."""
    for ends in ("abcdefghijklmnopqrstuvwxyz", range(26), range(1, 27)):
        found = [f"{beginning}{end}" in by_name for end in ends]
        count = sum(found)
        if all(found[:count]) and count >= (1 if beginning in _SINGLE else 2):
            return tuple(by_name[f"{beginning}{end}"] for end in list(ends)[:count])
    return ()


def _not_recognised(task: str, fields: Collection[str], mapped: Fields, kind: Kind | None) -> str:
    by_name, given = {plain(name) for name in fields}, _given(mapped)
    parts = {"question": QUESTION, "choices": LISTS, "answer": ANSWER}
    if kind in ("yes-no", "free-text"):
        del parts["choices"]
    missing = [
        f"{part} ({', '.join(names[:3])}, ...)"
        for part, names in parts.items()
        if part not in given and not by_name & set(names)
    ]
    other = f"; without choices set tasks.{task}.kind to free-text or yes-no" if len(missing) < 2 and not kind else ""
    return (
        f"data set {task}: {_listed(fields)}; not found: {', '.join(missing) or 'the choices'}; name them in "
        f"tasks.{task}.fields, for example tasks.{task}.fields.question=NAME{other}"
    )


def _listed(fields: Iterable[str], most: int = 8) -> str:
    """Returns a row's fields for a message.

    >>> _listed(["ask", "a"])
    'its rows have the fields ask, a'
    """
    names = [name[:24] for name in fields]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"its rows have the fields {', '.join(names[:most])}{more}"


def fields_of(rows: Iterable[Row]) -> list[str]:
    """Returns every field that has content in a row, in the order of its first appearance."""
    found: dict[str, None] = {}
    for row in rows:
        for name, value in flattened(row).items():
            if name not in found and value is not None and value != "":
                found[name] = None
    return list(found)
