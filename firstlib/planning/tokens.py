"""Numbers of examples and tokens of a task: counted if its questions are available, else from a built-in table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, cast

from transformers import PreTrainedTokenizerBase

from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model, Settings, Task
from firstlib.tasks import microworld
from firstlib.tasks.encoding import (
    Encoded,
    EncodedQuestion,
    encode_examples,
    encode_on_disk,
    encode_questions,
    tokens_of,
)
from firstlib.tasks.question import Question
from firstlib.tasks.source import DataSource


class PublishedCounts(NamedTuple):
    """Counts of a published data set: rows with answers by split; mean and longest tokens with Llama's tokenizer."""

    rows: dict[str, int]
    tokens: float
    positions: float
    longest: int


# Rows as published. Tokens: our prompts with Llama's tokenizer of 32,000 tokens, including begin and end, over the
# usable rows of csqa and obqa, 5,270 of boolq and 9,225 of alpaca. Positions: those of the response and its end token.
PUBLISHED: dict[Task, PublishedCounts] = {
    "csqa": PublishedCounts({"train": 9741, "validation": 1221}, 65.4, 7.0, 123),
    "boolq": PublishedCounts({"train": 9427, "validation": 3270}, 216.2, 2.0, 1425),
    "obqa": PublishedCounts({"train": 4957, "validation": 500, "test": 500}, 62.7, 7.0, 155),
    "alpaca": PublishedCounts({"train": 52_002}, 128.6, 66.2, 1097),
}


@dataclass(frozen=True)
class TaskPlan:
    """Size of one split of a task.

    Attributes:
        task: The task.
        examples: Number of examples.
        tokens: Number of tokens.
        positions: Number of tokens of responses.
        longest: Tokens of the longest example.
        basis: Origin of the numbers: `sampled`, `counted` or `stated`.
    """

    task: Task
    examples: int
    tokens: int
    positions: int
    longest: int
    basis: str


def plan_task(settings: Settings, task: Task, split: str = "train", sample: int = 200) -> TaskPlan:
    """Returns a split's size: a scaled sample for the microworld, a count for files, the table above for the hub.

    Raises:
        UserError: Files are not readable, or the tokenizer for a user's own data is not available.
    """
    if settings.generates(task):
        return _sampled(settings, task, split, sample)
    source = _source(settings) if settings.data.folder or task in settings.tasks else None
    if source is None:
        return _stated(settings, task, split)
    tokenizer, items = _tokenizer(settings.student), source.items(task, split)
    encoded = encode_on_disk(tokenizer, items)
    plan = _counted(task, encoded, len(encoded), "counted")
    if split == "train" or settings.data.candidates == "letters" or not isinstance(items[0], Question):
        return plan
    return _with_every_candidate(plan, encode_questions(tokenizer, cast(Sequence[Question], items)))


def _with_every_candidate(plan: TaskPlan, questions: Sequence[EncodedQuestion]) -> TaskPlan:
    """What asking reads where candidates are text: a question once, and after it the tokens of every candidate."""
    read = [[len(tokens_of(one)) for one in candidates] for _, candidates in questions]
    positions = sum(map(sum, read))
    return replace(plan, tokens=sum(len(stem) for stem, _ in questions) + positions, positions=positions)


@cache
def _tokenizer(model: Model) -> PreTrainedTokenizerBase:
    return loading.load_tokenizer(model)  # a second each, for 150,000 tokens


@cache
def _source(settings: Settings) -> DataSource | None:
    """Returns the files' data, read once, or None if the student's tokenizer is not available."""
    try:
        tokenizer = _tokenizer(settings.student)
    except UserError:
        return None
    return DataSource(settings, 0, lambda: tokenizer, lambda: None)


def _sampled(settings: Settings, task: Task, split: str, sample: int) -> TaskPlan:
    count = settings.count(task, split) or sample
    questions = microworld.ask(microworld.make_world(), task, split, min(sample, count), seed=0)
    encoded = encode_examples(_tokenizer(settings.student), [question.example() for question in questions])
    return _counted(task, encoded, count, "sampled")


def _counted(task: Task, encoded: Sequence[Encoded], count: int, basis: str) -> TaskPlan:
    lengths = [len(example.token_ids) for example in encoded]
    positions = sum(len(example.token_ids) - example.start for example in encoded)
    scale = count / len(encoded)
    return TaskPlan(task, count, round(scale * sum(lengths)), round(scale * positions), max(lengths), basis)


def _stated(settings: Settings, task: Task, split: str) -> TaskPlan:
    if task not in PUBLISHED:
        raise UserError(
            f"plan: tokens of {task} need the tokenizer of {settings.student.base}, which is not available; "
            "download it, or set student.base to a local folder"
        )
    known, count = PUBLISHED[task], published_count(settings, task, split)
    longest = min(known.longest, settings.data.max_length)
    return TaskPlan(task, count, round(count * known.tokens), round(count * known.positions), longest, "stated")


def published_count(settings: Settings, task: Task, split: str) -> int:
    """Returns the number of rows of our split of a published data set, by the rule of `tasks.hub`."""
    rows = dict(PUBLISHED[task].rows)
    if "test" not in rows:
        rows |= {"test": rows.pop("validation")} if "validation" in rows else {}
    sizes = settings.sizes
    for name, size in (("validation", sizes.validation), ("test", sizes.test or sizes.validation)):
        if name not in rows:
            rows |= {name: size, "train": max(0, rows["train"] - size)}
    limit = settings.count(task, split)
    return min(rows[split], limit) if limit else rows[split]
