"""The tables of notebook 07, by hand."""

import pytest

from firstlib.figures import Gain
from firstlib.metrics import Interval
from firstlib.results import beyond
from firstlib.results.differences import differences


def run(name, overconfidence, fine_tune, first):
    confidence = {"confidence": 0.5 + overconfidence, "accuracy": 0.5}
    stages = {stage: {"confidence": 0.5, "accuracy": 0.4} for stage in beyond.STAGES}
    place = {"setting": "in-domain", "dataset": "csqa", "kl": 0.1, "excess_nll": 0.2}
    rest = {"calibration_error": 0.3, "overconfidence": 0.1, "aurc": 0.4}
    trusts = {"fine-tune": fine_tune, "first": first}
    return {
        "name": name,
        "rows": [{**place, **rest, "method": method, "trust": trust} for method, trust in trusts.items()],
        "mechanism": [{"method": "distill", "coefficient": 0.0, **stages, "teacher_validation": confidence}],
        "cost": {"first": {"csqa": {"seconds": 2.0, "total_seconds": 9.0, "flops": 3e12}}},
    }


RUNS = [run("map-csqa-8x400-seed-0", 0.2, 0.5, 0.6), run("map-csqa-8x400-seed-1", 0.4, 0.4, 0.7)]


def test_a_setting_lies_at_its_teachers_overconfidence():
    lonely = run("map-csqa-1x400-seed-0", 0.1, 0.5, 0.5)
    panels = beyond.benefit([*RUNS, lonely])
    [gain] = panels["csqa, in-domain"]["first"]
    assert gain.at == pytest.approx(0.3)
    assert gain.gain.estimate == pytest.approx(0.2)
    assert gain.label == "map-csqa-8x400"


def test_a_setting_may_lie_at_what_ails_the_baseline():
    panels = beyond.benefit(RUNS, at=beyond.overconfidence)
    assert panels["csqa, in-domain"]["first"][0].at == pytest.approx(0.1)


def test_the_map_in_short_is_a_mean_by_overconfidence():
    gains = [Gain(at, Interval(value, value, value), "") for at, value in ((0.01, 0.02), (0.02, 0.04), (0.3, 0.10))]
    line = beyond.benefit_frame({"csqa": {"first": gains}}).loc[("csqa", "first")]
    assert line["under 5"] == 3.0
    assert line["20 to 40"] == 10.0
    assert line.isna()["5 to 10"]
    assert line["settings"] == 3
    ends = [(0.01, 0.2), (0.0, 0.2), (-0.2, 0.0), (-0.3, -0.1), (-0.2, -0.1)]
    clear = [Gain(0.1, Interval((low + high) / 2, low, high), "") for low, high in ends]
    found = beyond.benefit_frame({"csqa": {"first": clear}}).loc[("csqa", "first")]
    assert (found["above 0"], found["below 0"], found["settings"]) == (1, 2, 5)
    straight = [Gain(at, Interval(at / 2, 0, 0), "") for at in (0.1, 0.2, 0.4)]
    assert beyond.benefit_frame({"csqa": {"first": straight}}).loc[("csqa", "first"), "per ten points"] == 5.0


def test_students_are_followed_by_epochs():
    def cell(epochs, targets, student):
        stages = {stage: {"confidence": 0.5, "accuracy": 0.4} for stage in beyond.STAGES}
        stages |= {"targets_train": {"confidence": targets}, "student_train": {"confidence": student}}
        changes = {"training__epochs": epochs, "columns": [{"train": "csqa"}]}
        return {"changes": changes, "mechanism": [{"method": "first", **stages}]}

    frame = beyond.following_frame([cell(1, 0.8, 0.5), cell(1, 0.6, 0.5), cell(8, 0.7, 0.7)])
    assert frame["student below its targets"].tolist() == [20.0, 0.0]
    assert frame.loc[1, "over-confident by"] == 10.0
    assert frame["cells"].tolist() == [2, 1]


def test_frames_are_means_over_seeds():
    line = beyond.differences_frame(differences(RUNS, "fine-tune")).loc[("first", "in-domain csqa")]
    assert line["difference"] == 20.0
    assert beyond.mechanism_frame(RUNS).loc["distill", ("teacher, validation", "confidence")] == 80.0
    assert beyond.truth_frame(RUNS, "in-domain", "csqa").loc["first", "kl"] == 0.1
    assert beyond.cost_frame(RUNS, "csqa").loc["first", "TFLOP"] == 3.0


def test_gains_lie_at_the_bytes_that_their_knowledge_takes():
    def seed(gain):
        of = {"fine-tune": 0.4, "distill": 0.5, "distill-k2": 0.4 + gain, "distill-sampled-20": 0.5, "first": 0.9}
        place = {"setting": "in-domain", "dataset": "csqa"}
        settings = {
            "distill": {"learns": "top-k"}, "distill-k2": {"learns": "top-k", "k": 2},
            "distill-sampled-20": {"learns": "top-k", "knowledge": "sampled", "k": 20},
            "first": {"learns": "top-k", "map": "temperature"}, "fine-tune": {"learns": "answers"},
        }  # fmt: skip
        return {
            "rows": [{**place, "method": name, "trust": trust} for name, trust in of.items()],
            "methods": {name: {"settings": one} for name, one in settings.items()},
            "cost": {name: {"csqa": {"knowledge_bytes": 4.0 + gain}} for name in of if name != "fine-tune"},
        }

    found = beyond.by_size([seed(0.1), seed(0.3)], "csqa")
    assert {kind: [one.label for one in gains] for kind, gains in found.items()} == {
        beyond.TOP: ["5", "2"], beyond.DRAWN: ["20"],
    }  # fmt: skip
    assert found[beyond.TOP][1].gain.estimate == pytest.approx(0.2)
    assert found[beyond.TOP][1].at == pytest.approx(4.2)


def test_shares_of_averaged_students_are_listed_by_seed():
    runs = [
        {"seed": seed, "methods": {"distill": {}, "averaged": {"shares": {"csqa": share, "boolq": 1.0}}}}
        for seed, share in ((0, 0.3), (1, 0.5))
    ]
    frame = beyond.shares_frame(runs)
    assert list(frame["averaged", "csqa"]) == [0.3, 0.5]
    assert list(frame.index) == [0, 1]
