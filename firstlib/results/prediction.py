"""What the microworld's map says of another teacher: where it lies, and which methods are ahead there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from firstlib.experiment import Experiment, teachers
from firstlib.experiment.run import Run
from firstlib.results.beyond import benefit
from firstlib.results.mechanism import confidence_of
from firstlib.settings.schema import Task


@dataclass(frozen=True)
class Prediction:
    """A teacher's place on the map.

    Attributes:
        overconfidence: Its mean confidence minus its accuracy on validation questions; a fraction.
        gains: For each method, Trust minus fine-tuning's at the map's setting that is nearest, mean over test sets;
            a fraction. Empty where the map has no setting.
    """

    overconfidence: float
    gains: dict[str, float]

    @property
    def order(self) -> tuple[str, ...]:
        """Fine-tuning and the map's methods, the one with the most Trust expected first; empty without a map."""
        expected = {"fine-tune": 0.0, **self.gains}
        return tuple(sorted(expected, key=lambda name: -expected[name])) if self.gains else ()


def predicted(experiment: Experiment, grid: Sequence[Mapping[str, Any]]) -> Prediction:
    """Returns what the kept cells of the map say of an experiment's teacher on its main task; trains no student."""
    task = experiment.main_task
    place = _overconfidence(experiment.run, task)
    setting = next(column.setting for column in experiment.settings.columns if column.train == task)
    gains: dict[str, list[float]] = {}
    for name, methods in benefit(grid).items():
        if name.endswith(setting):
            for method, of in methods.items():
                gains.setdefault(method, []).append(min(of, key=lambda gain: abs(gain.at - place)).gain.estimate)
    return Prediction(place, {method: mean(of) for method, of in gains.items()})


def _overconfidence(run: Run, task: Task) -> float:
    """A teacher's mean confidence minus its accuracy on validation questions; a fraction."""
    found = teachers.teacher_answers(run, task, task, "validation")
    return confidence_of(found).gap
