"""Distances from the exact posterior, by hand."""

import numpy as np
import pytest

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.truth import against_truth


def answers(shares, answer, posterior):
    shares, posterior = np.array(shares, float), np.array(posterior, float)
    count, width = shares.shape
    ids = np.tile(np.arange(width), (count, 1))
    return Predictions(
        np.arange(count).astype(str), ids, shares, np.array(answer), ids, shares, posterior, np.zeros((count, 0))
    )


def test_distances_by_hand():
    found = against_truth(answers([[0.8, 0.2], [0.5, 0.5]], [0, 1], [[0.8, 0.2], [0.0, 1.0]]))
    assert found.kl == pytest.approx((0 + np.log(2)) / 2)
    assert found.excess_nll == pytest.approx((0 + np.log(2)) / 2)
    # The second prediction is candidate 0 (the first of equals): confidence 0.5, true probability 0
    assert found.calibration_error == pytest.approx((0 + 0.5) / 2)
    assert found.overconfidence == pytest.approx((0 + 0.5) / 2)


def test_errors_of_opposite_sign_cancel_only_in_overconfidence():
    found = against_truth(answers([[0.9, 0.1], [0.6, 0.4]], [0, 0], [[0.7, 0.3], [0.8, 0.2]]))
    assert found.calibration_error == pytest.approx(0.2)
    assert found.overconfidence == pytest.approx(0)


def test_the_truth_itself_has_no_distance():
    truth = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    found = against_truth(answers(truth, [0, 2], truth))
    assert (found.kl, found.excess_nll, found.calibration_error) == pytest.approx((0, 0, 0))


def test_an_unknown_truth_has_no_distance():
    assert against_truth(answers([[0.4, 0.6]], [0], [[np.nan, np.nan]])) is None
