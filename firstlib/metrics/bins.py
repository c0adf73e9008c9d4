"""Binned calibration: the reliability diagram's numbers, and every measure that is read off them."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.checks import check_at_least_one, check_distributions, check_predictions

# Up to here one comparison an edge beats a binary search a row; a bin's number then fits a byte too.
FEW_EDGES = 64
# Parts of this many rows stay in the processor's cache, which halves the time for a million.
ROWS_AT_ONCE = 1 << 14


class Binning(StrEnum):
    """Where the edges lie: at equal distances, or so that bins hold equally many predictions."""

    EQUAL_WIDTH = "equal-width"
    EQUAL_MASS = "equal-mass"


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability diagram shows, bin by bin.

    `edges` is `(B + 1,)`, `count` `(B,)` integers; `confidence` and `accuracy`, `(B,)`, are means over a
    bin's rows, nan where it is empty.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def over_confidence(self) -> np.ndarray:
        """How far confidence lies above accuracy; 0 where it does not, nan in empty bins."""
        return np.maximum(self.confidence - self.accuracy, 0.0)

    @property
    def under_confidence(self) -> np.ndarray:
        """How far confidence lies below accuracy; 0 where it does not, nan in empty bins."""
        return np.maximum(self.accuracy - self.confidence, 0.0)

    @property
    def weight(self) -> np.ndarray:
        """Each bin's share of the rows; they sum to 1."""
        return self.count / self.count.sum()

    @property
    def ece(self) -> float:
        """Mean gap between confidence and accuracy, bins weighed by their rows; a fraction."""
        return float(np.nansum(self.weight * np.abs(self.accuracy - self.confidence)))

    @property
    def mce(self) -> float:
        """Largest gap between confidence and accuracy of any bin that is not empty; a fraction."""
        return float(np.nanmax(np.abs(self.accuracy - self.confidence)))


@dataclass(frozen=True)
class BrierSplit:
    """A top-label Brier score in three parts that sum to it: see `calibration_refinement`."""

    calibration: float
    refinement: float
    remainder: float

    @property
    def total(self) -> float:
        """The Brier score that was split."""
        return self.calibration + self.refinement + self.remainder


def ece(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> float:
    """ECE, the expected calibration error: how far confidence is from accuracy, on average over bins.

    Takes confidence `(N,)` in [0, 1] and correct `(N,)`, bool or 0/1. Returns a fraction: the sum over bins
    of rows in bin / N * |accuracy - mean confidence|. Equal-width bins have the edges k / bins, are (low,
    high], and 0.0 goes into the first; empty bins weigh nothing. Raises ValueError on input that is empty,
    outside [0, 1], or of unequal lengths. The paper's measure, with its 10 bins (Guo et al. 2017).

    0.6 is alone in (0.5, 0.6] and right; 0.9 is twice in (0.8, 0.9], once right: (1 * 0.4 + 2 * 0.4) / 3.

    >>> round(ece([0.6, 0.9, 0.9], [True, True, False]), 12)
    0.4
    """
    return reliability(confidence, correct, bins, binning).ece


def mce(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> float:
    """MCE, the maximum calibration error: the largest gap of any bin that is not empty; a fraction.

    Takes and raises what `ece` does. A bin of one row counts as much as one of a thousand (Guo et al. 2017).
    """
    return reliability(confidence, correct, bins, binning).mce


def reliability(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> Reliability:
    """Count, mean confidence and accuracy per bin: a reliability diagram's numbers.

    Takes and raises what `ece` does. Equal-mass edges lie halfway between the sorted confidences that
    `np.array_split` would part. Equal confidences always share a bin, so the order of the rows changes
    nothing; edges that meet in a tie repeat, and the bins between them stay empty.

    >>> reliability([0.2, 0.4, 0.4, 0.4], [0, 0, 1, 1], bins=2, binning="equal-mass").count.tolist()
    [4, 0]
    """
    sure, right = check_predictions(confidence, correct)
    edges = bin_edges(sure, bins, Binning(binning))
    return bin_statistics(sure, right, edges)


def debiased_ece(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_MASS
) -> float:
    """Root-mean-square calibration error with the part that chance alone adds taken off; a fraction.

    Takes and raises what `ece` does. A bin's squared gap is expected to be too large by accuracy * (1 -
    accuracy) / (rows - 1), which is subtracted. A bin of one row adds nothing, and a mean below zero counts
    as zero. Squares are averaged here, so this is not `ece` less a bias, and can be larger than it. Kumar,
    Liang and Ma 2019, "Verified Uncertainty Calibration".
    """
    found = reliability(confidence, correct, bins, binning)
    known = found.count > 1
    accuracy, count = found.accuracy[known], found.count[known]
    square = (accuracy - found.confidence[known]) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    return float(np.sqrt(max(found.weight[known] @ square, 0.0)))


def classwise_ece(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> float:
    """Mean over classes of the ECE of "it is this class": judges every probability, not the largest only.

    Takes probabilities `(N, C)` in [0, 1] and labels `(N,)`, integers 0..C-1; returns a fraction. Raises
    ValueError as `ece`, and for rows that sum to more than 1. Kull et al. 2019, "Beyond temperature scaling".
    """
    rows, columns = check_distributions(probabilities, labels)
    return float(np.mean([ece(rows[:, k], columns == k, bins, binning) for k in range(rows.shape[1])]))


def calibration_refinement(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> BrierSplit:
    """Split the top-label Brier score into honesty and knowledge.

    Takes and raises what `ece` does; returns three parts that sum to `brier_top`. `calibration` is the
    bins' mean squared gap, which recalibration can remove. `refinement` is their mean accuracy * (1 -
    accuracy), which it cannot: it falls only where a model tells better which answers are right.
    `remainder` is what the bins hide, of either sign, and 0 if each bin's confidences are equal. DeGroot
    and Fienberg 1983.
    """
    sure, right = check_predictions(confidence, correct)
    found = bin_statistics(sure, right, bin_edges(sure, bins, Binning(binning)))
    calibration = float(np.nansum(found.weight * (found.accuracy - found.confidence) ** 2))
    refinement = float(np.nansum(found.weight * found.accuracy * (1 - found.accuracy)))
    total = float(np.mean((sure - right) ** 2))
    return BrierSplit(calibration, refinement, total - calibration - refinement)


def bin_edges(confidence: np.ndarray, bins: int, binning: Binning = Binning.EQUAL_WIDTH) -> np.ndarray:
    """Return the (bins + 1,) edges, from 0 to 1, never falling."""
    check_at_least_one("bins", bins)
    if binning is Binning.EQUAL_MASS:
        return _equal_mass_edges(confidence, bins)
    # Not np.linspace: its 3rd, 6th and 7th of ten edges miss the floats 0.3, 0.6 and 0.7.
    return np.arange(bins + 1) / bins


def bin_index(confidence: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return each confidence's bin, 0..bins-1, same shape: how many inner edges lie below it.

    Comparing with the edges themselves is exact; ceil(confidence * bins) is not, one bit beside an edge.
    """
    inner = edges[1:-1]
    if len(inner) > FEW_EDGES:
        return np.searchsorted(inner, confidence, side="left")
    index = np.zeros(confidence.shape, dtype=np.uint8)
    for edge in inner:
        index += confidence > edge
    return index.astype(np.intp)


def bin_statistics(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> Reliability:
    """Return count and means per bin of checked input."""
    bins = len(edges) - 1
    total = np.zeros(bins)
    counts = np.zeros(2 * bins, dtype=np.intp)
    for start in range(0, len(confidence), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        index = bin_index(confidence[rows], edges)
        total += np.bincount(index, confidence[rows], bins)
        index += bins * correct[rows]  # right answers' bins come after the wrong ones': one count for both
        counts += np.bincount(index, minlength=2 * bins)
    wrong, right = counts.reshape(2, bins)
    count = wrong + right
    filled = np.where(count > 0, count, np.nan)
    return Reliability(edges, count, total / filled, right / filled)


def gap_sum(index: np.ndarray, residual: np.ndarray, bins: int) -> float:
    """Return the sum over bins of |sum of correct - confidence|: N times the ECE, without the bins' means."""
    return float(np.abs(np.bincount(index, weights=residual, minlength=bins)).sum())


def _equal_mass_edges(confidence: np.ndarray, bins: int) -> np.ndarray:
    ordered = np.sort(confidence)
    rows = len(ordered)
    size, longer = divmod(rows, bins)  # as np.array_split: the first `longer` bins take one row more
    number = np.arange(1, bins)
    cuts = number * size + np.minimum(number, longer)
    cuts = cuts[cuts < rows]
    edges = np.ones(bins + 1)  # with more bins than rows the last bins are (1, 1], empty
    edges[0] = 0.0
    edges[1 : len(cuts) + 1] = (ordered[cuts - 1] + ordered[cuts]) / 2
    return edges
