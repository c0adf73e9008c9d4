"""Resampled residual sums of many rows: their means and covariances follow from the multinomial distribution."""

import numpy as np
import pytest

from firstlib import metrics
from firstlib.metrics.moments import MANY_ROWS, bootstrap_sums, calibrated_sums

BINS = 3


@pytest.fixture(scope="module")
def models():
    """Bins and residuals of two models on 600 questions; the models are often wrong on the same ones."""
    random = np.random.default_rng(5)
    ability = random.random(600)
    indices = [random.integers(0, BINS, 600) for _ in range(2)]
    residuals = [shift + 0.4 * (random.random(600) < ability) for shift in (-0.3, 0.1)]
    return indices, residuals


def side_by_side(indices, residuals):
    """Returns each question's residual in the bins of both models, `(N, 2 * BINS)`."""
    return np.hstack([np.eye(BINS)[i] * r[:, None] for i, r in zip(indices, residuals, strict=True)])


def test_resampled_sums_have_the_bootstraps_mean_and_covariance(models):
    rows = side_by_side(*models)
    sums = np.hstack(bootstrap_sums(*models, BINS, resamples=40_000, seed=1))
    # A resample is a sum of N independent draws of one row.
    spread = np.cov(rows, rowvar=False, bias=True) * len(rows)
    error = np.sqrt(np.diag(spread))
    np.testing.assert_allclose((sums.mean(axis=0) - rows.sum(axis=0)) / error, 0, atol=0.025)
    np.testing.assert_allclose((np.cov(sums, rowvar=False) - spread) / np.outer(error, error), 0, atol=0.025)


def test_one_model_is_resampled_like_the_first_of_two(models):
    (index, _), (residual, _) = models
    (sums,) = bootstrap_sums([index], [residual], BINS, resamples=40_000, seed=1)
    rows = side_by_side([index], [residual])
    assert sums.shape == (40_000, BINS)
    np.testing.assert_allclose(sums.mean(axis=0), rows.sum(axis=0), atol=0.2)
    np.testing.assert_allclose(sums.var(axis=0), rows.var(axis=0) * len(rows), rtol=0.03)


def test_a_bin_without_rows_sums_to_0():
    (sums,) = bootstrap_sums([np.array([2, 2, 0])], [np.array([0.5, 0.5, -0.1])], 4, resamples=7, seed=0)
    assert sums.shape == (7, 4)
    assert (sums[:, [1, 3]] == 0).all()
    # rows that are alike leave only the number drawn from each bin to chance
    np.testing.assert_allclose(sums[:, 2] / 0.5 - sums[:, 0] / 0.1, 3)


def test_a_bins_sum_is_its_mean_plus_normal_noise():
    # two rows, 0 and 1: the sum of two draws has mean 1 and standard deviation sqrt(2) / 2
    (sums,) = bootstrap_sums([np.zeros(2, int)], [np.array([0.0, 1.0])], 1, resamples=3, seed=4)
    random = np.random.default_rng(4)
    random.multinomial(2, [1.0], 3)
    np.testing.assert_allclose(sums[:, 0], 1 + random.standard_normal(3) / np.sqrt(2))


def test_calibrated_sums_have_the_variance_of_answers_right_by_chance():
    confidence, index = np.array([0.5, 0.9, 0.2, 1.0]), np.array([0, 0, 2, 3])
    sums = calibrated_sums(confidence, index, draws=40_000, seed=1)
    np.testing.assert_allclose(sums.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(sums, rowvar=False), np.diag([0.25 + 0.09, 0, 0.16, 0]), atol=0.01)


def test_a_seed_repeats_the_sums(models):
    def both(seed):
        half = np.full(9, 0.5), np.arange(9)
        return np.hstack(bootstrap_sums(*models, BINS, 5, seed)), calibrated_sums(*half, 5, seed)

    for one, again, other in zip(both(0), both(0), both(1), strict=True):
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()


def test_many_rows_are_resampled_by_their_moments_as_if_one_by_one(monkeypatch):
    assert MANY_ROWS >= 10_000, "the tables of the runs keep their values"
    random = np.random.default_rng(0)
    confidence = random.random(4000)
    a, b = ((confidence, random.random(4000) < confidence**power) for power in (2, 1.5))

    def measured():
        floor, alone = metrics.noise_floor(confidence), metrics.bootstrap_ece(*a)
        pair = metrics.paired_bootstrap_difference(*a, *b)
        return [floor.mean, floor.percentile_95, alone.low, alone.high, pair.low, pair.high]

    one_by_one = measured()
    monkeypatch.setattr("firstlib.metrics.chance.MANY_ROWS", 3999)
    assert measured() == pytest.approx(one_by_one, abs=3e-3)
    assert all(one != other for one, other in zip(measured(), one_by_one, strict=True))
    first, again, other = (metrics.noise_draws(confidence, seed=seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
    monkeypatch.setattr("firstlib.metrics.chance.MANY_ROWS", 4000)
    assert measured() == one_by_one
