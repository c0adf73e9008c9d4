"""Bootstrap intervals and noise floors: their definitions, resample by resample and bin by bin."""

from itertools import pairwise

import numpy as np
import pytest

from firstlib import metrics
from firstlib.metrics import chance

RESAMPLES = 150
SAME = {"resamples": RESAMPLES, "level": 0.8}


def answers(n, seed, below=0.85):
    """Confidences that leave the last bins empty, and answers that are right less often than they should be."""
    random = np.random.default_rng(seed)
    confidence = below * random.random(n)
    return confidence, random.random(n) < confidence**1.5


def ece_and_inflation(confidence, correct, draws, bins=10):
    """Returns the ECE, and by how much resamples exceed it: if all gaps are real, and if only significant ones are."""
    gaps = [
        (correct - confidence) * ((confidence > low) & (confidence <= high))
        for low, high in pairwise(np.arange(bins + 1) / bins)
    ]
    sums = np.array([[gap[rows].sum() for gap in gaps] for rows in draws])
    observed = np.array([gap.sum() for gap in gaps])
    centre = np.where(np.abs(observed) > 2 * sums.std(axis=0), observed, 0)
    assert 0 < (centre != 0).sum() < (observed != 0).sum(), "some gaps are significant, and some are not"
    all_real = np.abs(sums).sum(axis=1) - np.abs(observed).sum()
    some_real = np.abs(sums - observed + centre).sum(axis=1) - np.abs(centre).sum()
    n = len(confidence)
    return np.abs(observed).sum() / n, all_real / n, some_real / n


def drawn(n, seed):
    return np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))


def expected_interval(estimate, most, least):
    low, high = estimate - np.quantile(most, 0.9), estimate - np.quantile(least, 0.1)
    return pytest.approx([estimate, min(low, estimate), max(high, estimate)])


def as_list(interval):
    return [interval.estimate, interval.low, interval.high]


def test_an_interval_reflects_the_resamples_about_the_estimate():
    rows = answers(200, 0)
    estimate, least, most = ece_and_inflation(*rows, drawn(200, 5))
    assert as_list(metrics.bootstrap_ece(*rows, seed=5, **SAME)) == expected_interval(estimate, most, least)


def test_a_paired_difference_draws_the_same_questions_for_both():
    one, other = answers(200, 0), answers(200, 1)
    (a, a_least, a_most), (b, b_least, b_most) = (ece_and_inflation(*rows, drawn(200, 5)) for rows in (one, other))
    found = metrics.paired_bootstrap_difference(*one, *other, seed=5, **SAME)
    assert as_list(found) == expected_interval(a - b, a_most - b_least, a_least - b_most)


def test_models_resampled_together_get_the_intervals_that_they_get_alone():
    models = [answers(200, seed) for seed in range(3)]
    found = metrics.resampled_ece(models, seed=5, resamples=RESAMPLES)
    for one, rows in zip(found, models, strict=True):
        assert one.interval(SAME["level"]) == metrics.bootstrap_ece(*rows, seed=5, **SAME)
        expected = metrics.paired_bootstrap_difference(*rows, *models[0], seed=5, **SAME)
        assert one.minus(found[0], SAME["level"]) == expected
    found = metrics.resampled_ece(models)  # by default, too
    assert found[1].interval() == metrics.bootstrap_ece(*models[1])
    assert found[1].minus(found[0]) == metrics.paired_bootstrap_difference(*models[1], *models[0])


def test_models_resampled_together_are_refused_if_they_answer_other_questions():
    with pytest.raises(ValueError, match=r"^models\[1\] has 5 rows, models\[0\] 4: pass the same questions$"):
        metrics.resampled_ece([answers(4, 0), answers(5, 0)])


def test_an_unpaired_difference_draws_each_models_own_questions():
    one, other = answers(200, 0), answers(150, 1)
    a, a_least, a_most = ece_and_inflation(*one, drawn(200, 5))
    b, b_least, b_most = ece_and_inflation(*other, drawn(150, 6))
    found = metrics.bootstrap_difference(*one, *other, seed=5, **SAME)
    assert as_list(found) == expected_interval(a - b, a_most - b_least, a_least - b_most)


def test_an_interval_contains_the_estimate_and_no_negative_error():
    # every bin's gap is 0: each resample's ECE is larger, so that both reflected quantiles lie below the estimate
    found = metrics.bootstrap_ece([0.5] * 40, [True, False] * 20, level=0.1)
    assert as_list(found) == [0, 0, 0]
    other = metrics.paired_bootstrap_difference([1.0] * 40, [True] * 40, [0.5] * 40, [True, False] * 20, level=0.1)
    assert other.low <= other.estimate == 0 < other.high


def test_a_noise_floor_draws_answers_from_the_confidences_bin_by_bin():
    confidence = 0.15 + 0.7 * np.random.default_rng(0).random(200)  # the first bin and the last are empty
    by_bin = confidence[np.argsort(np.ceil(10 * confidence), kind="stable")]
    random = np.random.default_rng(5)
    expected = [metrics.ece(by_bin, random.random(200) < by_bin) for _ in range(RESAMPLES)]
    np.testing.assert_allclose(metrics.noise_draws(confidence, draws=RESAMPLES, seed=5), expected, atol=1e-15)
    floor = metrics.noise_floor(confidence, draws=RESAMPLES, seed=5)
    assert floor.mean == pytest.approx(np.mean(expected))
    assert floor.percentile_95 == pytest.approx(np.quantile(expected, 0.95))


def test_the_answers_drawn_at_a_time_change_nothing(monkeypatch):
    rows = answers(200, 0)

    def measured():
        return metrics.bootstrap_ece(*rows, **SAME), metrics.noise_draws(rows[0], draws=RESAMPLES).tolist()

    monkeypatch.setattr("firstlib.metrics.chance.REMEMBERED", 0)
    together = measured()
    for size in (1, 700):
        monkeypatch.setattr("firstlib.metrics.chance.ROWS_AT_ONCE", size)
        assert measured() == together


def test_the_same_random_numbers_are_drawn_once_unless_they_are_many(monkeypatch):
    drawn, draw = [], chance._drawn
    monkeypatch.setattr(chance, "_drawn", lambda *rows: drawn.append(rows) or draw(*rows))
    monkeypatch.setattr(chance, "REMEMBERED", 60)
    chance._remembered.cache_clear()
    confidence = answers(12, 0)[0]
    assert metrics.noise_draws(confidence, draws=5).tolist() == metrics.noise_draws(confidence, draws=5).tolist()
    assert drawn == [(12, 5, 0)]
    many = metrics.noise_draws(confidence, draws=6)
    assert many.tolist() == metrics.noise_draws(confidence, draws=6).tolist()
    assert drawn == [(12, 5, 0), (12, 6, 0), (12, 6, 0)]
    np.testing.assert_array_equal(many[:5], metrics.noise_draws(confidence, draws=5))
    assert metrics.noise_draws(confidence, draws=6, seed=1).tolist() != many.tolist()
