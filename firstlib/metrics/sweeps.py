"""ECE, NLL and Brier score as functions of a coefficient, as a temperature slider shows them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import bin_index, ece, equal_width_edges, gap_sum
from firstlib.metrics.checks import check_distributions, check_scores, check_temperatures
from firstlib.metrics.scores import label_probabilities, mean_brier, mean_nll


@dataclass(frozen=True, eq=False)
class Sweep:
    """Measures at each of T coefficients, all `(T,)`: fractions, NLL in nats, Brier score summed over classes."""

    coefficients: np.ndarray
    accuracy: np.ndarray
    ece: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


def sweep(scores: ArrayLike, labels: ArrayLike, temperatures: ArrayLike, bins: int = 10) -> Sweep:
    """Measures softmax(scores / temperature) at every temperature, without allocating `(T, N, C)`.

    With logits or log-probabilities as scores, this is the classical temperature of Guo et al. 2017; with the
    top-k *probabilities* as scores, it is Eq. 4 of the paper (arXiv 2408.12168). A temperature does not change
    the order of the scores, so accuracy is computed once.

    Takes scores `(N, C)`, finite or minus infinity; labels `(N,)`, integers 0..C-1; temperatures `(T,)`
    above 0; the number of equal-width bins. Raises ValueError on anything else, on rows without a finite score,
    and on unequal lengths.

    >>> found = sweep(np.log([[0.8, 0.2]]), [0], [1.0, 0.5])
    >>> found.ece.round(4), found.brier.round(4)
    (array([0.2   , 0.0588]), array([0.08  , 0.0069]))
    """
    rows, columns = check_scores(scores, labels)
    scale = check_temperatures(temperatures)
    # Transposed, so that a sum over few classes adds long rows: several times faster.
    below_top = np.ascontiguousarray((rows - rows.max(axis=1, keepdims=True)).T)
    true_below_top = below_top[columns, np.arange(len(rows))]
    correct = rows.argmax(axis=1) == columns
    edges = equal_width_edges(bins)
    with np.errstate(over="ignore"):  # a tiny temperature turns a score into minus infinity, as intended
        measured = [_at(below_top / t, true_below_top / t, correct, edges) for t in scale]
    return Sweep(scale, np.full(len(scale), correct.mean()), *np.array(measured).T)


def sweep_probabilities(
    make: Callable[[float], ArrayLike], coefficients: Iterable[float], labels: ArrayLike, bins: int = 10
) -> Sweep:
    """Measures make(coefficient) at every coefficient, for any recalibration such as label smoothing.

    Takes a function from a coefficient to probabilities `(N, C)` in [0, 1]; T coefficients; labels `(N,)`,
    integers 0..C-1; the number of equal-width bins. Raises ValueError as `brier` does.
    """
    tried = np.array([float(coefficient) for coefficient in coefficients])
    found = np.array([_measures(make(float(c)), labels, bins) for c in tried]).reshape(len(tried), 4)
    return Sweep(tried, *found.T)


def _at(
    below_top: np.ndarray, true_below_top: np.ndarray, correct: np.ndarray, edges: np.ndarray
) -> tuple[float, float, float]:
    """ECE, NLL and Brier score at one temperature, from scores `(C, N)` minus the largest score of each question."""
    weights = np.exp(below_top)
    total = weights.sum(axis=0)
    confidence = 1 / total  # the largest score has weight exp(0)
    index = bin_index(confidence, edges)
    gap = gap_sum(index, correct - confidence) / len(correct)
    nll = np.mean(np.log(total) - true_below_top)  # finite even if a weight underflows to 0
    true = np.exp(true_below_top)
    brier = np.mean(((weights**2).sum(axis=0) * confidence - 2 * true) * confidence + 1)
    return gap, float(nll), float(brier)


def _measures(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> tuple[float, float, float, float]:
    """Accuracy, ECE, NLL and Brier score at one coefficient."""
    rows, columns = check_distributions(probabilities, labels)
    correct = rows.argmax(axis=1) == columns
    true = label_probabilities(rows, columns)
    return float(correct.mean()), ece(rows.max(axis=1), correct, bins), mean_nll(true), mean_brier(rows, true)
