"""What the map says of a teacher, by hand."""

import pytest

from firstlib import Experiment
from firstlib.figures import Gain
from firstlib.metrics import Interval
from firstlib.results import prediction
from firstlib.results.prediction import Prediction, predicted


def gain(at, value):
    return Gain(at, Interval(value, value - 0.1, value + 0.1), f"map at {at}")


def test_the_nearest_setting_of_the_same_kind_counts(monkeypatch, tiny_preset, tmp_path):
    panels = {
        "csqa, in-domain": {"first": [gain(0.1, -0.02), gain(0.5, 0.04)]},
        "csqa, out-of-domain": {"first": [gain(0.5, 0.9)]},
    }
    monkeypatch.setattr(prediction, "benefit", lambda grid: panels)
    monkeypatch.setattr(prediction, "_overconfidence", lambda run, task: 0.4)
    found = predicted(Experiment(str(tiny_preset), run_folder=str(tmp_path)), [])
    assert found.gains == {"first": pytest.approx(0.04)}
    assert found.order[0] == "first"


def test_fine_tuning_is_ahead_where_nothing_gains():
    assert Prediction(0.1, {"first": -0.01}).order == ("fine-tune", "first")
    assert Prediction(0.1, {}).order == ()
