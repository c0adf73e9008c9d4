"""Scores that need no bins: accuracy, Trust, Brier and negative log-likelihood."""

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.checks import check_correct, check_distributions


def accuracy(correct: ArrayLike) -> float:
    """Share of `(N,)` answers that are right; a fraction. Raises ValueError if empty, or neither bool nor 0/1."""
    return float(check_correct(correct).mean())


def trust(accuracy: float, ece: float) -> float:
    """Trust: accuracy minus ECE (arXiv 2408.12168); pass both as fractions or both as percents.

    >>> trust(75.0, 10.0)
    65.0
    """
    return accuracy - ece


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Brier score: mean over rows of the squared error summed over classes; 0 is best, 2 is worst.

    Takes probabilities `(N, C)` in [0, 1] and labels `(N,)`, integers 0..C-1. Raises ValueError on values outside
    [0, 1], rows that sum to more than 1, labels outside 0..C-1, or unequal lengths. The score is not halved:
    for two classes it is twice the usual binary score. Brier 1950.

    (0.7 - 1)^2 + 0.3^2 = 0.18:

    >>> round(brier([[0.7, 0.3]], [0]), 12)
    0.18
    """
    rows, columns = check_distributions(probabilities, labels)
    return mean_brier(rows, label_probabilities(rows, columns))


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the right answer, in nats; 0 is best.

    Takes and raises what `brier` does. It is infinite if a right answer has probability exactly 0: nothing is
    clipped.

    >>> nll([[0.5, 0.5], [1.0, 0.0]], [0, 1])
    inf
    """
    return mean_nll(label_probabilities(*check_distributions(probabilities, labels)))


def label_probabilities(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns the right answers' probabilities, `(N,)`."""
    return rows[np.arange(len(rows)), columns]


def mean_brier(rows: np.ndarray, true: np.ndarray) -> float:
    """Returns the Brier score of checked `(N, C)` rows and their `(N,)` label probabilities."""
    return float(np.mean((rows**2).sum(axis=1) - 2 * true + 1))


def mean_nll(true: np.ndarray) -> float:
    """Returns the mean negative log-likelihood, in nats, of checked `(N,)` label probabilities."""
    with np.errstate(divide="ignore"):
        return 0.0 - float(np.log(true).mean())  # not -0.0 for a perfect model
