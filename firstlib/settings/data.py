"""Where questions come from: the paper's data sets, and those that a preset names itself."""

import codecs
import re
from typing import Literal, Self

from pydantic import Field, model_validator

from firstlib.settings.base import Count, Part
from firstlib.settings.limits import LARGEST_SEED

# The paper's data sets, as the hub calls them: name and configuration.
PUBLISHED: dict[str, tuple[str, str | None]] = {
    "csqa": ("tau/commonsense_qa", None),
    "boolq": ("google/boolq", None),
    "obqa": ("allenai/openbookqa", "main"),
    "alpaca": ("tatsu-lab/alpaca", None),
}
OWN = "own"  # the task whose place `data.own` gives in one word
# Folders and reports are named after tasks, with hyphens between the parts of a name.
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

Kind = Literal["multiple-choice", "yes-no", "free-text"]
Answers = Literal["label", "letter", "text", "from-0", "from-1", "truth"]
Names = str | tuple[str, ...]


class Data(Part):
    """Where questions come from, and which rows are usable."""

    source: Literal["microworld", "hub"] = Field(
        default="microworld", description="synthetic questions, or real data sets from the hub or from files"
    )
    folder: str | None = Field(
        default=None,
        description="files instead of the hub: one folder per data set, in the hub's or the original layout",
    )
    own: str | None = Field(
        default=None, description="short for `tasks.own.file`: a user's own file or folder, as the task `own`"
    )
    candidates: Literal["letters", "text"] = Field(
        default="letters",
        description="what multiple-choice questions are answered with: a letter of a list of choices, or a choice's "
        "own text, of any number of tokens",
    )
    chat_template: bool = Field(
        default=False, description="ask in the model's own chat format; its date is fixed, and its thoughts stay empty"
    )
    chat_variables: dict[str, bool | int | float | str] = Field(
        default={}, description="variables of the template, for example `enable_thinking: true`"
    )
    max_length: Count = Field(
        default=1024, description="tokens of prompt and response together; longer rows are left out"
    )
    seed: int | None = Field(
        default=None, ge=0, le=LARGEST_SEED, description="draws the questions; null: the run's seed, which trains too"
    )
    max_unusable: float = Field(default=0.02, ge=0, le=1, description="share of a split that may be unusable")


class Fields(Part):
    """What a data set calls the parts of a row, where its names are not recognised."""

    question: str | None = Field(default=None, description="the question, or the instruction of free text")
    context: Names | None = Field(default=None, description="a passage to read first; a list: one after the other")
    choices: Names | None = Field(default=None, description="one field that holds a list, or a list of fields")
    answer: str | None = Field(default=None, description="the right choice, or the answer as free text")
    id: str | None = Field(default=None, description="unique within a split")


class Splits(Part):
    """Which files, or which of the hub's splits, are which split, where their names do not tell."""

    train: Names | None = Field(default=None, description="names or patterns such as `part-*.jsonl`, inside the folder")
    validation: Names | None = Field(default=None, description="the same, of the validation split")
    test: Names | None = Field(default=None, description="the same, of the test split")

    def patterns(self) -> dict[str, tuple[str, ...]]:
        """Returns the patterns of every split that has some."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: (each,) if isinstance(each, str) else each for name, each in given.items() if each}


class TaskData(Part):
    """A data set of one's own, under a name that columns use like `csqa`."""

    file: str | None = Field(default=None, description="a file, or a folder of files, one or more for each split")
    hub: str | None = Field(default=None, description="a data set of the hub, instead of `file`")
    config: str | None = Field(default=None, description="its configuration; of a folder, the folder inside")
    revision: str | None = Field(default=None, description="of the hub's data set: a branch, a tag or a commit")
    kind: Kind | None = Field(default=None, description="what an answer is; null: what the fields of the rows say")
    fields: Fields = Fields()
    answers: Answers | None = Field(
        default=None,
        description="how the answers are written: `label`, as the choices are labelled; `letter`; `text`, of the "
        "choice; `from-0` or `from-1`, its number. null: decided over all rows, or refused where two ways fit",
    )
    splits: Splits = Splits()
    encoding: str | None = Field(
        default=None, description="of CSV files; null: UTF-8, UTF-16 with its mark, or else Windows' cp1252"
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if self.file and self.hub:
            raise ValueError("give file or hub, not both")
        if self.file and self.revision:
            raise ValueError("revision: means something only with hub; leave it out")
        if self.encoding:
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise ValueError(f"encoding: Python knows no {self.encoding[:30]!r}; try utf-8 or cp1252") from error
        return self


def check_task_names(tasks: dict[str, TaskData]) -> None:
    """Checks the names and places of a preset's own tasks.

    Raises:
        ValueError: A name is not usable as part of a folder's name, or is that of a paper's data set; a task has no
            place.
    """
    seen: set[str] = set()
    for name, task in tasks.items():
        if not TASK_NAME.fullmatch(name) or name in PUBLISHED or name.lower() in seen:
            raise ValueError(
                f"tasks: {name[:60]!r} cannot be a task's name; use up to 40 letters, digits and _, a letter first, "
                f"each name once, and none of {', '.join(PUBLISHED)}"
            )
        seen.add(name.lower())
        if not task.file and not task.hub:
            raise ValueError(f"tasks.{name}: has no place; give file (a file or folder) or hub (a name on the hub)")
