"""The explorer as a widget: controls around one figure; all numbers come from `compute`."""

from collections.abc import Callable
from itertools import pairwise
from math import isclose
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.experiment import Experiment
from firstlib.explorer import drawing, listing
from firstlib.explorer.source import ExperimentSource, tuned_method
from firstlib.explorer.state import BINS, LABELS, MAPS, READINGS, SCALES, SPLITS, State, positions
from firstlib.explorer.view import compute
from firstlib.figures.output import CONFIG
from firstlib.settings.schema import Task

Use = Callable[[Task, float], object]


def starting(experiment: Experiment, task: Task | None = None) -> State:
    """Returns the state in which the explorer opens: the settings of the tuned method, and its coefficient.

    Where that method has an exact temperature, the explorer opens on the logit temperature, which is the same over the
    top k alone.

    Raises:
        UserError: No method of the experiment has a temperature.
    """
    name, measures, chosen = tuned_method(experiment), experiment.settings.measures, task or experiment.main_task
    method = experiment.settings.methods[name]
    kind = Map(method.map)
    return State(
        chosen,
        kind=Map.LOGIT_TEMPERATURE if kind is Map.EXACT_TEMPERATURE else kind,
        coefficient=experiment.coefficient(chosen, name),
        reading=measures.confidence,
        tail=Tail(method.tail),
        bins=measures.bins,
    )


def static(experiment: Experiment, state: State | None = None) -> go.Figure:
    """Returns the explorer's view as a figure that needs no kernel; by default the one in which it opens."""
    return drawing.draw(compute(ExperimentSource(experiment), state or starting(experiment)))


class _Figure(go.FigureWidget):
    """A figure that opens when it is complete.

    plotly's constructor opens it before it has data and configuration. A slow page draws what it has by then, without
    traces and with the mode bar.
    """

    _complete = False

    def __init__(self, figure: go.Figure) -> None:
        super().__init__(figure)
        self._config = CONFIG  # plotly has no public name for it
        self._complete = True
        self.open()

    def open(self) -> None:
        """Tells the page of the widget, once it is complete."""
        if self._complete:
            super().open()


class TemperatureExplorer(ipywidgets.VBox):
    """Slider, drop-downs and figure.

    Attributes:
        state: Where the controls stand.
        view: What is shown.
    """

    def __init__(self, experiment: Experiment, task: Task | None = None, use: Use | None = None) -> None:
        """Opens the explorer; trains the teacher if there is none yet, and no student.

        Args:
            experiment: The experiment to explore.
            task: The data set to open with; None: the experiment's main task.
            use: Called with the task and the coefficient that a user chooses; None: `experiment.choose`.

        Raises:
            UserError: No method of the experiment has a temperature.
        """
        self.experiment, self.source = experiment, ExperimentSource(experiment)
        self._use = use or experiment.choose
        self.state = starting(experiment, task)
        self.view = compute(self.source, self.state)
        self._make_controls()
        self.figure = _Figure(drawing.draw(self.view))
        self.figure.data[_clicked()].on_click(self._clicked)
        self._shown = drawing.numbers(self.view)
        self._write_texts()
        for _, control in self._named():
            control.observe(self._moved, "value")
        self.button.on_click(self._chosen)
        super().__init__(self._rows())

    # -- what a user does ------------------------------------------------------------------------------------

    def _moved(self, change: dict[str, Any]) -> None:
        if self._setting:
            return
        name = next(key for key, control in self._named() if control is change["owner"])
        value = change["new"]
        if name == "coefficient":
            value = round(value, 10)  # a slider may report 0.30000000000000004
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
        self._write_texts()
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

    def _write_texts(self) -> None:
        self.numbers.value = listing.numbers(self.view)
        self.questions.value = listing.questions(self.view)
        obstacle = self._obstacle()
        self.button.disabled = obstacle is not None
        self.button.tooltip = obstacle or "for notebook 05"

    def _obstacle(self) -> str | None:
        """Returns why the method cannot be distilled with this coefficient; None if it can."""
        name = tuned_method(self.experiment)
        method = self.experiment.settings.methods[name]
        if method.fixed_coefficient is not None:
            return f"the preset gives {name} the coefficient {method.fixed_coefficient:g}"
        if self.state.kind != Map(method.map):
            return f"notebook 05 distils {name} with the map {method.map}"
        return None

    # -- the controls ----------------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        options: dict[str, Any] = {
            "task": self.experiment.tasks,
            "split": SPLITS,
            "kind": list(MAPS.items()),
            "reading": READINGS,
            "tail": list(Tail),
            "bins": sorted({*BINS, self.experiment.settings.measures.bins}),
        }
        place = ipywidgets.Layout(width="260px")  # enough for the longest label of a map
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

    def _rows(self) -> list[ipywidgets.DOMWidget]:
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        choices = ipywidgets.HBox([self.menus[name] for name in LABELS], layout=wrap)
        slider = ipywidgets.HBox([self.coefficient, self.button, self.said], layout=wrap)
        below = ipywidgets.HBox([self.example, self.bin], layout=wrap)
        return [choices, slider, self.numbers, self.figure, below, self.questions]

    def _named(self) -> list[tuple[str, Any]]:
        return [
            *self.menus.items(), ("coefficient", self.coefficient), ("example", self.example), ("bin", self.bin),
        ]  # fmt: skip

    def _set_controls(self) -> None:
        """Sets every control to the state; `_moved` ignores these changes."""
        self._setting = True
        self._rescale()
        for name, control in self._named():
            if name != "coefficient" and control.value != getattr(self.state, name):
                control.value = getattr(self.state, name)
        if self.state.bin is None:
            self.bin.index = 0  # ipywidgets takes the value None for no selection, and shows a blank
        self._setting = False

    def _rescale(self) -> None:
        slider, places, scale = self.coefficient, positions(self.state.kind), SCALES[self.state.kind]
        here = self.state.coefficient  # a preset's may lie outside the scale
        low, high = min(scale.fine, places[-1], here), max(places[-1], here)
        # A browser moves the value if the scale shrinks below it, so the value changes while both scales are allowed.
        slider.max, slider.min = max(slider.max, high), min(slider.min, low)
        slider.step = scale.fine
        if not isclose(slider.value, here):  # else a slow kernel would move the slider back during a drag
            slider.value = here
        slider.max, slider.min = high, low
        self.coefficient.disabled = self.state.kind is Map.NONE
        self.example.max = self.view.measures.n - 1
        edges = self.view.reliability.edges
        spans = [(f"({low:g}, {high:g}]", at) for at, (low, high) in enumerate(pairwise(edges))]
        if len(self.bin.options) != len(spans) + 1:
            self.bin.options = [("none", None), *spans]


def _clicked() -> int:
    return [trace.name for trace in drawing.traces()].index(drawing.CLICKED)
