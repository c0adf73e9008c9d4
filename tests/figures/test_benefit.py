"""The map of when a method helps."""

from firstlib import figures
from firstlib.figures import Gain
from firstlib.metrics import Interval


def test_a_setting_is_a_point_with_its_interval():
    gains = [Gain(0.5, Interval(0.1, 0.05, 0.2), "late"), Gain(0.2, Interval(-0.1, -0.2, 0.0), "early")]
    drawn = figures.benefit_map({"csqa, in-domain": {"first": gains}, "obqa": {"first": gains[:1]}}, x="a", y="b")
    points = drawn.data[0]
    assert list(points.x) == [0.2, 0.5]
    assert list(points.y) == [-0.1, 0.1]
    assert list(points.error_y.array) == [0.1, 0.1]
    assert [round(value, 9) for value in points.error_y.arrayminus] == [0.1, 0.05]
    assert list(points.text) == ["early", "late"]


def test_a_method_has_one_entry_in_the_legend():
    gains = [Gain(0.5, Interval(0.1, 0.05, 0.2), "x")]
    drawn = figures.benefit_map({"one": {"first": gains}, "two": {"first": gains}}, x="a", y="b")
    assert [trace.showlegend for trace in drawn.data] == [True, False]


def test_methods_of_one_setting_stand_side_by_side():
    gains = [Gain(at, Interval(0.1, 0.05, 0.2), "x") for at in (0.0, 1.0)]
    first, second = figures.benefit_map({"one": {"first": gains, "distill": gains}}, x="a", y="b").data
    assert first.x[0] < 0 < second.x[0]
    assert abs(first.x[0] - second.x[0]) < 0.05


def test_sizes_are_on_a_logarithmic_axis_each_with_its_label():
    kinds = {"top": [Gain(100.0, Interval(0.2, 0.1, 0.3), "5"), Gain(10.0, Interval(0.1, 0.0, 0.2), "1")]}
    drawn = figures.gain_by_size(kinds, x="bytes", y="gain")
    assert list(drawn.data[0].x) == [10, 100]
    assert list(drawn.data[0].text) == ["1", "5"]
    assert drawn.layout.xaxis.type == "log"
    assert "text" in drawn.data[0].mode
