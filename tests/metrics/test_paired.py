"""Paired statistics over seeds, beside SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from firstlib import metrics

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("count", [2, 5, 10, 16, 17, 40])
def test_an_interval_is_students(count):
    values = RNG.normal(1, 2, count)
    found = metrics.mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-3), pytest.approx(high, abs=2e-3))


@pytest.mark.parametrize(("count", "precision"), [*((count, 7e-4) for count in range(2, 18)), (1001, 5e-9)])
def test_quantiles_are_students(count, precision):
    values = RNG.normal(1, 2, count)
    error = stats.sem(values)
    wanted, power = stats.t.ppf(0.975, count - 1), stats.t.ppf(0.8, count - 1)
    assert (metrics.mean_interval(values).high - values.mean()) / error == pytest.approx(wanted, abs=precision)
    assert metrics.detectable_difference(values) / error == pytest.approx(wanted + power, abs=2 * precision)


def test_a_sign_flip_test_enumerates_every_pattern():
    # Of the 8 patterns of 1, 2, 4 the sums are 7, 5, 3, -1 and their opposites: 7, 5 and their opposites reach |5|
    assert metrics.sign_flip_p([1, -2 + 4, 4 - 2]) == 2 / 8
    assert metrics.sign_flip_p([-1, 2, 4]) == 4 / 8
    assert metrics.sign_flip_p([3.0] * 10) == 2 / 2**10
    # 16 seeds: the sum is 14, which one sign of 16 less, or all signs alike, reach too
    assert metrics.sign_flip_p([1.0] * 15 + [-1.0]) == (2 * 16 + 2) / 2**16


@pytest.mark.parametrize("count", [6, 12])
def test_a_sign_flip_test_agrees_with_scipy(count):
    values = RNG.normal(0.4, 1, count)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert metrics.sign_flip_p(values) == pytest.approx(theirs.pvalue)


def test_many_seeds_are_sampled():
    values = RNG.normal(0.5, 1, 30)
    theirs = stats.ttest_1samp(values, 0).pvalue
    assert metrics.sign_flip_p(values) == pytest.approx(theirs, abs=0.01)


def test_sampled_patterns_hold_the_observed_one_and_are_always_the_same():
    assert metrics.sign_flip_p([3.0] * 40) == 1 / 2**16
    assert metrics.sign_flip_p(np.arange(-12, 18)) == 8867 / 2**16


def test_equal_methods_are_never_told_apart():
    assert metrics.sign_flip_p([0.0] * 10) == 1


def test_holm_by_hand():
    found = metrics.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert metrics.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_a_detectable_difference_is_found_in_four_studies_of_five():
    spread, count = 2.0, 10
    needed = np.mean([metrics.detectable_difference(RNG.normal(0, spread, count)) for _ in range(400)])
    studies = RNG.normal(needed, spread, (4000, count))
    found = stats.ttest_1samp(studies, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.04)


def test_float32_values_are_computed_with_in_float64():
    values = RNG.normal(1, 2, 40).astype(np.float32)
    assert metrics.mean_interval(values) == metrics.mean_interval(values.astype(np.float64))


@pytest.mark.parametrize("values", [[1.0], 1.0, [], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0], [3.0, 4.0]]])
def test_too_few_values_are_refused(values):
    with pytest.raises(ValueError, match="one finite number for each of at least two seeds"):
        metrics.mean_interval(values)
