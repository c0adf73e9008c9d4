"""A preset and a seed, and from there every stage of the paper by name.

Each stage is computed when it is first asked for, and kept under the hash of everything it depends on.
"""

import json
import os
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from firstlib.distillation.loggers import check_loggers
from firstlib.distillation.search import Search
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Row
from firstlib.experiment import answers, coefficients, students, summary, teachers
from firstlib.experiment.data import RunData
from firstlib.experiment.run import Run
from firstlib.knowledge import KnowledgeStore
from firstlib.runtime.artefacts import Artefacts
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.hashing import content_hash
from firstlib.runtime.paths import RESULTS, preset_name, run_folder
from firstlib.settings.limits import LARGEST_SEED
from firstlib.settings.loading import change_settings, load_preset
from firstlib.settings.schema import Knowledge, Reading, Role, Settings, Task
from firstlib.tasks.encoding import encode_questions
from firstlib.tasks.question import Question

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase


class Experiment:
    """A preset under one seed. `results()` computes the paper's table; everything else can be asked for by name."""

    def __init__(
        self,
        preset: str | os.PathLike[str] = "microworld",
        seed: SupportsIndex = 0,
        run_folder: str | os.PathLike[str] = "runs",
        overrides: Iterable[str] = (),
    ) -> None:
        """Opens an experiment; computes nothing yet.

        Raises:
            UserError: A parameter has the wrong type, or a preset, a setting or a logger is wrong.
        """
        preset, run_folder = _plain_text("preset", preset), _plain_text("run_folder", run_folder)
        seed = _whole_number("seed", seed)
        if not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"seed: must be from 0 to {LARGEST_SEED}, not {seed}")
        texts = _texts(overrides)
        settings = load_preset(preset, texts)
        check_loggers(settings.training.report_to)
        self.preset, self.seed = preset, seed
        folder = _folder(run_folder, preset, seed, texts)
        settings = _with_place_for_served(settings, folder)
        self.run = Run(settings, seed, Artefacts(folder), RunData(settings, seed))

    def __repr__(self) -> str:
        return f"Experiment(preset={self.preset!r}, seed={self.seed})"

    def change(self, **changes: Any) -> "Experiment":
        """Returns the experiment with some settings changed, for example `student__tuning="lora"`.

        It shares the run's folder: stages that the change does not touch are reused.
        """
        settings = _without_place_for_served(self.settings, self.folder)
        settings = _with_place_for_served(change_settings(settings, **changes), self.folder)
        check_loggers(settings.training.report_to)
        return self._on(self.run.under(settings))

    def sealed(self) -> "Experiment":
        """Returns the experiment as it is on disk: a missing stage is an error instead of being computed."""
        return self._on(replace(self.run, artefacts=replace(self.run.artefacts, sealed=True)))

    def _on(self, run: Run) -> "Experiment":
        other = copy(self)
        other.run = run
        return other

    # -- what it is about --------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Every number of the experiment."""
        return self.run.settings

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @property
    def methods(self) -> tuple[str, ...]:
        """Rows of the results table: the teacher, then every method of the preset."""
        return self.settings.method_names

    @property
    def tasks(self) -> list[Task]:
        """Every task that a model is trained on."""
        return self.settings.training_tasks

    @property
    def main_task(self) -> Task:
        """The task that notebooks look at closely: the first column's."""
        return self.settings.columns[0].train

    def questions(self, task: Task, split: str = "test") -> list[Question]:
        """Returns the questions of one task's `train`, `validation` or `test` split.

        Raises:
            UserError: The task's answers are free text.
        """
        return self.run.data.questions(task, split)

    def tokenizer(self, role: Role = "student") -> "PreTrainedTokenizerBase":
        """Returns the tokenizer of teacher or student."""
        return self.run.data.tokenizer(role)

    def describe(self, role: Role) -> str:
        """Returns teacher or student in a line: base, size, tuning, type, device."""
        from firstlib.models.loading import description  # here: it needs torch

        return f"{role} {description(self.run.data.model(role))}"

    # -- the paper's stages ------------------------------------------------------------------------------------

    def teacher(self, task: Task) -> Path:
        """Stage 1: returns the folder of the teacher fine-tuned on a task.

        Raises:
            UserError: The knowledge is imported, so no teacher is here.
        """
        return teachers.teacher(self.run, task)

    def knowledge(self, task: Task, k: int | None = None, split: str = "train") -> KnowledgeStore:
        """Stage 2: returns the fine-tuned teacher's top k at every response position."""
        return teachers.knowledge(self.run, task, k, split)

    def answer_probabilities(self, task: Task, k: int = 100) -> np.ndarray:
        """Returns the teacher's top k `(N, k)` at the answers of the training set; in free text at every position."""
        store, data = self.knowledge(task, k), self.run.data
        if not data.has_candidates(task, "train"):
            return store.all_probabilities()
        role = data.knowledge_role
        stems = encode_questions(data.tokenizer(role), self.questions(task, "train"))
        pairs = zip(data.encoded(task, "train", role), stems, strict=True)
        return np.stack([store[e.id].probabilities[len(stem) - e.start] for e, (stem, _) in pairs])

    def search(self, task: Task, method: str | None = None) -> Search:
        """Stage 3: returns the two-step search for a method's coefficient on validation data."""
        return students.search(self.run, self._tuned(method), task)

    def coefficient(self, task: Task, method: str | None = None) -> float:
        """Returns a method's coefficient: the preset's, else one chosen by hand, else the search's."""
        return students.coefficient(self.run, self._tuned(method), task)

    def choose(self, task: Task, coefficient: float | None, method: str | None = None) -> None:
        """Keeps a coefficient in the run, from which students are then distilled; None: the search's again.

        Raises:
            UserError: The coefficient is not positive, the method has none to choose, or no model is trained on the
                task.
        """
        coefficients.choose(self.run, self._tuned(method), task, coefficient)

    def student(self, method: str, task: Task) -> Path:
        """Stage 4: returns the folder of the student that a method trains on a task."""
        return students.student(self.run, method, task)

    def stage(self, name: str, task: str) -> Path:
        """Computes one costly stage by name and returns its folder: `teacher`, `knowledge`, or a method's student.

        Raises:
            UserError: No such stage, or no model is trained on the task.
        """
        known = ("teacher", "knowledge", *self.settings.all_methods)
        if name not in known or task not in self.tasks:
            listed = f"the stages are {', '.join(known)}; the tasks are {', '.join(self.tasks)}"
            raise UserError(f"stage {name} {task}: {listed}")
        if name == "knowledge":
            return Path(self.knowledge(task).path).parent
        return self.teacher(task) if name == "teacher" else self.student(name, task)

    # -- answers -----------------------------------------------------------------------------------------------

    def predictions(self, method: str, train: Task, test: Task, split: str = "test") -> Predictions:
        """Returns the answers of the teacher, or of a method's student, to the questions of `test`."""
        return summary.predictions(self.run, method, train, test, split)

    def base_predictions(self, role: Role, test: Task, split: str = "test") -> Predictions:
        """Returns a base model's answers, before any fine-tuning."""
        return answers.base_answers(self.run, role, test, split)

    def ask(self, method: str, train: Task, questions: Sequence[Question], keep: str | None = None) -> Predictions:
        """Returns a trained model's answers to any questions; kept in the run under the name `keep`, if given."""
        if method != "teacher":
            return students.ask_student(self.run, method, train, questions, keep)
        return answers.ask_any(self.run, "teacher", self.settings.teacher, self.teacher(train), questions, keep=keep)

    def losses(self, method: str, task: Task) -> list[float]:
        """Returns the training loss of each step, in nats."""
        trained = self.teacher(task) if method == "teacher" else self.student(method, task)
        return json.loads((trained / "losses.json").read_text(encoding="utf-8"))

    def rows(self, reading: Reading | None = None) -> list[Row]:
        """Returns the results table: every method on every test set of every column."""
        return summary.rows(self.run, reading)

    def results(self) -> dict[str, Any]:
        """Returns everything that a run reports, and writes it to `results.json` in the run's folder.

        A changed experiment (`change`) shares that folder and leaves its file alone; a sealed one writes nothing.
        """
        content = summary.measured(self.run, preset_name(self.preset))
        if not self.run.changed and not self.run.artefacts.sealed:
            write_json(self.folder / RESULTS, content)
        return content

    @property
    def figures(self) -> Path:
        """The folder of the run's figures."""
        return self.folder / "figures"

    def _tuned(self, method: str | None) -> str:
        name = method or self.settings.recalibrated
        if name is None:
            raise UserError("methods: none of them recalibrates with a temperature, so there is no coefficient")
        students.method_of(self.run, name)  # refuses an unknown one
        return name


_folder = run_folder  # a parameter of `Experiment` has its name


def _plain_text(name: str, value: Any) -> str:
    """Returns a text, or the text of a path."""
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{name}: must be text, not {value!r}")
    return str(os.fspath(value))


def _whole_number(name: str, value: Any) -> int:
    """Returns a whole number, NumPy's among them; a truth value is none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        raise UserError(f"{name}: must be a whole number, not {value!r}")
    return index(value)


def _with_place_for_served(settings: Settings, folder: Path) -> Settings:
    """Returns settings in which a live server's answers are imported from the run's own folder."""
    kept = settings.knowledge
    return settings if not kept.server or kept.imported else _importing(settings, _place_for_served(kept, folder))


def _without_place_for_served(settings: Settings, folder: Path) -> Settings:
    """Returns settings as a user gave them, so that a changed server gets a place of its own."""
    kept = settings.knowledge
    derived = kept.server and kept.imported == _place_for_served(kept, folder)
    return _importing(settings, None) if derived else settings


def _place_for_served(kept: Knowledge, folder: Path) -> str:
    asked = [kept.server, kept.server_model, kept.server_form, kept.k]
    return str((folder / f"served-{content_hash(asked)}").absolute())


def _importing(settings: Settings, place: str | None) -> Settings:
    return settings.model_copy(update={"knowledge": settings.knowledge.model_copy(update={"imported": place})})


def _texts(overrides: Any) -> tuple[str, ...]:
    found = tuple(overrides) if isinstance(overrides, Iterable) and not isinstance(overrides, str) else (None,)
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"overrides: must be a list of texts such as 'training.epochs=1', not {overrides!r}")
    return found
