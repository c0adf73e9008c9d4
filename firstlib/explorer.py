"""The temperature explorer: a slider for the coefficient, a reliability diagram that answers it.

`compute` is pure: what the widget shows is what it returns, no more.
"""

from dataclasses import dataclass, replace
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go

from firstlib import figures
from firstlib.experiment import Experiment
from firstlib.metrics import Reliability, reliability
from firstlib.recalibration import GRIDS, Map
from firstlib.settings import Task


@dataclass(frozen=True)
class State:
    """Where the controls stand."""

    task: Task
    kind: Map = Map.TEMPERATURE
    coefficient: float = 0.3
    split: str = "validation"


@dataclass(frozen=True)
class View:
    """What there is to see: the targets' reliability, one number to a measure, and ECE over the whole slider.

    Attributes:
        reliability: Ten bins of the recalibrated targets.
        accuracy: Fraction; it does not depend on the coefficient unless ranks swap.
        curve: `(A, 2)`, coefficient and ECE.
        best: The coefficient that the two-step search chose, on validation.
    """

    reliability: Reliability
    accuracy: float
    curve: np.ndarray
    best: float


def compute(experiment: Experiment, state: State) -> View:
    """The view that belongs to a state."""
    confidence, correct = experiment.target_outcomes(state.task, state.split, state.kind, state.coefficient)
    chosen = experiment.change(recalibration__first_map=state.kind.value)
    return View(
        reliability=reliability(confidence, correct, bins=experiment.settings.measures.bins),
        accuracy=float(np.mean(correct)),
        curve=np.array(
            [(c, experiment.target_ece(state.task, state.split, state.kind, c)) for c in positions(state.kind)]
        ),
        best=chosen.search(state.task).best,
    )


def positions(kind: Map) -> np.ndarray:
    """Every place where the slider can stand."""
    grid = GRIDS[kind]
    return (grid.fine * np.arange(1, round(grid.end / grid.fine) + 1)).round(10)


def static(experiment: Experiment, state: State) -> go.Figure:
    """The same view as a figure that needs no kernel."""
    return draw(compute(experiment, state), state)


def draw(view: View, state: State) -> go.Figure:
    """A view as a figure: the diagram, and ECE over the slider's whole length."""
    return figures.temperature_view(view.reliability, view.curve, state.coefficient, view.best)


class TemperatureExplorer(ipywidgets.VBox):
    """Slider, drop-downs and figure; `state` says where they stand, `view` what is shown."""

    def __init__(self, experiment: Experiment, task: Task | None = None) -> None:
        self.experiment = experiment
        tasks = experiment.training_tasks()
        self.state = State(task or tasks[0])
        self.view = compute(experiment, self.state)
        self.coefficient = _slider(self.state)
        self.task = ipywidgets.Dropdown(options=tasks, value=self.state.task, description="task")
        self.kind = ipywidgets.Dropdown(options=[kind.value for kind in GRIDS], description="map")
        self.split = ipywidgets.Dropdown(options=["validation", "test"], description="split")
        self.numbers = ipywidgets.HTML()
        self.figure = go.FigureWidget(draw(self.view, self.state))
        for control in (self.coefficient, self.task, self.kind, self.split):
            control.observe(self._moved, "value")
        self._tell()
        controls = ipywidgets.HBox([self.task, self.split, self.kind])
        super().__init__([controls, self.coefficient, self.numbers, self.figure])

    def _moved(self, change: dict[str, Any]) -> None:
        kind = Map(self.kind.value)
        if change["owner"] is self.kind:
            self._rescale(kind)
        self.state = replace(
            self.state,
            task=self.task.value,
            split=self.split.value,
            kind=kind,
            coefficient=self.coefficient.value,
        )
        self.view = compute(self.experiment, self.state)
        self._tell()
        new = draw(self.view, self.state)
        with self.figure.batch_update():
            for old, trace in zip(self.figure.data, new.data, strict=True):
                old.update(trace.to_plotly_json(), overwrite=False)
            self.figure.layout.update(new.layout, overwrite=False)

    def _rescale(self, kind: Map) -> None:
        grid = GRIDS[kind]
        self.coefficient.unobserve(self._moved, "value")
        self.coefficient.max, self.coefficient.step, self.coefficient.min = grid.end, grid.fine, grid.fine
        self.coefficient.value = min(self.coefficient.value, grid.end)
        self.coefficient.observe(self._moved, "value")

    def _tell(self) -> None:
        self.numbers.value = (
            f"ECE <b>{self.view.reliability.ece:.2%}</b>, accuracy {self.view.accuracy:.2%}, "
            f"Trust {self.view.accuracy - self.view.reliability.ece:.2%}; chosen on validation: {self.view.best:g}"
        )


def _slider(state: State) -> ipywidgets.FloatSlider:
    grid = GRIDS[state.kind]
    return ipywidgets.FloatSlider(
        value=state.coefficient, min=grid.fine, max=grid.end, step=grid.fine, description="coefficient",
        layout=ipywidgets.Layout(width="640px"), readout_format=".2f",
    )  # fmt: skip
