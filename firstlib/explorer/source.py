"""Where the explorer's numbers and texts come from."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from firstlib.evaluation.predictions import Predictions
from firstlib.experiment import Experiment, coefficients
from firstlib.runtime.errors import MissingStageError, UserError
from firstlib.settings.methods import Method
from firstlib.settings.schema import Task


@dataclass(frozen=True)
class QuestionText:
    """What a reader sees of a question.

    Attributes:
        text: The question, as the model reads it.
        choices: What each candidate stands for.
    """

    text: str
    choices: tuple[str, ...]


class ExplorerSource(Hashable, Protocol):
    """What `compute` needs. Two sources are equal only if they are the same object."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the teacher chooses from."""

    def answers(self, task: Task, split: str) -> Predictions:
        """Returns the fine-tuned teacher's answers, not recalibrated."""

    def asked(self, task: Task, split: str, row: int) -> QuestionText:
        """Returns the text of the question that a row of `answers` belongs to."""

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Returns the text of each token."""

    def student(self, task: Task, split: str) -> Predictions | None:
        """Returns the student's answers, row by row as `answers`; None if there is no student yet."""


class ExperimentSource:
    """An experiment as a source. Its student is that of the method that the explorer tunes; it is never trained here.

    Attributes:
        method: The name of that method.
    """

    def __init__(self, experiment: Experiment, ask: bool = True) -> None:
        """Computes nothing yet.

        Args:
            experiment: The teacher's answers are computed if the experiment does not have them.
            ask: Whether to ask a finished student questions; if not, only stored answers are shown.

        Raises:
            UserError: No method of the experiment has a temperature.
        """
        self.experiment, self.method, self._ask = experiment, tuned_method(experiment), ask

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the teacher chooses from."""
        data = self.experiment.run.data
        return data.vocabulary(data.knowledge_role)

    def answers(self, task: Task, split: str) -> Predictions:
        """Returns the answers that the method's targets are made of: one teacher's, or those of all fold teachers."""
        return coefficients.target_answers(self.experiment.run, self._settings, task, split)

    def asked(self, task: Task, split: str, row: int) -> QuestionText:
        """Returns the prompt and its choices; for free text everything up to the position that the row stands for."""
        if not self.experiment.run.data.has_candidates(task, split):
            return self._position(task, split, row)
        questions = self.experiment.questions(task, split)
        question = questions[row % len(questions)]  # fold teachers answer all questions one after the other
        labels = zip(question.candidates, question.choices, strict=True)
        names = (f"{label.strip()} {choice}" if label.strip() != choice else choice for label, choice in labels)
        return QuestionText(question.prompt + question.lead, tuple(names))

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Returns the text of each token, decoded alone."""
        data = self.experiment.run.data
        tokenizer = data.tokenizer(data.knowledge_role)
        return [str(tokenizer.decode([int(i)])) for i in token_ids]

    def student(self, task: Task, split: str) -> Predictions | None:
        """Returns the answers of the student that the current coefficient gives; None if it is not trained yet.

        Looks at the run's folder each time, and compares the files of the student with their hashes.

        Raises:
            UserError: The student, or what it was made of, is damaged.
        """
        sealed = self.experiment.sealed()
        try:
            sealed.student(self.method, task)
            asked = self.experiment if self._ask else sealed
            found = asked.predictions(self.method, task, task, split)
        except MissingStageError:
            return None
        return Predictions.joined([found] * self._teachers)

    @property
    def _settings(self) -> Method:
        return self.experiment.settings.methods[self.method]

    @property
    def _teachers(self) -> int:
        return self._settings.folds if self._settings.knowledge == "cross-fitted" else 1

    def _position(self, task: Task, split: str, row: int) -> QuestionText:
        found, data = self.answers(task, split), self.experiment.run.data
        role = data.knowledge_role
        name, position = str(found.question_id[row]).rsplit(":", 1)
        encoded = data.once(
            ("encoded by id", task, split, role),
            lambda: {example.id: example for example in data.encoded(task, split, role)},
        )
        text = data.tokenizer(role).decode(list(encoded[name].token_ids[: int(position)]))
        return QuestionText(str(text), tuple(self.tokens(found.candidate_ids[row][found.candidate_ids[row] >= 0])))


def tuned_method(experiment: Experiment) -> str:
    """Returns the name of the method whose temperature the explorer tunes.

    Raises:
        UserError: No method of the experiment has a temperature.
    """
    name = experiment.settings.recalibrated
    if name is None:
        raise UserError(
            f"methods: the explorer tunes a temperature, and none of {', '.join(experiment.settings.methods)} has one; "
            "add a method such as first: {learns: top-k, map: temperature}"
        )
    return name
