"""The source of an experiment's questions: the microworld or real data sets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import project_path
from firstlib.runtime.sequences import LazySequence
from firstlib.settings.data import PUBLISHED, TaskData
from firstlib.settings.schema import Settings, Task
from firstlib.tasks import hub, microworld
from firstlib.tasks.chat import in_chat
from firstlib.tasks.encoding import check_taught, reasons_not_to_fit
from firstlib.tasks.question import Item, Question
from firstlib.tasks.text_answers import in_words

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase


@lru_cache(maxsize=16)
def _asked(task: Task, split: str, count: int, seed: int) -> tuple[Question, ...]:
    """Returns the microworld's questions, made once for all experiments of a process: notebooks share one."""
    return tuple(microworld.ask(microworld.make_world(), task, split, count, seed))


class DataSource:
    """Provides the items of every task and split; each is computed once."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        tokenizer: Callable[[], "PreTrainedTokenizerBase"],
        context: Callable[[], int | None],
    ) -> None:
        """Reads nothing yet; the tokenizer and the context length are requested only for real data sets."""
        self.settings, self.seed, self._tokenizer, self._context = settings, seed, tokenizer, context
        self._items: dict[tuple[Task, str], Sequence[Item]] = {}
        self._published: dict[Task, dict[str, hub.PublishedSplit]] = {}

    def items(self, task: Task, split: str) -> Sequence[Item]:
        """Returns the questions of one task and split, or examples if answers are free text.

        Raises:
            UserError: A real data set is not available, or too many of its rows are unusable.
        """
        if (task, split) not in self._items:
            generated = self.settings.generates(task)
            self._items[task, split] = self._generate(task, split) if generated else self._load(task, split)
        return self._items[task, split]

    def unusable(self, task: Task) -> dict[str, dict[str, str]]:
        """Returns, for each published split read so far, the reason by id of each unusable row."""
        return {split: part.unusable for split, part in self._published.get(task, {}).items()}

    def files(self, task: Task) -> dict[str, dict[str, int]]:
        """Returns, for each file read so far, the splits that its rows are in, with their numbers."""
        found: dict[str, dict[str, int]] = {}
        for split, part in self._published.get(task, {}).items():
            for name, count in part.files.items():
                found.setdefault(name, {})[split] = count
        return found

    def foreign_choices(self, task: Task, question: Question) -> list[str]:
        """Returns answers to other questions: unrelated values in the microworld, else choices of other questions."""
        if self.settings.generates(task):
            return microworld.foreign_values(question)
        others = [item for item in self.items(task, "test") if isinstance(item, Question)]
        texts = dict.fromkeys(choice for other in others for choice in other.choices)
        return [text for text in texts if text not in question.choices]

    def _generate(self, task: Task, split: str) -> list[Item]:
        count = self.settings.count(task, split)
        assert count is not None, "the settings require all sizes for the microworld"
        return list(map(self._worded, _asked(task, split, count, self.seed)))

    def _worded(self, item: Item) -> Item:
        return in_words(item) if self.settings.data.candidates == "text" else item

    def _load(self, task: Task, split: str) -> Sequence[Item]:
        if task not in self._published:
            own = self.settings.tasks.get(task)
            place = self.location(task, own)
            published = hub.read(task, self.settings.data, place, self._reasons_not_to_fit, own)
            self._check_asked(task, published)
            self._check_taught(published)
            self._published[task] = published
        sizes = self.settings.sizes
        chosen = hub.choose(
            self._published[task], split, seed=self.seed, count=self.settings.count(task, split),
            validation=sizes.validation, test=sizes.test,
        )  # fmt: skip
        data = self.settings.data
        if not data.chat_template:
            return chosen if data.candidates == "letters" else LazySequence(len(chosen), lambda i: in_words(chosen[i]))
        return LazySequence(
            len(chosen), lambda i: in_chat(self._tokenizer(), self._worded(chosen[i]), data.chat_variables)
        )

    def _reasons_not_to_fit(self, items: Sequence[Item]) -> list[str | None]:
        tokenizer = self._tokenizer()
        longest = min(self.settings.data.max_length, self._context() or self.settings.data.max_length)
        return reasons_not_to_fit(tokenizer, items, longest)

    def _check_asked(self, task: Task, published: Mapping[str, hub.PublishedSplit]) -> None:
        tested = any(task in column.test for column in self.settings.columns)
        if tested and not isinstance(published["train"].items[0], Question):
            raise UserError(f"columns: {task} has free answers and cannot be a test set")

    def _check_taught(self, published: Mapping[str, hub.PublishedSplit]) -> None:
        for part in published.values():
            check_taught(self._tokenizer(), _questions(map(self._worded, part.items[:_CHECKED])))

    def location(self, task: Task, own: TaskData | None) -> Path | None:
        """Returns the file or folder that holds a task's questions; None: the hub has them."""
        data = self.settings.data
        if own and own.file:
            return _set(project_path(own.file), f"tasks.{task}.file", own.file)
        if not data.folder:
            return None
        folder = _set(project_path(data.folder), "data.folder", data.folder)
        place = folder / str(own.hub if own else PUBLISHED[task][0]).rsplit("/", 1)[-1]
        return place if place.exists() or not own else None


def _questions(items: Iterable[Item]) -> list[Question]:
    return [item for item in items if isinstance(item, Question)]


def _set(place: Path, key: str, given: str) -> Path:
    """Returns the place.

    Raises:
        UserError: It holds a variable that is not set.
    """
    if "$" in str(place):
        raise UserError(f"{key}: {given[:100]} is not set; set it to the folder of the data sets")
    return place


_CHECKED = 100  # questions whose candidates are checked: a task's prompts share one format
