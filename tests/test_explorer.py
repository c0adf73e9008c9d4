"""What the widget shows is what `compute` returns, wherever its controls stand."""

import numpy as np
import pytest

from firstlib.experiment import Experiment
from firstlib.explorer import State, TemperatureExplorer, compute, positions, static
from firstlib.recalibration import Map


@pytest.fixture
def experiment(tiny_preset, tmp_path):
    return Experiment(str(tiny_preset), 0, str(tmp_path / "runs"))


def shown(explorer):
    return {trace.name: tuple(trace.y) for trace in explorer.figure.data if trace.y is not None and trace.name}


def drawn(experiment, state):
    return {
        trace.name: tuple(trace.y) for trace in static(experiment, state).data if trace.y is not None and trace.name
    }


def test_the_view_is_what_the_experiment_says(experiment):
    state = State("csqa", coefficient=0.4)
    view = compute(experiment, state)
    assert view.reliability.ece == experiment.target_ece("csqa", "validation", Map.TEMPERATURE, 0.4)
    assert view.best == experiment.search("csqa").best
    at = np.flatnonzero(view.curve[:, 0] == 0.4)
    assert view.curve[at, 1] == view.reliability.ece


def test_the_slider_stands_on_the_fine_grid():
    np.testing.assert_allclose(positions(Map.TEMPERATURE), np.arange(1, 51) / 50)


def test_the_widget_follows_its_controls(experiment):
    explorer = TemperatureExplorer(experiment)
    assert shown(explorer) == drawn(experiment, explorer.state)
    explorer.coefficient.value = 0.72
    assert explorer.state == State("csqa", coefficient=0.72)
    explorer.task.value = "alpaca"
    explorer.split.value = "test"
    assert explorer.state == State("alpaca", coefficient=0.72, split="test")
    assert shown(explorer) == drawn(experiment, explorer.state)
    assert f"{compute(experiment, explorer.state).reliability.ece:.2%}" in explorer.numbers.value


def test_another_map_has_another_scale(experiment):
    explorer = TemperatureExplorer(experiment)
    explorer.kind.value = Map.LOGIT_TEMPERATURE.value
    assert explorer.coefficient.max == 5.0
    explorer.coefficient.value = 3.0
    explorer.kind.value = Map.TEMPERATURE.value
    assert explorer.coefficient.value == explorer.coefficient.max == 1.0
    assert explorer.state == State("csqa", coefficient=1.0)
