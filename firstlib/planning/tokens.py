"""How many examples and tokens a task has: counted where its questions are at hand, else as stated here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Settings, Task
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode_examples, encode_on_disk
from firstlib.tasks.source import DataSource


class Published(NamedTuple):
    """A published data set: its rows with answers by split, and means over them in Llama's tokens."""

    rows: dict[str, int]
    tokens: float
    positions: float
    longest: int


# Rows as published. Tokens with our prompts and Llama's 32,000 pieces, begin and end included, over the usable rows of
# csqa and obqa, 5,270 of boolq and 9,225 of alpaca. Positions are those of the response and its end.
PUBLISHED: dict[Task, Published] = {
    "csqa": Published({"train": 9741, "validation": 1221}, 65.4, 7.0, 123),
    "boolq": Published({"train": 9427, "validation": 3270}, 216.2, 2.0, 1425),
    "obqa": Published({"train": 4957, "validation": 500, "test": 500}, 62.7, 7.0, 155),
    "alpaca": Published({"train": 52_002}, 128.6, 66.2, 1097),
}


@dataclass(frozen=True)
class TaskPlan:
    """One split of a task: its tokens, all and those of responses alone, and its longest example.

    Attributes:
        basis: How they were found: `sampled`, `counted` or `stated`.
    """

    task: Task
    examples: int
    tokens: int
    positions: int
    longest: int
    basis: str


def plan_task(settings: Settings, task: Task, split: str = "train", sample: int = 200) -> TaskPlan:
    """A split's tokens: of the microworld a sample, of files all of them, of the hub's data sets what is stated here.

    Raises:
        UserError: Files cannot be read, or there is no tokenizer for a data set that is not published.
    """
    if settings.data.source == "microworld":
        return _sampled(settings, task, split, sample)
    source = _source(settings) if settings.data.folder or task == "own" else None
    if source is None:
        return _stated(settings, task, split)
    encoded = encode_on_disk(loading.load_tokenizer(settings.student), source.items(task, split))
    return _counted(task, encoded, len(encoded), "counted")


@cache
def _source(settings: Settings) -> DataSource | None:
    """The data's files, read once; None where the student's tokenizer cannot be had."""
    try:
        tokenizer = loading.load_tokenizer(settings.student)
    except UserError:
        return None
    return DataSource(settings, 0, lambda: tokenizer, lambda: None)


def _sampled(settings: Settings, task: Task, split: str, sample: int) -> TaskPlan:
    count = settings.count(task, split) or sample
    questions = microworld.ask(microworld.make_world(), task, split, min(sample, count), seed=0)
    encoded = encode_examples(loading.load_tokenizer(settings.student), [question.example() for question in questions])
    return _counted(task, encoded, count, "sampled")


def _counted(task: Task, encoded: Sequence[Encoded], count: int, basis: str) -> TaskPlan:
    lengths = [len(example.token_ids) for example in encoded]
    positions = sum(len(example.token_ids) - example.start for example in encoded)
    scale = count / len(encoded)
    return TaskPlan(task, count, round(scale * sum(lengths)), round(scale * positions), max(lengths), basis)


def _stated(settings: Settings, task: Task, split: str) -> TaskPlan:
    if task not in PUBLISHED:
        raise UserError(f"plan: tokens of {task} need the tokenizer of {settings.student.base}, which cannot be had")
    known, count = PUBLISHED[task], published_count(settings, task, split)
    longest = min(known.longest, settings.data.max_length)
    return TaskPlan(task, count, round(count * known.tokens), round(count * known.positions), longest, "stated")


def published_count(settings: Settings, task: Task, split: str) -> int:
    """Rows of our split of a published data set, by the rule of `tasks.hub`."""
    rows = dict(PUBLISHED[task].rows)
    if "test" not in rows:
        rows |= {"test": rows.pop("validation")} if "validation" in rows else {}
    sizes = settings.sizes
    for name, size in (("validation", sizes.validation), ("test", sizes.test or sizes.validation)):
        if name not in rows:
            rows |= {name: size, "train": max(0, rows["train"] - size)}
    limit = settings.count(task, split)
    return min(rows[split], limit) if limit else rows[split]
