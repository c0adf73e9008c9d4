"""Binned calibration: the reliability diagram and the measures derived from it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.checks import check_at_least_one, check_distributions, check_predictions

# Up to this many edges, one comparison per edge beats one binary search per row; a bin's index then fits a byte.
FEW_EDGES = 64
# Blocks of this many rows stay in the processor's cache, which halves the time for a million rows.
ROWS_AT_ONCE = 1 << 14


class Binning(StrEnum):
    """How bin edges are placed: at equal distances, or such that bins hold equally many predictions."""

    EQUAL_WIDTH = "equal-width"
    EQUAL_MASS = "equal-mass"


@dataclass(frozen=True, eq=False)
class Reliability:
    """The numbers of a reliability diagram with B bins.

    `edges` is `(B + 1,)`; `count` is `(B,)`, integers; `confidence` and `accuracy` are `(B,)` means over the
    rows of each bin, nan for an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def over_confidence(self) -> np.ndarray:
        """Confidence minus accuracy where positive, else 0, `(B,)`; nan for empty bins."""
        return np.maximum(self.confidence - self.accuracy, 0.0)

    @property
    def under_confidence(self) -> np.ndarray:
        """Accuracy minus confidence where positive, else 0, `(B,)`; nan for empty bins."""
        return np.maximum(self.accuracy - self.confidence, 0.0)

    @property
    def weight(self) -> np.ndarray:
        """Each bin's share of the rows, `(B,)`; sums to 1."""
        return self.count / self.count.sum()

    @property
    def ece(self) -> float:
        """Mean gap between confidence and accuracy, weighted by the rows of each bin; a fraction."""
        return float(np.nansum(self.weight * np.abs(self.accuracy - self.confidence)))

    @property
    def mce(self) -> float:
        """Largest gap between confidence and accuracy over the bins that are not empty; a fraction."""
        return float(np.nanmax(np.abs(self.accuracy - self.confidence)))


@dataclass(frozen=True)
class BrierSplit:
    """A top-label Brier score split into three terms that sum to it: see `calibration_refinement`."""

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
    """Expected calibration error (ECE): the mean gap between confidence and accuracy over bins.

    Takes confidence `(N,)` in [0, 1] and correct `(N,)`, bool or 0/1. Returns a fraction: the sum over bins
    of rows in bin / N * |accuracy - mean confidence|. Equal-width bins have the edges k / bins and are (low,
    high]; the first also holds 0.0. Empty bins have weight 0. Raises ValueError on input that is empty,
    outside [0, 1], or of unequal lengths. This is the paper's measure (arXiv 2408.12168, after Guo et al. 2017),
    with its 10 bins.

    The bin (0.5, 0.6] holds one right answer, (0.8, 0.9] one right and one wrong: (1 * 0.4 + 2 * 0.4) / 3.

    >>> round(ece([0.6, 0.9, 0.9], [True, True, False]), 12)
    0.4
    """
    return reliability(confidence, correct, bins, binning).ece


def mce(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> float:
    """Maximum calibration error (MCE): the largest gap over the bins that are not empty; a fraction.

    Takes and raises what `ece` does. A bin with one row counts as much as a bin with a thousand (Guo et al. 2017).
    """
    return reliability(confidence, correct, bins, binning).mce


def reliability(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> Reliability:
    """Computes count, mean confidence and accuracy per bin: the numbers of a reliability diagram.

    Takes and raises what `ece` does. Equal-mass edges lie halfway between the sorted confidences at which
    `np.array_split` would split. Equal confidences always share a bin, so the order of the rows does not matter;
    edges that fall within a tie coincide, and the bins between them stay empty.

    >>> reliability([0.2, 0.4, 0.4, 0.4], [0, 0, 1, 1], bins=2, binning="equal-mass").count.tolist()
    [4, 0]
    """
    confidences, hits = check_predictions(confidence, correct)
    return bin_statistics(confidences, hits, bin_edges(confidences, bins, Binning(binning)))


def debiased_ece(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_MASS
) -> float:
    """Root-mean-square calibration error, corrected for the bias of finite bins; a fraction.

    Takes and raises what `ece` does. Sampling inflates a bin's squared gap by accuracy * (1 - accuracy) /
    (rows - 1) in expectation, which is subtracted. A bin of one row is ignored, and a negative mean counts
    as zero. Because squares are averaged, this is not `ece` minus a bias, and can exceed it. Kumar, Liang and
    Ma 2019, "Verified Uncertainty Calibration".
    """
    diagram = reliability(confidence, correct, bins, binning)
    several = diagram.count > 1
    accuracy, count = diagram.accuracy[several], diagram.count[several]
    square = (accuracy - diagram.confidence[several]) ** 2 - accuracy * (1 - accuracy) / (count - 1)
    return float(np.sqrt(max(diagram.weight[several] @ square, 0.0)))


def classwise_ece(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> float:
    """Mean over classes of the ECE of "it is this class": covers every probability, not only the largest.

    Takes probabilities `(N, C)` in [0, 1] and labels `(N,)`, integers 0..C-1; returns a fraction. Raises
    ValueError as `ece` does, and if a row sums to more than 1. Kull et al. 2019, "Beyond temperature scaling".
    """
    rows, columns = check_distributions(probabilities, labels)
    return float(np.mean([ece(rows[:, k], columns == k, bins, binning) for k in range(rows.shape[1])]))


def calibration_refinement(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 10, binning: Binning | str = Binning.EQUAL_WIDTH
) -> BrierSplit:
    """Splits the top-label Brier score into calibration and refinement.

    Takes and raises what `ece` does; returns three terms that sum to the score, the mean of (confidence - correct)^2.
    `calibration` is the bins' mean squared gap, which recalibration can remove. `refinement` is the bins' mean
    accuracy * (1 - accuracy), which recalibration cannot remove: it falls only if a model separates right answers from
    wrong ones better.
    `remainder` comes from the variation within bins; it has either sign, and is 0 if all confidences of a bin
    are equal. DeGroot and Fienberg 1983.
    """
    confidences, hits = check_predictions(confidence, correct)
    diagram = bin_statistics(confidences, hits, bin_edges(confidences, bins, Binning(binning)))
    calibration = float(np.nansum(diagram.weight * (diagram.accuracy - diagram.confidence) ** 2))
    refinement = float(np.nansum(diagram.weight * diagram.accuracy * (1 - diagram.accuracy)))
    total = float(np.mean((confidences - hits) ** 2))
    return BrierSplit(calibration, refinement, total - calibration - refinement)


def bin_edges(confidence: np.ndarray, bins: int, binning: Binning) -> np.ndarray:
    """Returns the `(bins + 1,)` edges, from 0 to 1, in non-decreasing order."""
    even = equal_width_edges(bins)
    return _equal_mass_edges(confidence, bins) if binning is Binning.EQUAL_MASS else even


def equal_width_edges(bins: int) -> np.ndarray:
    """Returns the `(bins + 1,)` edges k / bins; raises ValueError if there is no bin."""
    check_at_least_one("bins", bins)
    # Not np.linspace: with ten bins, three of its edges differ from the floats 0.3, 0.6 and 0.7.
    return np.arange(bins + 1) / bins


def bin_index(confidence: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns each confidence's bin, 0..bins-1, in the same shape: the number of inner edges below it.

    Comparing with the edges themselves is exact; ceil(confidence * bins) is wrong one bit away from an edge.
    """
    inner = edges[1:-1]
    if len(inner) > FEW_EDGES:
        return np.searchsorted(inner, confidence)
    index = np.zeros(confidence.shape, dtype=np.uint8)
    for edge in inner:
        index += confidence > edge
    return index.astype(np.intp)


def bin_statistics(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> Reliability:
    """Returns count and means per bin of checked input."""
    bins = len(edges) - 1
    total = np.zeros(bins)
    counts = np.zeros(2 * bins, dtype=np.intp)
    for start in range(0, len(confidence), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        index = bin_index(confidence[rows], edges)
        total += np.bincount(index, confidence[rows], bins)
        index += bins * correct[rows]  # right answers are counted in a second set of bins: one bincount for both
        counts += np.bincount(index, minlength=2 * bins)
    wrong, right = counts.reshape(2, bins)
    count = wrong + right
    filled = np.where(count > 0, count, np.nan)
    return Reliability(edges, count, total / filled, right / filled)


def gap_sum(index: np.ndarray, residual: np.ndarray) -> float:
    """Returns the sum over bins of |sum of (correct - confidence)|, which is N times the ECE."""
    return float(np.abs(np.bincount(index, residual)).sum())


def _equal_mass_edges(confidence: np.ndarray, bins: int) -> np.ndarray:
    ordered = np.sort(confidence)
    rows = len(ordered)
    size, longer = divmod(rows, bins)  # like np.array_split: the first `longer` bins get one more row
    number = np.arange(1, bins)
    cuts = number * size + np.minimum(number, longer)
    cuts = cuts[cuts < rows]
    edges = np.ones(bins + 1)  # with more bins than rows the last bins are (1, 1], empty
    edges[0] = 0.0
    edges[1 : len(cuts) + 1] = (ordered[cuts - 1] + ordered[cuts]) / 2
    return edges
