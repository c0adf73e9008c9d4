"""Where the explorer's numbers and words come from: an experiment, or plain arrays of anybody's."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.experiment.experiment import Experiment
from firstlib.runtime.artefacts import MANIFEST, Artefacts
from firstlib.runtime.hashing import content_hash
from firstlib.settings.schema import Task


@dataclass(frozen=True)
class Asked:
    """A question as a reader sees it: its text, and what each candidate stands for."""

    text: str
    choices: tuple[str, ...]


class Source(Hashable, Protocol):
    """What `compute` asks for. Two sources are equal only if they are the same one."""

    @property
    def vocabulary(self) -> int:
        """Tokens that the teacher chooses from."""

    def answers(self, task: Task, split: str) -> Predictions:
        """The fine-tuned teacher's answers, as they are."""

    def asked(self, task: Task, split: str, row: int) -> Asked:
        """One question's words."""

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """What tokens read."""

    def student(self, task: Task, split: str) -> Predictions | None:
        """The student's answers to the same questions; None where there is no student yet."""


class ExperimentSource:
    """A source over an experiment. Its student is FIRST's, once that is distilled; the explorer never trains."""

    def __init__(self, experiment: Experiment, ask: bool = True) -> None:
        """Computes nothing yet; without `ask` a student is shown only where its answers are kept already."""
        self.experiment, self._ask = experiment, ask
        self.vocabulary = experiment.vocabulary_size
        self._kept: dict[Any, Any] = {}

    def answers(self, task: Task, split: str) -> Predictions:
        """The teacher's answers on its own task."""
        return self._once(("answers", task, split), lambda: self.experiment.predictions("teacher", task, task, split))

    def asked(self, task: Task, split: str, row: int) -> Asked:
        """The prompt with its choices; in free text everything up to the position that is asked about."""
        if not self.experiment.asks(task, split):
            return self._followed(task, split, row)
        question = self.experiment.questions(task, split)[row]
        labels = zip(question.candidates, question.choices, strict=True)
        names = (f"{label.strip()} {choice}" if label.strip() != choice else choice for label, choice in labels)
        return Asked(question.prompt + question.lead, tuple(names))

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Each token by itself."""
        tokenizer = self.experiment.tokenizer("teacher")
        return [str(tokenizer.decode([int(i)])) for i in token_ids]

    def student(self, task: Task, split: str) -> Predictions | None:
        """FIRST's student, asked once, if its folder is complete."""
        return self._once(("student", task, split), lambda: self._student(task, split))

    def _student(self, task: Task, split: str) -> Predictions | None:
        looking = self.experiment.change()
        looking.artefacts = _Finished(self.experiment.artefacts.folder)
        try:
            looking.student("first", task)
            if not self._ask:
                return looking.predictions("first", task, task, split)
        except _NotMade:
            return None
        return self.experiment.predictions("first", task, task, split)

    def _followed(self, task: Task, split: str, row: int) -> Asked:
        found = self.answers(task, split)
        name, position = str(found.question_id[row]).rsplit(":", 1)
        encoded = self._once(
            ("encoded", task, split),
            lambda: {example.id: example for example in self.experiment.encoded(task, split, "teacher")},
        )
        text = self.experiment.tokenizer("teacher").decode(list(encoded[name].token_ids[: int(position)]))
        return Asked(str(text), tuple(self.tokens(found.candidate_ids[row][found.candidate_ids[row] >= 0])))

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


class ArraySource:
    """A source over plain arrays: the answers of each task and split, and of a student if there is one."""

    def __init__(
        self,
        answers: dict[tuple[Task, str], Predictions],
        vocabulary: int,
        students: dict[tuple[Task, str], Predictions] | None = None,
        texts: dict[tuple[Task, str], Sequence[Asked]] | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self._answers, self._students, self._texts = answers, students or {}, texts or {}

    def answers(self, task: Task, split: str) -> Predictions:
        """As they were given."""
        return self._answers[task, split]

    def asked(self, task: Task, split: str, row: int) -> Asked:
        """As it was given, else the question's id and numbered choices."""
        if (task, split) in self._texts:
            return self._texts[task, split][row]
        found = self._answers[task, split]
        count = int(np.sum(found.candidate_ids[row] >= 0))
        return Asked(str(found.question_id[row]), tuple(f"choice {number + 1}" for number in range(count)))

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Their numbers, for arrays have no words."""
        return [str(int(i)) for i in token_ids]

    def student(self, task: Task, split: str) -> Predictions | None:
        """As it was given."""
        return self._students.get((task, split))


class _NotMade(Exception):  # noqa: N818
    """A stage is not finished."""


class _Finished(Artefacts):
    """Finds what is finished, and makes nothing."""

    def get(self, stage: str, inputs: dict[str, Any], make: Callable[[Path], None], *, together: bool = False) -> Path:
        """The folder of a stage, if it is complete."""
        folder = self.folder / f"{stage}-{content_hash(inputs)}"
        if not (folder / MANIFEST).is_file():
            raise _NotMade(folder.name)
        return folder
