"""The explorer as a widget: controls around one figure, thin over `compute`."""

from collections.abc import Callable
from itertools import pairwise
from math import isclose
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from firstlib.distillation.losses import Tail
from firstlib.distillation.recalibration import Map
from firstlib.experiment.experiment import Experiment
from firstlib.explorer import drawing, listing
from firstlib.explorer.source import ExperimentSource
from firstlib.explorer.state import BINS, LABELS, MAPS, READINGS, SCALES, SPLITS, State, positions
from firstlib.explorer.view import View, compute
from firstlib.figures.output import CONFIG
from firstlib.settings.schema import Task

Use = Callable[[Task, float], object]


def starting(experiment: Experiment, task: Task | None = None) -> State:
    """Where the explorer opens: the experiment's own settings, and the coefficient that it distils with."""
    settings, chosen = experiment.settings, task or experiment.main
    return State(
        chosen,
        kind=Map(settings.recalibration.first_map),
        coefficient=experiment.coefficient(chosen),
        reading=settings.measures.confidence,
        tail=Tail(settings.distillation.tail),
        bins=settings.measures.bins,
    )


def static(experiment: Experiment, state: State | None = None) -> go.Figure:
    """The same view as a figure that needs no kernel."""
    return drawing.draw(compute(ExperimentSource(experiment), state or starting(experiment)))


class TemperatureExplorer(ipywidgets.VBox):
    """Slider, drop-downs and figure; `state` says where they stand, `view` what is shown."""

    def __init__(self, experiment: Experiment, task: Task | None = None, use: Use | None = None) -> None:
        """Opens it; `use` is told the task and the coefficient that a user chose (default: the experiment is)."""
        self.experiment, self.source = experiment, ExperimentSource(experiment)
        self._use = use or experiment.choose
        self.state = starting(experiment, task)
        self.view = compute(self.source, self.state)
        self._make_controls()
        self.figure = go.FigureWidget(drawing.draw(self.view))
        self.figure._config = CONFIG  # which has no public name
        self.figure.data[_clicked()].on_click(self._clicked)
        self._shown = drawing.numbers(self.view)
        self._tell()
        for _, control in self._named():
            control.observe(self._moved, "value")
        self.button.on_click(self._chosen)
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        choices = ipywidgets.HBox([self.menus[name] for name in LABELS], layout=wrap)
        slider = ipywidgets.HBox([self.coefficient, self.button, self.said], layout=wrap)
        below = ipywidgets.HBox([self.example, self.bin], layout=wrap)
        super().__init__([choices, slider, self.numbers, self.figure, below, self.questions])

    # -- what a user does ------------------------------------------------------------------------------------

    def _moved(self, change: dict[str, Any]) -> None:
        if self._setting:
            return
        name = next(key for key, control in self._named() if control is change["owner"])
        value = change["new"]
        if name == "coefficient":
            value = round(value, 10)  # a slider says 0.30000000000000004
        self.go(self.state.change(**{name: value}))

    def _clicked(self, trace: go.Bar, points: Any, _: Any) -> None:
        if points.point_inds:
            self.bin.value = points.point_inds[0]

    def _chosen(self, _: ipywidgets.Button) -> None:
        task, coefficient = self.state.task, self.state.coefficient
        self._use(task, coefficient)
        self.said.value = f"{task}: notebook 05 distils with {coefficient:g}."

    # -- what a user sees ------------------------------------------------------------------------------------

    def go(self, state: State) -> None:
        """Shows another state, and sets every control to it."""
        self.state, self.view = state, compute(self.source, state)
        self._set_controls()
        self._tell()
        new = drawing.numbers(self.view)
        with self.figure.batch_update():
            for trace, old, now in zip(self.figure.data, self._shown, new, strict=True):
                changed = {key: value for key, value in now.items() if value != old.get(key)}
                if changed:
                    trace.update(changed)
            self._retitle()
        self._shown = new

    def _retitle(self) -> None:
        layout = self.figure.layout
        for note, text in zip(layout.annotations, drawing.titles(self.view), strict=True):
            if note.text != text:
                note.text = text
        names = tuple(drawing.token_names(self.view))
        if layout.xaxis2.ticktext != names:
            layout.xaxis2.ticktext = names
        layout.yaxis4.range = drawing.nll_range(self.view)

    def _tell(self) -> None:
        self.numbers.value = listing.numbers(self.view)
        self.questions.value = listing.questions(self.view)
        own = Map(self.experiment.settings.recalibration.first_map)
        self.button.disabled = self.state.kind != own
        self.button.tooltip = f"notebook 05 distils with the map {own}" if self.button.disabled else "for notebook 05"

    # -- the controls ----------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        options: dict[str, Any] = {
            "task": self.experiment.training_tasks(),
            "split": SPLITS,
            "kind": list(MAPS.items()),
            "reading": READINGS,
            "tail": list(Tail),
            "bins": sorted({*BINS, self.experiment.settings.measures.bins}),
        }
        place = ipywidgets.Layout(width="260px")  # of the longest map
        self.menus = {
            name: ipywidgets.Dropdown(options=options[name], description=label, layout=place)
            for name, label in LABELS.items()
        }
        self.coefficient = ipywidgets.FloatSlider(
            min=0.0, max=5.0, description="coefficient", readout_format=".2f",
            layout=ipywidgets.Layout(width="min(440px, 100%)"),
        )  # fmt: skip
        self.example = ipywidgets.BoundedIntText(description="example", min=0, layout=place)
        self.bin = ipywidgets.Dropdown(description="bin", layout=place)
        self.button = ipywidgets.Button(description="Use this coefficient", button_style="primary")
        self.said, self.numbers, self.questions = (ipywidgets.HTML() for _ in range(3))
        self._set_controls()

    def _named(self) -> list[tuple[str, Any]]:
        return [
            *self.menus.items(), ("coefficient", self.coefficient), ("example", self.example), ("bin", self.bin),
        ]  # fmt: skip

    def _set_controls(self) -> None:
        """Sets every control to the state, without being told of it."""
        self._setting = True
        self._rescale()
        for name, control in self._named():
            if name != "coefficient" and control.value != getattr(self.state, name):
                control.value = getattr(self.state, name)
        self._setting = False

    def _rescale(self) -> None:
        slider, places, scale = self.coefficient, positions(self.state.kind), SCALES[self.state.kind]
        low, high = min(scale.fine, places[-1]), places[-1]
        # A browser that sees the scale shrink below the value moves the value: so it moves while both scales hold.
        slider.max, slider.min = max(slider.max, high), min(slider.min, low)
        slider.step = scale.fine
        if not isclose(slider.value, self.state.coefficient):  # else a slow kernel would pull it out of a hand's drag
            slider.value = self.state.coefficient
        slider.max, slider.min = high, low
        self.coefficient.disabled = self.state.kind is Map.NONE
        self.example.max = self.view.measures.n - 1
        edges = self.view.reliability.edges
        spans = [(f"({low:g}, {high:g}]", at) for at, (low, high) in enumerate(pairwise(edges))]
        if len(self.bin.options) != len(spans) + 1:
            self.bin.options = [("none", None), *spans]


def _clicked() -> int:
    return [trace.name for trace in drawing.traces()].index(drawing.CLICKED)


__all__ = ["State", "TemperatureExplorer", "View", "compute", "positions", "starting", "static"]
