"""Selective accuracy: how often a model is right if it answers only the questions that it is most confident about."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.checks import check_confidence, check_predictions


@dataclass(frozen=True, eq=False)
class Selective:
    """Accuracy among the k most confident answers, for k = 1..N.

    Where a threshold would split answers of equal confidence, `accuracy` is the expectation over all ways to do so.

    Attributes:
        share: `(N,)`, k / N: the share of questions answered.
        accuracy: `(N,)`, the share of these k answers that are right.
        threshold: `(N,)`, the lowest confidence among them.
    """

    share: np.ndarray
    accuracy: np.ndarray
    threshold: np.ndarray

    @property
    def area(self) -> float:
        """Area under the risk-coverage curve (AURC): the mean over k of 1 - accuracy; 0 is best.

        Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206.
        """
        return float(np.mean(1 - self.accuracy))

    def confidence_for(self, accuracy: float) -> float:
        """Returns the lowest threshold at which at least this share of the answers is right.

        A model answers every question whose confidence reaches the threshold, so answers of equal confidence stay
        together. Returns nan if no threshold is high enough.

        >>> found = selective_accuracy([0.9, 0.8, 0.7, 0.6], [True, True, False, True])
        >>> found.confidence_for(0.75), found.confidence_for(0.9)
        (0.6, 0.8)

        Raises:
            ValueError: The accuracy is not a fraction.
        """
        wanted = check_confidence([accuracy], "accuracy")[0]
        last = np.append(self.threshold[1:] < self.threshold[:-1], True)  # of the answers with its confidence
        enough = last & (self.accuracy >= wanted)
        return float(self.threshold[enough].min()) if enough.any() else np.nan


def selective_accuracy(confidence: ArrayLike, correct: ArrayLike) -> Selective:
    """Returns the accuracy among the most confident answers, from one answer to all of them.

    Takes and raises what `ece` does. The order of the rows does not matter, even where confidences are equal.
    Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks", arXiv 1705.08500.

    A model that is right with 0.9 and 0.8 and wrong with 0.7 keeps every right answer if it leaves out the last:

    >>> found = selective_accuracy([0.7, 0.9, 0.8], [False, True, True])
    >>> found.accuracy.round(3).tolist(), found.threshold.tolist(), round(found.area, 3)
    ([1.0, 1.0, 0.667], [0.9, 0.8, 0.7], 0.111)

    Of two answers with equal confidence, one right, the first is right in half of all orders:

    >>> selective_accuracy([0.5, 0.5], [True, False]).accuracy.tolist()
    [0.5, 0.5]
    """
    confidences, hits = check_predictions(confidence, correct)
    levels, group, size = np.unique(-confidences, return_inverse=True, return_counts=True)
    right = np.bincount(group, weights=hits)
    earlier, right_earlier = np.cumsum(size) - size, np.cumsum(right) - right
    of = np.repeat(np.arange(len(levels)), size)  # each k's group of equal confidences
    answered = np.arange(1, len(confidences) + 1)
    expected = right_earlier[of] + (answered - earlier[of]) * right[of] / size[of]
    return Selective(answered / len(confidences), expected / answered, -levels[of])
