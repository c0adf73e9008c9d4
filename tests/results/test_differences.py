"""Differences over seeds, by hand."""

import pytest

from firstlib.results.differences import MEAN, difference_table, differences, spread_of

IN, OUT = ("in-domain", "csqa"), ("out-of-domain", "obqa")


def run(**trusts):
    """A run's results: for each method its Trust on two test sets."""
    rows = [
        {"method": method.replace("_", "-"), "setting": setting, "dataset": dataset, "trust": value}
        for method, values in trusts.items()
        for (setting, dataset), value in zip((IN, OUT), values, strict=True)
    ]
    return {"rows": rows}


RUNS = [
    run(fine_tune=(0.5, 0.4), first=(0.6, 0.3)),
    run(fine_tune=(0.4, 0.4), first=(0.6, 0.3)),
    run(fine_tune=(0.5, 0.3), first=(0.8, 0.3)),
]


def test_differences_by_hand():
    found = {one.place: one for one in differences(RUNS, "fine-tune")}
    assert found[IN].mean.estimate == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert found[OUT].mean.estimate == pytest.approx((-0.1 - 0.1 + 0) / 3)
    assert found[MEAN].mean.estimate == pytest.approx((0 + 0.05 + 0.15) / 3)
    # Three seeds of one sign: 2 of 8 patterns are as extreme. Out of domain 4 of 8; Holm doubles the smaller.
    assert (found[IN].p, found[OUT].p, found[MEAN].p) == (pytest.approx(0.5), pytest.approx(0.5), 0.5)
    assert all(one.seeds == 3 for one in found.values())


def test_a_table_has_a_line_per_method():
    head, [line] = difference_table(differences(RUNS, "fine-tune"))
    assert head == ["method", "in-domain csqa", "out-of-domain obqa", "mean over test sets"]
    assert line[0] == "first"
    assert line[1].startswith("+20.0 (-4.8 to +44.8), p = 0.500")


def test_a_method_that_a_seed_lacks_is_left_out():
    runs = [*RUNS, {"rows": [row for row in RUNS[0]["rows"] if row["method"] == "fine-tune"]}]
    assert differences(runs, "fine-tune") == []


def test_a_spread_is_the_standard_deviation_over_seeds():
    assert spread_of(RUNS, "first", IN) == pytest.approx(0.11547, abs=1e-5)
