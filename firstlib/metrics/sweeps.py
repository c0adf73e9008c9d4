"""ECE, NLL and Brier score along a coefficient: what a temperature slider shows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import bin_edges, bin_index, ece, gap_sum
from firstlib.metrics.checks import check_at_least_one, check_distributions, check_scores, check_temperatures
from firstlib.metrics.scores import distance, surprise, true_column


@dataclass(frozen=True, eq=False)
class Sweep:
    """Measures at each of T coefficients, all `(T,)`; fractions, Brier summed over classes, NLL in nats."""

    coefficients: np.ndarray
    accuracy: np.ndarray
    ece: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


def sweep(scores: ArrayLike, labels: ArrayLike, temperatures: ArrayLike, bins: int = 10) -> Sweep:
    """Measure softmax(scores / temperature) at every temperature, without building `(T, N, C)`.

    With log-probabilities (or logits) as scores this is the classical temperature of Guo et al. 2017; with
    the top-k *probabilities* as scores it is the paper's Eq. 4. No temperature changes the order of the
    scores, so which answers are right is found once.

    Takes scores `(N, C)`, finite or minus infinity; labels `(N,)`, integers 0..C-1; temperatures `(T,)`
    above 0; the number of equal-width bins. Raises ValueError on anything else, rows of minus infinity,
    unequal lengths.

    >>> found = sweep(np.log([[0.8, 0.2]]), [0], [1.0, 0.5])
    >>> found.ece.round(4), found.brier.round(4)
    (array([0.2   , 0.0588]), array([0.08  , 0.0069]))
    """
    check_at_least_one("bins", bins)
    rows, columns = check_scores(scores, labels)
    scale = check_temperatures(temperatures)
    # Class by class in memory: a sum over few classes then adds long rows, which is several times faster.
    below_top = np.ascontiguousarray((rows - rows.max(axis=1, keepdims=True)).T)
    true_below_top = below_top[columns, np.arange(len(rows))]
    correct = rows.argmax(axis=1) == columns
    edges = bin_edges(rows, bins)
    with np.errstate(over="ignore"):  # a tiny temperature sends a score to minus infinity, as it should
        measured = [_at(below_top / t, true_below_top / t, correct, edges) for t in scale]
    found = np.array(measured).T
    return Sweep(scale, np.full(len(scale), correct.mean()), *found)


def sweep_probabilities(
    make: Callable[[float], ArrayLike], coefficients: Iterable[float], labels: ArrayLike, bins: int = 10
) -> Sweep:
    """Measure make(coefficient) at every coefficient, for any recalibration: label smoothing's amount, say.

    Takes a function from one coefficient to probabilities `(N, C)` in [0, 1]; T coefficients; labels `(N,)`,
    integers 0..C-1; the number of equal-width bins. Raises ValueError as `confidence_and_correct`.
    """
    tried = np.array([float(coefficient) for coefficient in coefficients])
    found = np.array([_measures(make(float(c)), labels, bins) for c in tried]).reshape(len(tried), 4)
    return Sweep(tried, *found.T)


def _at(
    below_top: np.ndarray, true_below_top: np.ndarray, correct: np.ndarray, edges: np.ndarray
) -> tuple[float, float, float]:
    """ECE, NLL and Brier score of one temperature from scores `(C, N)` less their row's largest."""
    power = np.exp(below_top)
    total = power.sum(axis=0)
    confidence = 1 / total  # the largest score's power is exp(0)
    index = bin_index(confidence, edges)
    gap = gap_sum(index, correct - confidence, len(edges) - 1) / len(correct)
    mean_surprise = np.mean(np.log(total) - true_below_top)  # finite even where a power underflows to 0
    true = np.exp(true_below_top)
    mean_distance = np.mean(((power**2).sum(axis=0) * confidence - 2 * true) * confidence + 1)
    return gap, float(mean_surprise), float(mean_distance)


def _measures(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> tuple[float, float, float, float]:
    """Accuracy, ECE, NLL and Brier score of one coefficient."""
    rows, columns = check_distributions(probabilities, labels)
    correct = rows.argmax(axis=1) == columns
    true = true_column(rows, columns)
    return float(correct.mean()), ece(rows.max(axis=1), correct, bins), surprise(true), distance(rows, true)
