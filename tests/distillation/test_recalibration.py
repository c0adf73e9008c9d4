"""Every formula of the paper's section 3, checked against values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlib.distillation.recalibration import (
    Map,
    at_positions,
    direct,
    label_smoothing,
    logit_temperature,
    recalibrate,
    targets_of,
    temperature,
)
from firstlib.distillation.search import GRIDS, Grid, search
from firstlib.knowledge import TopK

rows = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(
    lambda values: np.array([sorted(np.array(values) / (sum(values) * 1.05), reverse=True)])
)


def test_temperature_is_a_softmax_over_probabilities_not_logits():
    # p = (0.8, 0.2), c = 0.5: exp(1.6) / (exp(1.6) + exp(0.4)) = 4.9530 / (4.9530 + 1.4918) = 0.7685
    assert temperature(np.array([[0.8, 0.2]]), 0.5)[0, 0] == pytest.approx(0.7685, abs=5e-5)


@pytest.mark.parametrize(("c", "largest"), [(1.0, math.e / (math.e + 4)), (0.3, 0.875), (0.1, 0.9998)])
def test_the_papers_bounds_on_the_first_target(c, largest):
    sure = np.array([[1.0, 0.0, 0.0, 0.0, 0.0]])
    assert temperature(sure, c)[0, 0] == pytest.approx(largest, abs=5e-4)


def test_temperature_does_not_overflow():
    assert np.isfinite(temperature(np.array([[1.0, 0.0]]), 1e-4)).all()


def test_label_smoothing_moves_a_tenth_to_the_other_four():
    # 0.9 - 0.1 = 0.8; 0.04 + 0.025 = 0.065; 0.02 + 0.025 = 0.045
    smoothed = label_smoothing(np.array([[0.9, 0.04, 0.02, 0.02, 0.02]]))
    np.testing.assert_allclose(smoothed.targets, [[0.8, 0.065, 0.045, 0.045, 0.045]])
    assert not smoothed.swapped.any()
    assert not smoothed.limited.any()


def test_label_smoothing_reports_a_rank_swap():
    # 0.45 - 0.1 = 0.35 falls below 0.40 + 0.025 = 0.425
    smoothed = label_smoothing(np.array([[0.45, 0.40, 0.05, 0.05, 0.05], [0.9, 0.025, 0.025, 0.025, 0.025]]))
    assert smoothed.swapped.tolist() == [True, False]


def test_label_smoothing_reports_where_it_would_leave_the_unit_interval():
    # p_1 = 0.06 < d = 0.1: 0.06 moves, 0.015 to each of the others, and nothing is negative
    smoothed = label_smoothing(np.array([[0.06, 0.06, 0.06, 0.06, 0.06]]))
    assert smoothed.limited.tolist() == [True]
    np.testing.assert_allclose(smoothed.targets, [[0.0, 0.075, 0.075, 0.075, 0.075]])


def test_direct_adds_a_millionth_and_renormalises():
    # (0.5 + 1e-6) / (0.5 + 2e-6) for p = (0.5, 0)
    np.testing.assert_allclose(direct(np.array([[0.5, 0.0]]))[0, 0], 0.500001 / 0.500002, rtol=1e-12)


def test_logit_temperature_is_a_power_and_keeps_zeros():
    # sqrt(0.64) : sqrt(0.04) : 0 = 0.8 : 0.2 : 0
    np.testing.assert_allclose(logit_temperature(np.array([[0.64, 0.04, 0.0]]), 2.0), [[0.8, 0.2, 0.0]])


def test_logit_temperature_agrees_with_tempered_logits():
    logits = np.array([2.0, 0.5, -1.0])
    before, after = (np.exp(logits / t) / np.exp(logits / t).sum() for t in (1.0, 1.7))
    np.testing.assert_allclose(logit_temperature(before[None], 1.7)[0], after)


@settings(deadline=None)
@given(rows, st.sampled_from([Map.NONE, Map.TEMPERATURE, Map.LOGIT_TEMPERATURE]), st.floats(0.05, 5))
def test_targets_are_distributions_in_the_teachers_order(p, kind, c):
    q = recalibrate(p, kind, c)
    assert q.sum() == pytest.approx(1)
    assert (q >= 0).all()
    assert (np.diff(q[0]) <= 1e-12).all()


@settings(deadline=None)
@given(rows, st.floats(0, 1))
def test_label_smoothing_keeps_the_sum(p, d):
    assert label_smoothing(p, d).targets.sum() == pytest.approx(p.sum())


@pytest.mark.parametrize("c", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_must_be_positive_and_finite(c):
    for scale in (temperature, logit_temperature):
        with pytest.raises(ValueError, match="above 0 and finite"):
            scale(np.array([[0.5, 0.5]]), c)


@pytest.mark.parametrize("scale", [temperature, logit_temperature])
def test_the_smallest_temperature_leaves_one_token_without_a_warning(scale):
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(scale(np.array([[0.6, 0.4, 0.0]]), 5e-324), [[1, 0, 0]])


@pytest.mark.parametrize("change", [direct, lambda p: temperature(p, 0.5), lambda p: logit_temperature(p, 2.0)])
def test_tokens_are_the_last_axis_however_positions_are_arranged(change):
    p = np.array([[[0.8, 0.1], [0.5, 0.3], [0.4, 0.2]], [[0.9, 0.0], [0.6, 0.4], [0.3, 0.3]]])
    rows = change(p.reshape(6, 2))
    np.testing.assert_array_equal(change(p), rows.reshape(p.shape))
    np.testing.assert_array_equal(change(p[0, 1]), rows[1])


REFUSED = [
    ([-0.1, 0.5], "a probability is negative or NaN; repair it, or leave the position out"),
    ([math.nan, 0.5], "a probability is negative or NaN; repair it, or leave the position out"),
    ([0.9, 0.1011], "probabilities sum to more than 1; divide by their sum"),
]


@pytest.mark.parametrize("kind", [Map.NONE, Map.TEMPERATURE, Map.LOGIT_TEMPERATURE, Map.LABEL_SMOOTHING])
@pytest.mark.parametrize(("row", "complaint"), REFUSED)
def test_a_row_that_is_no_distribution_is_named(kind, row, complaint):
    with pytest.raises(ValueError, match="row 2") as error:
        recalibrate(np.array([[0.5, 0.5], [0.9, 0.1], row, row]), kind, 0.5)
    assert str(error.value) == f"row 2: {complaint}"


@pytest.mark.parametrize("kind", [Map.NONE, Map.TEMPERATURE, Map.LOGIT_TEMPERATURE, Map.LABEL_SMOOTHING])
def test_a_sum_may_exceed_1_by_rounding(kind):
    assert np.isfinite(recalibrate(np.array([[0.9, 0.1009], [1.001, 0.0]]), kind, 0.5)).all()


def test_logit_temperature_refuses_a_row_without_mass():
    with pytest.raises(ValueError, match="row 1") as error:
        logit_temperature(np.array([[0.5, 0.0], [0.0, 0.0]]), 2.0)
    assert str(error.value) == "row 1: all probabilities are 0, which no temperature changes"


@pytest.mark.parametrize("moved", [-1e-9, 1 + 1e-9, math.nan])
def test_label_smoothing_moves_a_mass_between_0_and_1(moved):
    p = np.array([[1.0, 0.0]])
    assert label_smoothing(p, 0).targets.tolist() == [[1, 0]]
    assert label_smoothing(p, 1).targets.tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="between 0 and 1"):
        label_smoothing(p, moved)


def test_label_smoothing_needs_a_second_token():
    with pytest.raises(ValueError, match="at least two tokens"):
        label_smoothing(np.array([[0.5], [0.4], [0.3]]))


def test_a_tie_is_no_swap_and_taking_all_is_not_limited():
    smoothed = label_smoothing(np.array([[0.75, 0.25], [0.25, 0.0]]), 0.25)
    assert smoothed.targets.tolist() == [[0.5, 0.5], [0.0, 0.25]]
    assert smoothed.swapped.tolist() == [False, True]
    assert smoothed.limited.tolist() == [False, False]


@pytest.fixture
def stored():
    """Two positions whose log normalisers at temperatures 1 and 2 are those of (0.64, 0.36) and (0.81, 0.19)."""
    p = np.array([[0.64, 0.36], [0.81, 0.19]])
    logs = np.stack([np.zeros(2), np.log(np.sqrt(p).sum(axis=1))], axis=1)
    return TopK("e", np.arange(2), np.array([[1, 2], [3, 4]]), p, np.zeros(2), logs)


def test_every_map_of_stored_knowledge(stored):
    p = stored.probabilities
    exact = np.sqrt(p) / np.sqrt(p).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(targets_of(stored, "exact-temperature", 2.0, (1.0, 2.0)), exact)
    np.testing.assert_array_equal(targets_of(stored, "none", 2.0), direct(p))
    np.testing.assert_array_equal(targets_of(stored, "temperature", 0.5), temperature(p, 0.5))
    np.testing.assert_array_equal(targets_of(stored, "logit-temperature", 2.0), logit_temperature(p, 2.0))
    np.testing.assert_array_equal(targets_of(stored, "label-smoothing", 0.2), label_smoothing(p, 0.2).targets)


def test_an_exact_temperature_needs_a_store(stored):
    with pytest.raises(ValueError, match="needs the normalisers of a store: use targets_of"):
        recalibrate(stored.probabilities, "exact-temperature", 2.0)
    with pytest.raises(ValueError, match=r"stored at temperatures \[\], not at 1\.0"):
        targets_of(stored, "exact-temperature", 2.0)


def test_other_positions_keep_the_stored_top_k(stored):
    targets = np.array([[0.5, 0.5], [0.25, 0.75]])
    mixed = at_positions(stored, targets, np.array([False, True]))
    np.testing.assert_allclose(mixed, [[0.64, 0.36], [0.25, 0.75]], atol=2e-6)


def test_the_search_tries_the_papers_two_grids():
    found = search(lambda c: (c - 0.34) ** 2, GRIDS[Map.TEMPERATURE])
    np.testing.assert_allclose(found.coarse[:, 0], np.arange(1, 11) / 10)
    np.testing.assert_allclose(found.fine[:, 0], 0.22 + 0.02 * np.arange(9))
    assert found.best == 0.34
    assert not found.at_the_edge


@pytest.mark.parametrize(("optimum", "best"), [(0.0, 0.02), (2.0, 1.0)])
def test_an_optimum_at_the_edge_is_flagged(optimum, best):
    found = search(lambda c: abs(c - optimum))
    assert (found.best, found.at_the_edge) == (best, True)


def test_ties_go_to_the_smallest_coefficient():
    assert search(lambda c: 1.0, Grid(0.5, 1.0, 0.25)).best == 0.25


def test_stored_probabilities_keep_what_lies_outside_them():
    p = np.array([[0.6, 0.2], [1.0, 0.0]])
    np.testing.assert_array_equal(recalibrate(p, "stored", 0.0), p)
    assert recalibrate(p, "none", 0.0)[0].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="row 0: probabilities sum to more than 1"):
        recalibrate(np.array([[0.9, 0.2]]), "stored", 0.0)
