"""A finished student of an experiment, as its card describes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstlib.evaluation.predictions import Predictions
from firstlib.experiment import Experiment, students, summary
from firstlib.figures.style import name_of
from firstlib.results.export.measured import Measured, measure
from firstlib.results.provenance import Manifest, Recorder
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import preset_name
from firstlib.settings.data import OWN
from firstlib.settings.methods import Method
from firstlib.settings.schema import Model, Settings, Task


@dataclass(frozen=True)
class ExportedStudent:
    """The student of one method and task.

    Attributes:
        name: The method's name in the settings.
        task: The training task.

    Raises:
        UserError: The settings have no such method, or no model is trained on the task.
    """

    experiment: Experiment
    name: str
    task: Task

    def __post_init__(self) -> None:
        students.method_of(self.experiment.run, self.name)
        known = self.experiment.tasks
        if self.task not in known:
            raise UserError(f"task: no student is trained on {self.task!r}; choose {', '.join(known)}")

    @property
    def settings(self) -> Settings:
        """The experiment's settings."""
        return self.experiment.settings

    @property
    def method(self) -> Method:
        """How the student was made."""
        return self.settings.all_methods[self.name]

    @property
    def model(self) -> Model:
        """The base model, its tuning, and the data type in which the experiment asks it."""
        return self.settings.asked(students.student_model(self.experiment.run, self.name))

    @property
    def folder(self) -> Path:
        """The trained weights, or the adapter."""
        return self.experiment.student(self.name, self.task)

    @property
    def temperatures(self) -> dict[Task, float]:
        """By test set, what the student's logits are divided by; 1 unless its method fits a T after training."""
        return summary.temperatures(self.experiment.run, self.name, self.task)

    @property
    def is_tempered(self) -> bool:
        """Whether the logits are divided by anything but 1 on some test set."""
        return any(one != 1 for one in self.temperatures.values())

    @property
    def preset(self) -> str:
        """The preset's name, without its folder."""
        return preset_name(self.experiment.preset)

    @property
    def tests(self) -> list[tuple[str, Task]]:
        """Setting and data set of every test set of the columns that train on the student's task."""
        columns = [column for column in self.settings.columns if column.train == self.task]
        return list(dict.fromkeys((column.setting, test) for column in columns for test in column.test))

    def lineage(self) -> list[Manifest]:
        """Returns the manifests of every stage that the student and its answers rest on, the first ones first."""
        recorder = Recorder()
        watched = recorder.watch(self.experiment)
        watched.student(self.name, self.task)
        for _, test in self.tests:
            watched.predictions(self.name, self.task, test)
        return recorder.manifests()

    def title(self, task: Task) -> str:
        """Returns a data set's name; the microworld's data sets only resemble those that they are named after."""
        own = self.settings.data.own
        if task == OWN and own:
            return Path(own).stem
        return f"microworld {name_of(task)}" if self.settings.generates(task) else name_of(task)

    def answers(self, test: Task) -> Predictions:
        """Returns the answers to a test set that the experiment stores."""
        return self.experiment.predictions(self.name, self.task, test)

    def measure(self, found: Predictions, setting: str, test: Task) -> Measured:
        """Returns the measures of answers, in the settings' reading of confidence and number of bins."""
        return measure(found, f"{self.title(test)}, {setting}", self.settings.measures)


def portable(value: Any) -> Any:
    """Returns JSON content without this machine's folders: of every absolute path only the last part.

    >>> portable({"base": "/disk/models/small", "seed": 0})
    {'base': 'small', 'seed': 0}
    """
    if isinstance(value, dict):
        return {key: portable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [portable(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
