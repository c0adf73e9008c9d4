"""Selective accuracy: computed by hand, against brute force over all orders of ties, and by its properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlib import metrics

ANSWERS = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=6)


def columns(answers):
    return np.array([confidence for confidence, _ in answers]), np.array([right for _, right in answers])


def test_by_hand():
    # Sorted: 0.9 right, 0.8 wrong, 0.6 right, 0.3 wrong; right among the first k: 1/1, 1/2, 2/3, 2/4
    found = metrics.selective_accuracy([0.6, 0.9, 0.3, 0.8], [1, 1, 0, 0])
    np.testing.assert_array_equal(found.share, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.accuracy, [1, 1 / 2, 2 / 3, 1 / 2])
    np.testing.assert_array_equal(found.threshold, [0.9, 0.8, 0.6, 0.3])
    assert found.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_ties_by_hand():
    # 0.9 right; then three with 0.5, of which one is right: expected hits 1, 4/3, 5/3, 2
    found = metrics.selective_accuracy([0.5, 0.5, 0.9, 0.5], [0, 1, 1, 0])
    np.testing.assert_allclose(found.accuracy, [1, 4 / 6, 5 / 9, 2 / 4])
    np.testing.assert_array_equal(found.threshold, [0.9, 0.5, 0.5, 0.5])


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_ties_are_the_mean_over_all_orders(answers):
    confidence, correct = columns(answers)
    orders = [
        order for order in itertools.permutations(range(len(answers))) if (np.diff(confidence[[*order]]) <= 0).all()
    ]
    ranks = np.arange(1, len(answers) + 1)
    expected = np.mean([correct[[*order]].cumsum() / ranks for order in orders], axis=0)
    np.testing.assert_allclose(metrics.selective_accuracy(confidence, correct).accuracy, expected, atol=1e-12)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(answers, random):
    shuffled = random.sample(answers, len(answers))
    found, again = (metrics.selective_accuracy(*columns(rows)) for rows in (answers, shuffled))
    for name in ("share", "accuracy", "threshold"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert found.area == again.area


@given(ANSWERS, st.sampled_from([0.0, 0.25, 0.5, 2 / 3, 0.8, 1.0]))
def test_the_threshold_is_the_lowest_that_reaches_the_accuracy(answers, wanted):
    confidence, correct = columns(answers)
    found = metrics.selective_accuracy(confidence, correct).confidence_for(wanted)
    enough = [level for level in set(confidence.tolist()) if correct[confidence >= level].mean() >= wanted]
    assert found == pytest.approx(min(enough, default=np.nan), nan_ok=True)


@pytest.mark.parametrize(
    ("confidence", "correct", "wanted", "threshold"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], 0.75, 0.6),  # 3 of 4, reached exactly by answering everything
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], 0.76, 0.8),
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], 1.0, 0.8),
        ([0.9, 0.5, 0.5], [1, 0, 0], 0.5, 0.9),  # one of two, but equal confidences stay together: one of three
        ([0.9, 0.5, 0.5], [1, 0, 1], 0.6, 0.5),
        ([0.9, 0.8], [0, 0], 0.1, np.nan),
    ],
)
def test_a_threshold_by_hand(confidence, correct, wanted, threshold):
    found = metrics.selective_accuracy(confidence, correct).confidence_for(wanted)
    assert found == pytest.approx(threshold, nan_ok=True)


def test_all_answers_give_the_plain_accuracy():
    random = np.random.default_rng(0)
    confidence, correct = random.random(1000).round(2), random.random(1000) < 0.7
    found = metrics.selective_accuracy(confidence, correct)
    assert found.accuracy[-1] == pytest.approx(correct.mean())
    assert (found.share[-1], len(found.share)) == (1, 1000)
    assert (np.diff(found.threshold) <= 0).all()


def test_perfect_ranking_has_the_smallest_area():
    correct = np.arange(100) < 60
    by_rank = [metrics.selective_accuracy(np.linspace(first, 1 - first, 100), correct).area for first in (1, 0)]
    without = metrics.selective_accuracy(np.full(100, 0.6), correct).area
    assert by_rank[0] < without < by_rank[1]
    assert without == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("confidence", "correct", "complaint"),
    [
        ([], [], "confidence is empty"),
        ([0.5, 1.2], [1, 0], r"confidence\[1\] is 1.2"),
        ([0.5], [2], r"correct\[0\] is 2"),
        ([0.5, 0.6], [1], "row 1 has no partner"),
    ],
)
def test_wrong_input_is_refused(confidence, correct, complaint):
    with pytest.raises(ValueError, match=complaint):
        metrics.selective_accuracy(confidence, correct)


def test_an_accuracy_is_a_fraction():
    with pytest.raises(ValueError, match=r"accuracy\[0\] is 95"):
        metrics.selective_accuracy([0.5], [1]).confidence_for(95)
