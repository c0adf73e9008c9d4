"""Where an experiment's questions come from: the microworld, or real data sets."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import project_path
from firstlib.runtime.sequences import LazySequence
from firstlib.settings.schema import Settings, Task
from firstlib.tasks import hub, microworld
from firstlib.tasks.encoding import check_taught, in_chat, reasons_not_to_fit
from firstlib.tasks.question import Item, Question


class DataSource:
    """The items of every task and split, each computed once."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        tokenizer: Callable[[], PreTrainedTokenizerBase],
        context: Callable[[], int | None],
    ) -> None:
        """Nothing is read yet; tokenizer and context length are asked for only where real rows must fit a model."""
        self.settings, self.seed, self._tokenizer, self._context = settings, seed, tokenizer, context
        self._items: dict[tuple[Task, str], Sequence[Item]] = {}
        self._published: dict[Task, dict[str, hub.Published]] = {}

    @cached_property
    def world(self) -> microworld.World:
        """The microworld, with its truth."""
        return microworld.make_world()

    def items(self, task: Task, split: str) -> Sequence[Item]:
        """The questions of one task and split, or plain examples where answers are free text.

        Raises:
            UserError: A real data set cannot be had, or too much of it cannot be used.
        """
        if (task, split) not in self._items:
            made = self._invented(task, split) if self.settings.data.source == "microworld" else self._real(task, split)
            self._items[task, split] = made
        return self._items[task, split]

    def unusable(self, task: Task) -> dict[str, dict[str, str]]:
        """Of each published split that was read, why which rows cannot be used."""
        return {split: part.unusable for split, part in self._published.get(task, {}).items()}

    def foreign_choices(self, task: Task, question: Question) -> list[str]:
        """Texts that answer something else: in the microworld certainly, elsewhere the choices of other questions."""
        if self.settings.data.source == "microworld":
            return microworld.foreign_values(question)
        others = [item for item in self.items(task, "test") if isinstance(item, Question)]
        texts = dict.fromkeys(choice for other in others for choice in other.choices)
        return [text for text in texts if text not in question.choices]

    def _invented(self, task: Task, split: str) -> list[Item]:
        count = self.settings.count(task, split)
        assert count is not None, "settings of the microworld have every size"
        return list(microworld.ask(self.world, task, split, count, self.seed))

    def _real(self, task: Task, split: str) -> Sequence[Item]:
        if task not in self._published:
            self._published[task] = hub.read(task, self.settings.data, self._place(task), self._fits)
            self._check_taught(self._published[task])
        sizes = self.settings.sizes
        chosen = hub.choose(
            self._published[task], split, seed=self.seed, count=self.settings.count(task, split),
            validation=sizes.validation, test=sizes.test,
        )  # fmt: skip
        if not self.settings.data.chat_template:
            return chosen
        return LazySequence(len(chosen), lambda i: in_chat(self._tokenizer(), chosen[i]))

    def _fits(self, items: Sequence[Item]) -> list[str | None]:
        tokenizer = self._tokenizer()
        longest = min(self.settings.data.max_length, self._context() or self.settings.data.max_length)
        return reasons_not_to_fit(tokenizer, items, longest)

    def _check_taught(self, published: Mapping[str, hub.Published]) -> None:
        for part in published.values():
            check_taught(self._tokenizer(), [item for item in part.items[:_CHECKED] if isinstance(item, Question)])

    def _place(self, task: Task) -> Path | None:
        data = self.settings.data
        if task == "own":
            return project_path(data.own) if data.own else None
        if not data.folder:
            return None
        folder = project_path(data.folder)
        if "$" in str(folder):
            raise UserError(f"data.folder: {data.folder} is not set; let it name the folder of the data sets")
        return folder / hub.NAMES[task][0].split("/")[1]


_CHECKED = 100  # questions whose letters are checked: the prompts of a task differ in their words alone
