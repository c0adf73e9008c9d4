"""Calibration measures: computed by hand, by their properties, and against the peers' released packages.

The peers are in the `test` extra; if one is not installed, its tests are skipped.
"""

import inspect
import math
import re
import warnings
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlib import metrics
from firstlib.metrics import proportions

PEER = "a peer of the test extra that is not installed"
KINDS = ["continuous", "two decimals", "half exactly 1", "half exactly 0"]


def truth(confidence, size=0.2):
    """How often an answer with this confidence is right: alternately too often and too seldom.

    The sign must change: if a model were over-confident everywhere, all binnings would agree and the tests would
    prove nothing. A negative size inverts the sign, so that answers just below 1 are right too often. Answers of
    exactly 1 cannot be right too often; only this difference distinguishes a separate bin for 1 from the last bin.
    """
    return np.clip(confidence + size * np.sin(6 * np.pi * confidence), 0, 1)


def predictions(n, seed=0, kind="continuous", size=0.2):
    random = np.random.default_rng(seed)
    confidence = random.random(n)
    correct = random.random(n) < truth(confidence, size)
    if kind == "two decimals":
        confidence = confidence.round(2)
    elif kind != "continuous":
        confidence[random.random(n) < 0.5] = float(kind[-1])  # their answers stay as correct as before
    return confidence, correct


def true_ece(size, bins=10):
    """The binned ECE of `truth` for uniform confidences, from its integral over each bin."""
    edges = np.arange(bins + 1) / bins
    return float(np.abs(np.diff(np.cos(6 * np.pi * edges))).sum() * size / (6 * np.pi))


def distributions(n, classes=4, seed=0):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.7), n)
    return probabilities, random.integers(0, classes, n)


# --- the ECE ---


def test_ece_by_hand():
    # (0.5, 0.6]: 0.55 and 0.6, one right: |0.5 - 0.575| = 0.075, 2 of 5 rows
    # (0.8, 0.9]: 0.9 three times, two right: |2/3 - 0.9| = 0.7/3, 3 of 5 rows
    # ECE = 0.4 * 0.075 + 0.6 * 0.7/3 = 0.03 + 0.14 = 0.17; MCE = 0.7/3
    confidence, correct = [0.55, 0.6, 0.9, 0.9, 0.9], [1, 0, 1, 1, 0]
    assert metrics.ece(confidence, correct) == pytest.approx(0.17, abs=1e-15)
    assert metrics.mce(confidence, correct) == pytest.approx(0.7 / 3, abs=1e-15)
    assert type(metrics.ece(confidence, correct)) is float


def test_reliability_by_hand():
    found = metrics.reliability([0.1, 0.4, 0.5, 0.9], [1, 0, 0, 1], bins=3)
    # (0, 1/3]: 0.1, right; (1/3, 2/3]: 0.4 and 0.5, both wrong; (2/3, 1]: 0.9, right
    np.testing.assert_array_equal(found.edges, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_array_equal(found.count, [1, 2, 1])
    assert np.issubdtype(found.count.dtype, np.integer)
    np.testing.assert_allclose(found.confidence, [0.1, 0.45, 0.9])
    np.testing.assert_array_equal(found.accuracy, [1, 0, 1])
    np.testing.assert_allclose(found.over_confidence, [0, 0.45, 0])
    np.testing.assert_allclose(found.under_confidence, [0.9, 0, 0.1], atol=1e-15)
    assert found.ece == pytest.approx((0.9 + 2 * 0.45 + 0.1) / 4)


def test_empty_bins_are_nan_and_weigh_nothing():
    found = metrics.reliability([0.95], [True])
    assert np.isnan(found.confidence[:9]).all()
    assert np.isnan(found.over_confidence[:9]).all()
    assert found.ece == found.mce == pytest.approx(0.05)


def test_every_two_decimal_confidence_is_in_the_bin_that_integers_give():
    hundredths = np.arange(101)
    expected = np.maximum(-(-hundredths // 10) - 1, 0)  # (0, 10], (10, 20], ... hundredths, and 0 in the first
    for row, bin_number in enumerate(expected):
        assert metrics.reliability([row / 100], [True]).count[bin_number] == 1, row


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 10, 15, 49, 65, 66, 100, 1000])
def test_edges_are_exact_to_the_bit(bins):
    edges = np.arange(bins + 1) / bins
    around = np.concatenate([edges, np.nextafter(edges[1:], 0), np.nextafter(edges[:-1], 1)])
    expected = np.maximum(np.searchsorted(edges, around, side="left") - 1, 0)
    found = metrics.reliability(around, np.ones(len(around), bool), bins)
    np.testing.assert_array_equal(found.count, np.bincount(expected, minlength=bins))


def test_zero_is_in_the_first_bin_and_one_in_the_last():
    np.testing.assert_array_equal(metrics.reliability([0.0, -0.0, 1.0], [0, 0, 1], bins=4).count, [2, 0, 0, 1])


def test_one_bin_is_mean_confidence_against_accuracy():
    # |0.6 - (0.2 + 0.4 + 0.6 + 0.8 + 1) / 5| = 0
    assert metrics.ece([0.2, 0.4, 0.6, 0.8, 1.0], [1, 1, 1, 0, 0], bins=1) == pytest.approx(0, abs=1e-15)


def test_float32_keeps_its_exact_value():
    # float32's 0.3 is 0.300000012, above the edge
    assert metrics.reliability(np.array([0.3], np.float32), [1]).count[3] == 1
    assert metrics.reliability(np.array([0.3]), [1]).count[2] == 1


def test_a_tensor_is_measured_like_an_array():
    exact = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)  # its nearest float32 is above the edge
    assert metrics.reliability(exact, torch.tensor([True])).count[2] == 1


def test_more_rows_than_one_part():
    confidence, correct = predictions(50_000)
    index = np.searchsorted(np.arange(1, 10) / 10, confidence)
    expected = np.abs(np.bincount(index, correct - confidence)).sum() / len(correct)
    assert metrics.ece(confidence, correct) == pytest.approx(expected, abs=1e-14)


@given(
    rows=st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40),
    order=st.randoms(use_true_random=False),
    bins=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_does_not_matter(rows, order, bins):
    shuffled = list(rows)
    order.shuffle(shuffled)
    for measure in (
        metrics.ece,
        lambda c, y, bins: metrics.ece(c, y, bins, "equal-mass"),
        metrics.debiased_ece,
        lambda c, y, bins: metrics.smooth_ece(c, y),
    ):
        one, other = (measure([c / 20 for c, _ in r], [y for _, y in r], bins=bins) for r in (rows, shuffled))
        assert one == pytest.approx(other, abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_ece_lies_between_zero_and_mce_and_mce_below_one(rows, bins):
    confidence, correct = [c for c, _ in rows], [y for _, y in rows]
    found = metrics.reliability(confidence, correct, bins)
    assert found.count.sum() == len(rows)
    assert 0 <= found.ece <= found.mce + 1e-12
    assert found.mce <= 1


def test_input_is_not_modified():
    confidence, correct = predictions(100)
    kept = confidence.copy(), correct.copy()
    metrics.ece(confidence, correct)
    metrics.smooth_ece(confidence, correct)
    metrics.bootstrap_ece(confidence, correct, resamples=5)
    metrics.noise_floor(confidence, draws=5)
    np.testing.assert_array_equal(confidence, kept[0])
    np.testing.assert_array_equal(correct, kept[1])


# --- equal-mass bins ---


def test_equal_mass_by_hand():
    # five rows in two bins, divided like array_split: three and two; the edge is halfway from 0.5 to 0.7
    found = metrics.reliability([0.9, 0.1, 0.7, 0.5, 0.2], [1, 0, 1, 0, 0], 2, metrics.Binning.EQUAL_MASS)
    np.testing.assert_allclose(found.edges, [0, 0.6, 1])
    np.testing.assert_array_equal(found.count, [3, 2])


def test_equal_mass_never_separates_equal_confidences():
    confidence = np.repeat([0.3, 0.6, 0.8], [50, 3, 47])
    counts = metrics.reliability(confidence, np.ones(100, bool), 10, "equal-mass").count
    assert set(counts.tolist()) <= {0, 50, 53, 3, 47, 100}
    assert counts.sum() == 100


def test_equal_mass_with_more_bins_than_rows():
    counts = metrics.reliability([0.2, 1.0, 0.4], [1, 1, 0], 6, "equal-mass").count
    np.testing.assert_array_equal(counts, [1, 1, 1, 0, 0, 0])


def test_equal_mass_is_balanced():
    confidence, correct = predictions(1003)
    counts = metrics.reliability(confidence, correct, 10, "equal-mass").count
    np.testing.assert_array_equal(counts, [101] * 3 + [100] * 7)


# --- other measures ---


def two_classes(confidence, correct):
    return np.stack([confidence, 1 - confidence], axis=1), np.where(correct, 0, 1)


def swept(confidence, correct, *bins):
    rows, labels = two_classes(confidence, correct)
    return metrics.sweep(rows, labels, [0.5], *bins).ece


def swept_probabilities(confidence, correct, *bins):
    rows, labels = two_classes(confidence, correct)
    return metrics.sweep_probabilities(lambda _: rows, [0.5], labels, *bins).ece


@pytest.mark.parametrize(
    "measure",
    [
        metrics.ece,
        metrics.mce,
        metrics.debiased_ece,
        metrics.calibration_refinement,
        metrics.ece_by_convention,
        metrics.bootstrap_ece,
        lambda c, y, *bins: metrics.reliability(c, y, *bins).count.tolist(),
        lambda c, y, *bins: metrics.classwise_ece(*two_classes(c, y), *bins),
        lambda c, y, *bins: metrics.bootstrap_difference(c, y, c, ~y, *bins),
        lambda c, y, *bins: metrics.paired_bootstrap_difference(c, y, c, ~y, *bins),
        lambda c, y, *bins: metrics.noise_floor(c, *bins),
        lambda c, y, *bins: metrics.noise_draws(c, *bins).tolist(),
        swept,
        swept_probabilities,
    ],
)
def test_ten_bins_are_the_default(measure):
    confidence, correct = predictions(300)
    assert measure(confidence, correct) == measure(confidence, correct, 10) != measure(confidence, correct, 11)


@pytest.mark.parametrize("binning", metrics.Binning)
def test_every_measure_uses_the_bins_that_it_is_given(binning):
    confidence, correct = predictions(300)
    found = metrics.reliability(confidence, correct, 4, binning)
    gap = found.accuracy - found.confidence
    assert metrics.ece(confidence, correct, 4, binning) == pytest.approx(found.weight @ np.abs(gap))
    assert metrics.mce(confidence, correct, 4, binning) == pytest.approx(np.abs(gap).max())
    split = metrics.calibration_refinement(confidence, correct, 4, binning)
    assert split.calibration == pytest.approx(found.weight @ gap**2)
    assert split.refinement == pytest.approx(found.weight @ (found.accuracy * (1 - found.accuracy)))
    rows, labels = two_classes(confidence, correct)
    classes = [metrics.ece(rows[:, 0], correct, 4, binning), metrics.ece(rows[:, 1], ~correct, 4, binning)]
    assert metrics.classwise_ece(rows, labels, 4, binning) == pytest.approx(np.mean(classes))


def test_debiased_by_hand():
    # one bin, four of four right at 0.6: 0.4^2 - 1 * 0 / 3, whose root is 0.4
    assert metrics.debiased_ece([0.6] * 4, [1, 1, 1, 1], bins=1) == pytest.approx(0.4)
    # three of four right at 0.5: 0.25^2 - 0.75 * 0.25 / 3 = 0.0625 - 0.0625
    assert metrics.debiased_ece([0.5] * 4, [1, 1, 1, 0], bins=1) == pytest.approx(0, abs=1e-8)
    # two of two right at 0.7: 0.3^2 - 1 * 0 / 1
    assert metrics.debiased_ece([0.7] * 2, [1, 1], bins=1) == pytest.approx(0.3)
    # one of one wrong at 0.9: a bin of one row adds nothing
    assert metrics.debiased_ece([0.9], [0], bins=1) == 0


def test_debiasing_removes_what_chance_adds():
    confidence, correct = predictions(2000, size=0)
    found = metrics.reliability(confidence, correct, 15, "equal-mass")
    plain = np.sqrt(np.sum(found.weight * (found.accuracy - found.confidence) ** 2))
    assert metrics.debiased_ece(confidence, correct, 15) < plain / 2


def test_golden_values_of_the_peers():
    # values of relplot 1.0.3 and uncertainty-calibration 0.1.4 on these rows, checked even without the packages
    place = np.arange(400)
    confidence = (place + 0.5) / 400
    correct = ((place * 37) % 101 + 0.5) / 101 < truth(confidence)
    assert metrics.smooth_ece(confidence, correct) == pytest.approx(0.06776794621991925, abs=1e-12)
    assert metrics.smooth_ece(confidence.round(2), correct) == pytest.approx(0.06766187087113687, abs=1e-12)
    assert metrics.debiased_ece(confidence, correct, 10) == pytest.approx(0.10051151228871298, abs=1e-12)
    assert metrics.debiased_ece(confidence, correct, 15) == pytest.approx(0.11517804726646212, abs=1e-12)
    assert metrics.ece(confidence, correct) == pytest.approx(0.11, abs=1e-12)


def test_smooth_ece_of_an_error_that_needs_a_narrow_kernel_and_a_fine_grid():
    # confidences 0.02 apart, in turn 0.01 too low and 0.01 too high; the value is relplot 1.0.3's
    percent = np.repeat(np.arange(1, 100), 100)
    confidence = percent / 100 + np.where(percent % 2, 0.01, -0.01)
    correct = np.tile(np.arange(100), 99) < percent
    assert metrics.smooth_ece(confidence, correct) == pytest.approx(0.0040039805905671956, abs=1e-12)


def test_smooth_ece_of_certain_answers():
    assert metrics.smooth_ece([1.0] * 5, [True] * 5) == 0
    assert metrics.smooth_ece([0.0] * 5, [False] * 5) == 0
    assert metrics.smooth_ece([1.0] * 500, [False] * 500) > 0.3  # not 1, because such a large width blurs it


def test_smooth_ece_has_no_bin_edges():
    confidence = np.repeat([0.3, 0.7], 200)
    correct = np.tile([1, 0], 200)
    moved = confidence + 1e-6  # into the next of ten bins
    assert metrics.reliability(confidence, correct).count[2] == 200
    assert metrics.reliability(moved, correct).count[3] == 200
    assert metrics.smooth_ece(confidence, correct) == pytest.approx(metrics.smooth_ece(moved, correct), abs=1e-5)


def test_classwise_by_hand():
    # class 0: 0.8 and 0.4 in bins of their own, gaps 0.2 and 0.4: mean 0.3; class 1 mirrors it: 0.3
    assert metrics.classwise_ece([[0.8, 0.2], [0.4, 0.6]], [0, 1]) == pytest.approx(0.3)


def test_brier_and_nll_by_hand():
    probabilities = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    # (0.3^2 + 0.2^2 + 0.1^2 = 0.14) and (0.1^2 + 0.7^2 + 0.6^2 = 0.86), mean 0.5
    assert metrics.brier(probabilities, [0, 1]) == pytest.approx(0.5)
    assert metrics.nll(probabilities, [0, 1]) == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)


def test_worst_and_best_scores():
    sure = [[1.0, 0.0]]
    assert metrics.brier(sure, [1]) == 2
    assert metrics.nll(sure, [1]) == math.inf
    assert metrics.brier(sure, [0]) == 0
    assert str(metrics.nll(sure, [0])) == "0.0"


def test_trust():
    # the first row of the paper's Table 1, in percent: Llama-1's teacher on CommonsenseQA
    assert metrics.trust(82.4, 10.2) == pytest.approx(72.2)


def test_calibration_refinement_by_hand():
    # four answers at 0.8, three right: (0.75 - 0.8)^2 and 0.75 * 0.25; Brier (3 * 0.04 + 0.64) / 4 = 0.19
    split = metrics.calibration_refinement([0.8] * 4, [1, 1, 1, 0])
    assert split.calibration == pytest.approx(0.0025)
    assert split.refinement == pytest.approx(0.1875)
    assert split.remainder == pytest.approx(0, abs=1e-15)


def test_calibration_refinement_sums_to_the_brier_score():
    for binning in metrics.Binning:
        confidence, correct = predictions(500)
        split = metrics.calibration_refinement(confidence, correct, binning=binning)
        assert split.total == pytest.approx(np.mean((confidence - correct) ** 2), abs=1e-15)
        assert abs(split.remainder) < 0.01


def test_recalibration_changes_calibration_but_not_refinement():
    confidence = np.repeat([0.6, 0.9], 100)
    correct = np.concatenate([np.arange(100) < 70, np.arange(100) < 80])
    before = metrics.calibration_refinement(confidence, correct)
    after = metrics.calibration_refinement(np.repeat([0.7, 0.8], 100), correct)
    assert after.calibration == pytest.approx(0, abs=1e-15)
    assert before.calibration == pytest.approx(0.01)  # both bins are off by 0.1
    assert after.refinement == pytest.approx(before.refinement)


# --- chance ---


def test_ece_of_calibrated_answers_goes_to_zero_and_matches_the_noise_floor():
    means = []
    for n in (100, 1_000, 10_000):
        eces = np.array([metrics.ece(*predictions(n, seed, size=0)) for seed in range(60)])
        floor = metrics.noise_floor(predictions(n, 1000, size=0)[0], draws=300)
        assert eces.mean() == pytest.approx(floor.mean, rel=0.15)
        assert (eces < floor.percentile_95).mean() > 0.85
        means.append(eces.mean())
    # the ECE due to chance falls with the square root of n, so by 3.2 per step
    assert means[0] / means[1] == pytest.approx(math.sqrt(10), rel=0.2)
    assert means[1] / means[2] == pytest.approx(math.sqrt(10), rel=0.2)
    assert means[2] < 0.012


def test_noise_floor_by_hand():
    # one answer at 0.9: off by 0.1 nine times out of ten, otherwise by 0.9: mean 0.18
    floor = metrics.noise_floor([0.9], draws=20_000)
    assert floor.mean == pytest.approx(0.18, abs=0.01)
    assert floor.percentile_95 == pytest.approx(0.9)
    assert metrics.noise_floor([0.0, 1.0, 1.0]) == metrics.NoiseFloor(0.0, 0.0)


def test_noise_floor_supports_both_binnings():
    confidence = predictions(500)[0] ** 0.2
    wide, even = (metrics.noise_floor(confidence, binning=b).mean for b in metrics.Binning)
    assert 0 < wide < even  # most rows share the top equal-width bins, which are large and so have little noise


def test_bootstrap_is_reproducible_and_contains_its_estimate():
    confidence, correct = predictions(300)
    found = metrics.bootstrap_ece(confidence, correct, resamples=200, seed=3)
    assert found == metrics.bootstrap_ece(confidence, correct, resamples=200, seed=3)
    assert found != metrics.bootstrap_ece(confidence, correct, resamples=200, seed=4)
    assert found.estimate == pytest.approx(metrics.ece(confidence, correct), abs=1e-14)
    assert 0 <= found.low < found.estimate < found.high < 1
    narrow = metrics.bootstrap_ece(confidence, correct, resamples=200, seed=3, level=0.5)
    assert narrow.high - narrow.low < found.high - found.low


def test_bootstrap_of_certain_answers():
    assert metrics.bootstrap_ece([1.0] * 9, [True] * 9) == metrics.Interval(0.0, 0.0, 0.0)


def test_resamples_larger_than_one_part():
    confidence, correct = predictions(200_000)
    found = metrics.bootstrap_ece(confidence, correct, resamples=3)
    assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize("size", [0, 0.05, 0.2])
def test_bootstrap_interval_covers_the_true_ece(size):
    trials = 120
    hits = 0
    for seed in range(trials):
        found = metrics.bootstrap_ece(*predictions(400, seed, size=size), resamples=200, seed=seed)
        hits += found.low - 1e-12 <= true_ece(size) <= found.high
    assert hits / trials > 0.86  # the nominal level is 0.95; see its docstring


def test_paired_difference_covers_the_true_one():
    trials = 120
    hits = 0
    for seed in range(trials):
        calibrated, miscalibrated = predictions(400, seed, size=0), predictions(400, seed + 10_000, size=0.2)
        found = metrics.paired_bootstrap_difference(*calibrated, *miscalibrated, resamples=200, seed=seed)
        hits += found.low <= -true_ece(0.2) <= found.high
    assert hits / trials > 0.86


def test_paired_difference_distinguishes_a_better_model_from_chance():
    confidence, correct = predictions(2000, size=0)
    worse = predictions(2000, 1, size=0.2)
    found = metrics.paired_bootstrap_difference(confidence, correct, *worse)
    assert found.estimate == pytest.approx(metrics.ece(confidence, correct) - metrics.ece(*worse), abs=1e-14)
    assert found.high < 0
    exchanged = metrics.paired_bootstrap_difference(*worse, confidence, correct)
    assert (exchanged.low, exchanged.high) == pytest.approx((-found.high, -found.low))
    same = metrics.paired_bootstrap_difference(confidence, correct, confidence, correct)
    assert same.estimate == 0
    assert same.low < 0 < same.high


def test_chance_is_measured_at_95_percent_with_1000_draws_of_seed_0():
    (confidence, correct), other = predictions(300), predictions(300, 1)
    same = (10, 1000, 0.95, 0)
    assert metrics.bootstrap_ece(confidence, correct) == metrics.bootstrap_ece(confidence, correct, *same)
    for difference in (metrics.bootstrap_difference, metrics.paired_bootstrap_difference):
        assert difference(confidence, correct, *other) == difference(confidence, correct, *other, *same)
    assert metrics.noise_floor(confidence) == metrics.noise_floor(confidence, 10, 1000, 0)
    draws = metrics.noise_draws(confidence)
    np.testing.assert_array_equal(draws, metrics.noise_draws(confidence, 10, 1000, 0, "equal-width"))
    assert draws.shape == (1000,)


# --- exact intervals ---


def test_clopper_pearson_by_hand():
    low, high = metrics.clopper_pearson([0, 4, 1], [4, 4, 1])
    # none of 4: (1 - high)^4 = 0.025; all of 4: low^4 = 0.025; 1 of 1: low = 0.025
    np.testing.assert_allclose(low, [0, 0.025**0.25, 0.025], atol=1e-14)
    np.testing.assert_allclose(high, [1 - 0.025**0.25, 1, 1], atol=1e-14)


def test_clopper_pearson_of_an_empty_bin_spans_0_to_1():
    low, high = metrics.clopper_pearson([0, 3], [0, 5])
    assert (low[0], high[0]) == (0, 1)
    assert 0 < low[1] < 0.6 < high[1] < 1


def test_clopper_pearson_bounds_have_the_nominal_tails():
    n, tail = 20, 0.05
    low, high = metrics.clopper_pearson(np.arange(n + 1), n, level=0.9)

    def mass(p, counts):
        return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in counts)

    for k in range(1, n):
        assert mass(low[k], range(k, n + 1)) == pytest.approx(tail, abs=1e-12)
        assert mass(high[k], range(k + 1)) == pytest.approx(tail, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 10, 137, 10_000, 1_000_000])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.95, 0.999])
def test_clopper_pearson_equals_scipys(n, level):
    beta = pytest.importorskip("scipy.stats", reason="scipy is not installed here").beta
    k = np.unique(np.clip([0, 1, 2, n // 3, n // 2, n - 1, n], 0, n))
    low, high = metrics.clopper_pearson(k, n, level)
    tail = (1 - level) / 2
    np.testing.assert_allclose(low[k > 0], beta.ppf(tail, k, n - k + 1)[k > 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(high[k < n], beta.ppf(1 - tail, k + 1, n - k)[k < n], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [2, 137, 10_000])
def test_exact_intervals_take_few_steps_of_newtons_method_and_few_terms(monkeypatch, n):
    k = np.unique([0, 1, n // 3, n // 2, n - 1, n])
    expected = metrics.clopper_pearson(k, n)
    monkeypatch.setattr(proportions, "MOST_STEPS", 12)
    monkeypatch.setattr(proportions, "MOST_TERMS", 20 + round(n**0.5))
    np.testing.assert_array_equal(metrics.clopper_pearson(k, n), expected)


@pytest.mark.parametrize("n", [10, 10**6, 10**9])
def test_the_bound_of_a_rare_success_is_relatively_precise(n):
    # one success or more has probability 1 - (1 - low)^n
    assert metrics.clopper_pearson([1], [n])[0][0] == pytest.approx(-math.expm1(math.log1p(-0.025) / n), rel=1e-7)


def test_counts_may_be_small_integers():
    for counts in ([0, 255], [255, 255]):
        np.testing.assert_array_equal(
            metrics.clopper_pearson(*np.array(counts, np.uint8)), metrics.clopper_pearson(*np.array(counts))
        )


@pytest.mark.parametrize("level", [{}, {"level": 0.95}, {"level": 0.8}])
def test_a_shares_interval_is_the_exact_one(level):
    low, high = metrics.clopper_pearson([9], [12], **({"level": 0.95} | level))
    assert metrics.share_interval(9, 12, **level) == metrics.Interval(0.75, low[0], high[0])
    for one, alone in zip(metrics.share_intervals([9, 3], [12, 3], **level), ((9, 12), (3, 3)), strict=True):
        assert astuple(one) == pytest.approx(astuple(metrics.share_interval(*alone, **level)))


# --- sweeps ---


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_sweep_is_each_measure_at_each_temperature():
    probabilities, labels = distributions(300)
    temperatures = [0.1, 0.5, 1.0, 3.0]
    found = metrics.sweep(np.log(probabilities), labels, temperatures, bins=15)
    for place, temperature in enumerate(temperatures):
        cooled = softmax(np.log(probabilities) / temperature)
        confidence, correct = cooled.max(axis=1), cooled.argmax(axis=1) == labels
        assert found.ece[place] == pytest.approx(metrics.ece(confidence, correct, 15), abs=1e-12)
        assert found.nll[place] == pytest.approx(metrics.nll(cooled, labels), rel=1e-12)
        assert found.brier[place] == pytest.approx(metrics.brier(cooled, labels), abs=1e-12)
        assert found.accuracy[place] == metrics.accuracy(correct)


def test_sweep_of_probabilities_is_the_papers_map():
    probabilities, labels = distributions(300, classes=5)
    grid = np.arange(1, 11) / 10
    ours = metrics.sweep(probabilities, labels, grid)
    general = metrics.sweep_probabilities(lambda c: softmax(probabilities / c), grid, labels)
    for name in ("coefficients", "accuracy", "ece", "nll", "brier"):
        np.testing.assert_allclose(getattr(ours, name), getattr(general, name), rtol=1e-12, atol=1e-13)


def test_sweep_handles_ruled_out_candidates_and_tiny_temperatures():
    scores = np.log(np.array([[0.5, 0.5, 1e-300], [0.9, 0.1, 1e-300]]))
    scores[:, 2] = -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = metrics.sweep(scores, [0, 1], [1e-310, 1e-3, 1.0])
        ruled_out = metrics.sweep(scores, [2, 0], [1.0])
    # at T = 1: 0.5 right and 0.9 wrong: gaps 0.5 and 0.9
    assert fine.ece[2] == pytest.approx(0.7)
    # -ln 0.1 at T = 0.001: ln 9 * 1000, though the probability itself is 0 in float64; and ln 2 for the tie
    assert fine.nll[1] == pytest.approx((math.log(9) * 1000 + math.log(2)) / 2)
    assert ruled_out.nll[0] == math.inf


# --- the peers' conventions ---


def test_conventions_agree_away_from_edges():
    found = metrics.ece_by_convention(*predictions(2000))
    assert next(iter(found)) == "firstlib"
    np.testing.assert_allclose(list(found.values()), metrics.ece(*predictions(2000)), atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("two decimals", {"netcal", "torchmetrics", "relplot"}),  # left-closed
        ("half exactly 1", {"torchmetrics", "relplot"}),  # 1 in a bin of its own
        ("half exactly 0", {"gpleiss"}),  # 0 dropped
    ],
)
def test_conventions_differ_on_edges(kind, others):
    found = metrics.ece_by_convention(*predictions(5000, kind=kind, size=-0.2))
    assert {name for name, value in found.items() if abs(value - found["firstlib"]) > 1e-4} == others


def test_dropped_zeros_still_count_as_rows():
    # gpleiss: four rows at 0 dropped, one at 0.5 wrong: 0.5 / 5; ours: first bin |0.5 - 0| * 4/5 + 0.1
    found = metrics.ece_by_convention([0, 0, 0, 0, 0.5], [1, 1, 0, 0, 0])
    assert found["gpleiss"] == pytest.approx(0.1)
    assert found["firstlib"] == pytest.approx(0.5)


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 10, 15, 49, 98, 100])
def test_torchmetrics_edges_are_torchs_to_the_bit(bins):
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64).numpy()
    confidence = np.concatenate([edges, np.nextafter(edges[1:], 0), np.nextafter(edges[:-1], 1)])
    correct = np.arange(len(confidence)) % 3 == 0
    index = np.searchsorted(edges, confidence, side="right")
    expected = np.abs(np.bincount(index, correct - confidence)).sum() / len(confidence)
    assert metrics.ece_by_convention(confidence, correct, bins)["torchmetrics"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [10, 15, 20])
@pytest.mark.parametrize("kind", KINDS)
class TestPeers:
    """Compares with each peer's released package on the same rows, including edges."""

    def test_uncertainty_calibration(self, kind, bins):
        peer = pytest.importorskip("calibration", reason=PEER)
        confidence, correct = predictions(3000, bins, kind, size=-0.2)
        expected = peer.get_ece(confidence, correct.astype(int), num_bins=bins)
        assert metrics.ece(confidence, correct, bins) == pytest.approx(expected, abs=1e-12)
        expected = peer.get_ece_em(confidence, correct.astype(int), num_bins=bins)
        assert metrics.ece(confidence, correct, bins, "equal-mass") == pytest.approx(expected, abs=1e-12)
        expected = peer.lower_bound_scaling_top_ce(confidence, correct.astype(int), p=2, debias=True, num_bins=bins)
        assert metrics.debiased_ece(confidence, correct, bins) == pytest.approx(expected, abs=1e-12)

    def test_scikit_learn(self, kind, bins):
        peer = pytest.importorskip("sklearn.calibration", reason=PEER)
        confidence, correct = predictions(3000, bins, kind, size=-0.2)
        accuracy, mean = peer.calibration_curve(correct, confidence, n_bins=bins)
        count = metrics.reliability(confidence, correct, bins).count
        expected = np.abs(accuracy - mean) @ count[count > 0] / len(correct)
        assert metrics.ece(confidence, correct, bins) == pytest.approx(expected, abs=1e-12)
        found = metrics.ece_by_convention(confidence, correct, bins)["scikit-learn"]
        assert found == pytest.approx(expected, abs=1e-12)

    def test_netcal(self, kind, bins):
        peer = pytest.importorskip("netcal.metrics", reason=PEER)
        confidence, correct = predictions(3000, bins, kind, size=-0.2)
        expected = peer.ECE(bins).measure(confidence, correct.astype(int))
        found = metrics.ece_by_convention(confidence, correct, bins)
        assert found["netcal"] == pytest.approx(expected, abs=1e-12)
        if kind == "continuous":
            assert found["firstlib"] == pytest.approx(expected, abs=1e-12)

    def test_torchmetrics(self, kind, bins):
        peer = pytest.importorskip("torchmetrics.functional.classification", reason=PEER)
        torch = pytest.importorskip("torch", reason=PEER)
        confidence, correct = predictions(3000, bins, kind, size=-0.2)

        def measured(norm):
            rows = torch.tensor(confidence), torch.tensor(correct.astype(int))
            return float(peer.binary_calibration_error(*rows, n_bins=bins, norm=norm))

        found = metrics.ece_by_convention(confidence, correct, bins)
        assert found["torchmetrics"] == pytest.approx(measured("l1"), abs=1e-12)
        if kind == "continuous":
            assert found["firstlib"] == pytest.approx(measured("l1"), abs=1e-12)
            assert metrics.mce(confidence, correct, bins) == pytest.approx(measured("max"), abs=1e-12)
            squared = metrics.calibration_refinement(confidence, correct, bins).calibration
            assert math.sqrt(squared) == pytest.approx(measured("l2"), abs=1e-12)

    def test_relplot(self, kind, bins):
        peer = pytest.importorskip("relplot", reason=PEER)
        confidence, correct = predictions(3000, bins, kind, size=-0.2)
        found = metrics.ece_by_convention(confidence, correct, bins)
        expected = peer.metrics.binnedECE(confidence, correct.astype(float), bins)
        assert found["relplot"] == pytest.approx(expected, abs=1e-12)
        if kind == "continuous":
            assert found["firstlib"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [1, 30, 1000, 20_000])
@pytest.mark.parametrize("size", [0, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_smooth_ece_equals_relplots(n, size, kind):
    peer = pytest.importorskip("relplot", reason=PEER)
    confidence, correct = predictions(n, n, kind, size)
    expected = peer.smECE(confidence, correct.astype(float))
    assert metrics.smooth_ece(confidence, correct) == pytest.approx(expected, abs=1e-12)


def test_classwise_equals_uncertainty_calibrations():
    peer = pytest.importorskip("calibration", reason=PEER)
    probabilities, labels = distributions(1000)
    expected = peer.get_ece(probabilities, labels, mode="marginal", num_bins=10)
    assert metrics.classwise_ece(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_brier_and_nll_equal_scikit_learns():
    peer = pytest.importorskip("sklearn.metrics", reason=PEER)
    probabilities, labels = distributions(1000)
    assert metrics.nll(probabilities, labels) == pytest.approx(peer.log_loss(labels, probabilities), rel=1e-12)
    expected = peer.brier_score_loss(labels, probabilities, scale_by_half=False)
    assert metrics.brier(probabilities, labels) == pytest.approx(expected, abs=1e-12)
    confidence, correct = predictions(1000)
    split = metrics.calibration_refinement(confidence, correct)
    assert split.total == pytest.approx(peer.brier_score_loss(correct, confidence), abs=1e-12)


# --- bad input ---

NOT_A_SHARE = "pass probabilities from 0 to 1, not logits or percents"
NOT_AN_ANSWER = "pass True or False (or 1 or 0) for every row"
NO_SCORE = "has a nan, plus infinity or no finite entry: leave that question out"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.ece([], []), "confidence is empty: pass at least one row"),
        (lambda: metrics.ece([0.5, 1.2], [1, 1]), f"confidence[1] is 1.2: {NOT_A_SHARE}"),
        (
            lambda: metrics.ece([1 + 2e-16], [1]),
            "confidence[0] is 1.0000000000000002: this is round-off; clip to 1",
        ),
        (lambda: metrics.ece([1 + 1e-6], [1]), "confidence[0] is 1.000001: this is round-off; clip to 1"),
        (lambda: metrics.ece([1 + 2e-6], [1]), f"confidence[0] is 1.000002: {NOT_A_SHARE}"),
        (lambda: metrics.ece([0.5, -0.1], [1, 1]), f"confidence[1] is -0.1: {NOT_A_SHARE}"),
        (lambda: metrics.ece([0.0, 1.0, 1.5], [1, 1, 1]), f"confidence[2] is 1.5: {NOT_A_SHARE}"),
        (lambda: metrics.ece([0.5, np.nan, 2], [1, 1, 1]), "confidence[1] is nan: leave that row out"),
        (lambda: metrics.ece([0.5, np.inf], [1, 1]), f"confidence[1] is inf: {NOT_A_SHARE}"),
        (lambda: metrics.ece([[0.5]], [1]), "confidence has shape (1, 1): pass shape (N,)"),
        (lambda: metrics.ece([0.5], [[1]]), "correct has shape (1, 1): pass shape (N,)"),
        (
            lambda: metrics.ece([0.5, 0.5, 0.5], [1, 0]),
            "correct has 2 rows and confidence 3: row 2 has no partner; pass pairs",
        ),
        (lambda: metrics.ece([0.5, 0.5], [1, 2]), f"correct[1] is 2: {NOT_AN_ANSWER}"),
        (lambda: metrics.ece([0.5, 0.5], [1, np.nan]), f"correct[1] is nan: {NOT_AN_ANSWER}"),
        (lambda: metrics.ece([0.5, 0.5], np.array([True, "no"], object)), f"correct[1] is no: {NOT_AN_ANSWER}"),
        (lambda: metrics.ece([0.5, 0.5], [True, None]), f"correct[1] is nan: {NOT_AN_ANSWER}"),
        (lambda: metrics.ece([0.5], [1], bins=0), "bins is 0: use 1 or more"),
        (lambda: metrics.ece([0.5], [1], bins=2.5), "bins is 2.5: use a whole number"),
        (
            lambda: metrics.ece(np.ma.masked_array([0.5, 0.9], [0, 1]), [1, 0]),
            "confidence has masked values: drop their rows, or fill them",
        ),
        (lambda: metrics.ece([0.5], [1], binning="equal"), "'equal' is not a valid Binning"),
        (lambda: metrics.mce([0.5], [1], binning="equal"), "'equal' is not a valid Binning"),
        (lambda: metrics.smooth_ece([2.0], [1]), f"confidence[0] is 2.0: {NOT_A_SHARE}"),
        (lambda: metrics.ece_by_convention([0.5], [1], bins=0), "bins is 0: use 1 or more"),
        (
            lambda: metrics.brier([[0.5, 0.5], [0.5, 0.6]], [0, 0]),
            "probabilities[1] sums to 1.1: divide each row by its sum",
        ),
        (lambda: metrics.nll([[0.5, 0.5], [0.5, 7]], [0, 0]), f"probabilities[1, 1] is 7.0: {NOT_A_SHARE}"),
        (lambda: metrics.nll([[0.5, None]], [0]), "probabilities[0, 1] is nan: leave that row out"),
        (lambda: metrics.nll([[0.5, 0.5]], [2]), "labels[0] is 2: probabilities has columns 0 to 1; pass one of them"),
        (
            lambda: metrics.nll([[0.5, 0.5], [0.5, 0.5]], [0, -1]),
            "labels[1] is -1: probabilities has columns 0 to 1; pass one of them",
        ),
        (
            lambda: metrics.nll([[0.5, 0.5]], [0.0]),
            "labels has dtype float64: pass the right answer's column, an integer, for every row",
        ),
        (lambda: metrics.nll([[0.5, 0.5]], [[0]]), "labels has shape (1, 1): pass shape (N,)"),
        (
            lambda: metrics.nll([[0.5, 0.5]], [0, 1]),
            "labels has 2 rows and probabilities 1: row 1 has no partner; pass pairs",
        ),
        (lambda: metrics.nll([0.5, 0.5], [0]), "probabilities has shape (2,): pass shape (N, C)"),
        (lambda: metrics.nll(np.zeros((0, 2)), [0]), "probabilities is empty: pass at least one row"),
        (lambda: metrics.accuracy([]), "correct is empty: pass at least one row"),
        (lambda: metrics.noise_floor([0.5, 1.5]), f"confidence[1] is 1.5: {NOT_A_SHARE}"),
        (lambda: metrics.noise_floor([0.5], draws=0), "draws is 0: use 1 or more"),
        (lambda: metrics.noise_floor([0.5], bins=0), "bins is 0: use 1 or more"),
        (lambda: metrics.bootstrap_ece([0.5], [1], bins=0), "bins is 0: use 1 or more"),
        (lambda: metrics.bootstrap_ece([0.5], [1], resamples=0), "resamples is 0: use 1 or more"),
        (
            lambda: metrics.bootstrap_ece([0.5], [1], level=95),
            "level is 95: pass a fraction between 0 and 1, such as 0.95",
        ),
        (
            lambda: metrics.bootstrap_ece([0.5], [1], level=1),
            "level is 1: pass a fraction between 0 and 1, such as 0.95",
        ),
        (
            lambda: metrics.clopper_pearson([1], [2], level=0),
            "level is 0: pass a fraction between 0 and 1, such as 0.95",
        ),
        (
            lambda: metrics.paired_bootstrap_difference([0.5], [1], [0.5, 1.5], [1, 1]),
            f"confidence_b[1] is 1.5: {NOT_A_SHARE}",
        ),
        (
            lambda: metrics.paired_bootstrap_difference([0.5], [1], [0.5, 0.5], [1, 1]),
            "confidence_a has 1 rows, confidence_b 2: pass the same questions",
        ),
        (
            lambda: metrics.paired_bootstrap_difference([0.5], [2], [0.5], [1]),
            f"correct_a[0] is 2: {NOT_AN_ANSWER}",
        ),
        (
            lambda: metrics.bootstrap_difference([0.5], [1, 0], [0.5], [1]),
            "correct_a has 2 rows and confidence_a 1: row 1 has no partner; pass pairs",
        ),
        (
            lambda: metrics.bootstrap_difference([0.5], [1], [0.5], [2]),
            f"correct_b[0] is 2: {NOT_AN_ANSWER}",
        ),
        (
            lambda: metrics.clopper_pearson([1, 6], [5, 5]),
            "successes[1] is 6 of n = 5: pass whole numbers, 0 to n",
        ),
        (lambda: metrics.clopper_pearson([0.5], [5]), "successes[0] is 0.5 of n = 5: pass whole numbers, 0 to n"),
        (lambda: metrics.clopper_pearson([1], [2.5]), "successes[0] is 1 of n = 2.5: pass whole numbers, 0 to n"),
        (lambda: metrics.clopper_pearson([-1], [5]), "successes[0] is -1 of n = 5: pass whole numbers, 0 to n"),
        (lambda: metrics.clopper_pearson([1], [np.nan]), "successes[0] is 1 of n = nan: pass whole numbers, 0 to n"),
        (lambda: metrics.clopper_pearson([1], [np.inf]), "successes[0] is 1 of n = inf: pass whole numbers, 0 to n"),
        (
            lambda: metrics.sweep([[0.0, 1.0]], [0], [1.0, 0.0]),
            "temperatures[1] is 0.0: pass finite numbers above 0",
        ),
        (
            lambda: metrics.sweep([[0.0, 1.0]], [0], [1.0, np.inf]),
            "temperatures[1] is inf: pass finite numbers above 0",
        ),
        (lambda: metrics.sweep([[0.0, 1.0]], [0], []), "temperatures is empty: pass at least one row"),
        (lambda: metrics.sweep([[0.0, 1.0]], [0], 1.0), "temperatures has shape (): pass shape (N,)"),
        (lambda: metrics.sweep([[0.0, 1.0]], [0], [1.0], bins=0), "bins is 0: use 1 or more"),
        (lambda: metrics.sweep([0.0, 1.0], [0], [1.0]), "scores has shape (2,): pass shape (N, C)"),
        (
            lambda: metrics.sweep([[0.0, 1.0]], [2], [1.0]),
            "labels[0] is 2: scores has columns 0 to 1; pass one of them",
        ),
        (lambda: metrics.sweep([[0.0, 1.0], [0.0, np.nan]], [0, 0], [1.0]), f"scores[1] {NO_SCORE}"),
        (lambda: metrics.sweep([[0.0, np.inf]], [0], [1.0]), f"scores[0] {NO_SCORE}"),
        (lambda: metrics.sweep([[-np.inf, -np.inf]], [0], [1.0]), f"scores[0] {NO_SCORE}"),
    ],
)
def test_bad_input_is_refused_with_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_only_numpy_and_the_standard_library_are_imported():
    for _, module in inspect.getmembers(metrics, inspect.ismodule):
        source = inspect.getsource(module)
        for word in ("scipy", "torch", "sklearn"):
            assert f"import {word}" not in source
            assert f"from {word}" not in source


# -- half precision, and values that are none ----------------------------------------------------------------------


def half_precision_rows():
    logits = 3 * torch.randn(2000, 5, generator=torch.Generator().manual_seed(0))
    rows = logits.softmax(-1)
    return {
        "float16": rows.half().numpy(),
        "bfloat16": rows.bfloat16(),
        "bfloat16 as float32": rows.bfloat16().float().numpy(),
    }


@pytest.mark.parametrize("name", half_precision_rows())
def test_a_softmax_in_half_precision_is_measured(name):
    labels = np.arange(2000) % 5
    wanted = metrics.nll(
        (3 * torch.randn(2000, 5, generator=torch.Generator().manual_seed(0))).softmax(-1).numpy(), labels
    )
    assert metrics.nll(half_precision_rows()[name], labels) == pytest.approx(wanted, rel=1e-3)


HALF_ROUNDING = [  # the second probability, with 0.5: the largest sum that is taken for round-off, and one beyond it
    (np.float16, 0.5 + 2**-10, 0.5 + 2**-10 + 2**-11),
    (lambda rows: torch.tensor(rows, dtype=torch.bfloat16), 0.5 + 2**-8, 0.5 + 2**-7),
    (np.float32, 0.5 + 2**-8, 0.5 + 2**-8 + 2**-24),
    (np.float64, 0.5 + 1e-4, 0.5 + 2**-8),
]


@pytest.mark.parametrize(("precision", "allowed", "beyond"), HALF_ROUNDING)
def test_a_sum_may_exceed_1_by_the_round_off_of_its_precision(precision, allowed, beyond):
    assert metrics.nll(precision([[0.5, allowed]]), [0]) == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="divide each row by its sum"):
        metrics.nll(precision([[0.5, 0.5], [0.5, beyond]]), [0, 0])


def test_a_sum_beyond_the_round_off_of_float32_is_refused():
    with pytest.raises(ValueError, match=r"sums to 1\.0005: divide each row by its sum"):
        metrics.nll(np.array([[0.5005, 0.5]], np.float32), [0])


@pytest.mark.parametrize(
    ("confidence", "correct", "complaint"),
    [
        (np.float32([1.0000001, 0.5]), [1, 0], r"confidence\[0\] is 1\.0000001.*: this is round-off; clip to 1"),
        ([0.5, float("nan")], [1, 0], r"confidence\[1\] is nan: leave that row out"),
        ([0.5, 70.0], [1, 0], r"confidence\[1\] is 70\.0: pass probabilities from 0 to 1, not logits or percents"),
        ([0.5, 0.6], pd.array([True, None], dtype="boolean"), r"correct\[1\] is nan: pass True or False"),
        (pd.array([0.5, None], dtype="Float64"), [1, 0], r"confidence\[1\] is nan: leave that row out"),
    ],
)
def test_values_that_are_no_probabilities_are_named_with_the_remedy(confidence, correct, complaint):
    with pytest.raises(ValueError, match=complaint):
        metrics.ece(confidence, correct)


def test_pandas_nullable_answers_are_read():
    assert metrics.ece([0.5, 0.6], pd.array([True, False], dtype="boolean")) == metrics.ece([0.5, 0.6], [True, False])
