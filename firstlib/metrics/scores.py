"""Scores that need no bins: accuracy, Trust, Brier and negative log-likelihood."""

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.checks import check_correct, check_distributions, check_predictions


def confidence_and_correct(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Read off the prediction: the most probable candidate's probability, and whether it is the right one.

    Takes probabilities `(N, C)` in [0, 1] and labels `(N,)`, integers 0..C-1; returns confidence `(N,)` and
    correct `(N,)`, bool. Of equally probable candidates the first is the prediction. Raises ValueError on
    values outside [0, 1], rows that sum to more than 1, labels that are no column, or unequal lengths.

    >>> confidence, correct = confidence_and_correct([[0.7, 0.3], [0.4, 0.6]], [0, 0])
    >>> confidence.tolist(), correct.tolist()
    ([0.7, 0.6], [True, False])
    """
    rows, columns = check_distributions(probabilities, labels)
    return rows.max(axis=1), rows.argmax(axis=1) == columns


def accuracy(correct: ArrayLike) -> float:
    """Share of `(N,)` answers that are right; a fraction. Raises ValueError if empty, or not bool or 0/1."""
    return float(check_correct(correct).mean())


def trust(accuracy: float, ece: float) -> float:
    """Accuracy minus ECE, the paper's one figure for both; pass both as fractions or both as percents.

    >>> trust(75.0, 10.0)
    65.0
    """
    return accuracy - ece


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of the distribution from the truth, summed over classes: 0 is best, 2 worst.

    Takes and raises what `confidence_and_correct` does. Not halved: for two classes it is twice the usual
    binary score. Brier 1950.

    (0.7 - 1)^2 + 0.3^2 = 0.18:

    >>> round(brier([[0.7, 0.3]], [0]), 12)
    0.18
    """
    rows, columns = check_distributions(probabilities, labels)
    return distance(rows, true_column(rows, columns))


def brier_top(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean squared distance of confidence from correct: 0 best, 1 worst. Takes and raises what `ece` does."""
    sure, right = check_predictions(confidence, correct)
    return float(np.mean((sure - right) ** 2))


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative natural logarithm of the right answer's probability; 0 is best.

    Takes and raises what `confidence_and_correct` does. A right answer of probability exactly 0 makes it
    infinite, for it was ruled out; nothing is clipped to hide that.

    >>> nll([[0.5, 0.5], [1.0, 0.0]], [0, 1])
    inf
    """
    return surprise(true_column(*check_distributions(probabilities, labels)))


def true_column(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the right answers' probabilities, `(N,)`."""
    return rows[np.arange(len(rows)), columns]


def distance(rows: np.ndarray, true: np.ndarray) -> float:
    """Return the Brier score of checked input."""
    return float(np.mean((rows**2).sum(axis=1) - 2 * true + 1))


def surprise(true: np.ndarray) -> float:
    """Return the negative log-likelihood of checked input."""
    with np.errstate(divide="ignore"):
        return 0.0 - float(np.log(true).mean())  # not -0.0 for a perfect model
