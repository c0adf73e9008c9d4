"""ECE of one set of predictions under the binning conventions of other libraries."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import bin_index, equal_width_edges, gap_sum
from firstlib.metrics.checks import check_predictions


def ece_by_convention(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> dict[str, float]:
    """Computes ECE with each library's binning convention; returns fractions by library name.

    Takes and raises what `ece` does. The conventions agree unless a confidence lies on an edge or within a
    rounding error of it; then they can differ by percentage points. They are those of the released packages, in
    float64; gpleiss is the temperature_scaling repository, whose own edges are rounded to float32.

    (0.9, 1] holds all four predictions, with mean confidence 0.975 and accuracy 0.75. If 1.0 has a bin of its
    own, the gaps of 0.5 and -0.05 no longer cancel:

    >>> found = ece_by_convention([1.0, 1.0, 0.95, 0.95], [1, 0, 1, 1])
    >>> round(found["firstlib"], 6), round(found["torchmetrics"], 6)
    (0.225, 0.275)
    """
    confidences, hits = check_predictions(confidence, correct)
    return {name: _ece_under(rule, confidences, hits, bins) for name, rule in RULES.items()}


def _ece_under(
    rule: Callable[[np.ndarray, int], np.ndarray], confidence: np.ndarray, correct: np.ndarray, bins: int
) -> float:
    index = rule(confidence, bins)
    binned = index >= 0  # a dropped row has no bin, but still counts among the N rows
    return gap_sum(index[binned], (correct - confidence)[binned]) / len(confidence)


def _right_closed(confidence: np.ndarray, bins: int) -> np.ndarray:
    return bin_index(confidence, equal_width_edges(bins))


def _right_closed_linspace(confidence: np.ndarray, bins: int) -> np.ndarray:
    return bin_index(confidence, np.linspace(0, 1, bins + 1))


def _right_closed_without_zero(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.where(confidence > 0, _right_closed(confidence, bins), -1)


def _left_closed(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum(np.searchsorted(np.linspace(0, 1, bins + 1), confidence, side="right"), bins)


def _left_closed_one_apart(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.searchsorted(_torch_linspace(bins), confidence, side="right")  # 1.0 has a bin of its own


def _truncated_quotient(confidence: np.ndarray, bins: int) -> np.ndarray:
    return (confidence / (1.0 / bins)).astype(np.intp)  # 0.3 / 0.1 is just below 3, so 0.3 falls into bin 2


def _torch_linspace(bins: int) -> np.ndarray:
    # torch counts up from 0 in the lower half and down from 1 in the upper half, and rounds only once there.
    step = 1.0 / bins
    lower = [number * step for number in range((bins + 1) // 2)]
    upper = [float(1 - (bins - number) * Fraction(step)) for number in range(len(lower), bins + 1)]
    return np.array(lower + upper)


# Each package's rule from confidence to the number of its bin, from 0 or from 1; -1 drops the row.
RULES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "firstlib": _right_closed,
    "uncertainty-calibration": _right_closed,
    "scikit-learn": _right_closed_linspace,
    "netcal": _left_closed,
    "torchmetrics": _left_closed_one_apart,
    "relplot": _truncated_quotient,
    "gpleiss": _right_closed_without_zero,
}
