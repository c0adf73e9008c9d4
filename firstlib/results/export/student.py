"""A finished student with all that a card says of it: what it answers, and what it was made from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstlib.evaluation.predictions import Predictions
from firstlib.experiment.experiment import Experiment
from firstlib.figures.style import name_of
from firstlib.results.export.measured import Measured, measure
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import preset_name
from firstlib.settings.schema import Method, Model, Task

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Student:
    """One student of an experiment, with what was measured of it.

    Raises:
        UserError: No model is trained on the task.
    """

    experiment: Experiment
    method: Method
    task: Task

    def __post_init__(self) -> None:
        known = self.experiment.training_tasks()
        if self.task not in known:
            raise UserError(f"task: no student is trained on {self.task!r}; choose {', '.join(known)}")

    @property
    def folder(self) -> Path:
        """Its weights or its adapter, as they were trained."""
        return self.experiment.student(self.method, self.task)

    @property
    def model(self) -> Model:
        """Its base, and how that was tuned."""
        return self.experiment.settings.student

    @property
    def preset(self) -> str:
        """The preset's name, without the folder it may lie in."""
        return preset_name(self.experiment.preset)

    @property
    def tests(self) -> list[tuple[str, Task]]:
        """Setting and data set of each test of the columns that it was trained for."""
        columns = [column for column in self.experiment.settings.columns if column.train == self.task]
        return list(dict.fromkeys((column.setting, test) for column in columns for test in column.test))

    @property
    def lineage(self) -> list[Manifest]:
        """The manifests of all that it was made from, and of the answers of every model among them."""
        return lineage(self.experiment.artefacts.manifests(), self.folder.name)

    def title(self, task: Task) -> str:
        """A data set's name; the microworld's are only like those they are named after."""
        data = self.experiment.settings.data
        if task == "own" and data.own:
            return Path(data.own).stem
        return f"microworld {name_of(task)}" if data.source == "microworld" else name_of(task)

    def answers(self, test: Task) -> Predictions:
        """Its answers to a test set, as the experiment keeps them."""
        return self.experiment.predictions(self.method, self.task, test)

    def measure(self, found: Predictions, setting: str, test: Task) -> Measured:
        """Answers as the experiment's settings read and bin them."""
        measures = self.experiment.settings.measures
        return measure(found, f"{self.title(test)}, {setting}", measures.confidence, measures.bins)


def lineage(manifests: Sequence[Manifest], name: str) -> list[Manifest]:
    """Of all manifests those of a stage and its forebears, the first ones first, then of what they were asked.

    A stage's inputs hold the folder names of the stages it was made from.
    """
    known = {name_of_stage(manifest): manifest for manifest in manifests}

    def chain(name: str) -> Iterator[str]:
        for text in _texts(known[name]["inputs"]):
            if text in known:
                yield from chain(text)
        yield name

    made = list(dict.fromkeys(chain(name)))
    asked = [one for one, manifest in known.items() if manifest["inputs"].get("model") in made]
    return [known[one] for one in dict.fromkeys([*made, *asked])]


def name_of_stage(manifest: Manifest) -> str:
    """What a stage's folder is called."""
    return f"{manifest['stage']}-{manifest['key']}"


def _texts(value: Any) -> Iterator[str]:
    """Every text inside JSON content."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def portable(value: Any) -> Any:
    """JSON content without the folders of the machine that it was written on: of an absolute path the last part.

    >>> portable({"base": "/disk/models/small", "seed": 0})
    {'base': 'small', 'seed': 0}
    """
    if isinstance(value, dict):
        return {key: portable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [portable(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
