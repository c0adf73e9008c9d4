"""How much of a calibration error is chance: bootstrap intervals and the noise floor."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import Binning, bin_edges, bin_index, equal_width_edges
from firstlib.metrics.checks import check_at_least_one, check_confidence, check_level, check_predictions
from firstlib.metrics.moments import MANY_ROWS, bootstrap_sums, calibrated_sums

# Rows drawn at a time: few enough for the processor's cache, enough to hide the cost of the loop.
ROWS_AT_ONCE = 1 << 17
REMEMBERED = 1 << 20  # random numbers: 8 MB
# A bin's gap is significant if it lies at least this many standard errors from 0.
SIGNIFICANT = 2.0


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its interval, in the same unit; low <= estimate <= high."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class NoiseFloor:
    """The ECE of a perfectly calibrated model: mean and 95th percentile over draws; fractions."""

    mean: float
    percentile_95: float


def bootstrap_ece(
    confidence: ArrayLike,
    correct: ArrayLike,
    bins: int = 10,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """ECE (equal-width bins) with a bootstrap interval over the questions; fractions.

    Takes confidence `(N,)` and correct `(N,)` as `ece` does, and draws N rows with replacement, `resamples`
    times. The same seed gives the same interval. Raises ValueError as `ece` does, or if a count or the level is
    out of range.

    ECE is never negative, so chance can only inflate it, and resamples lie *above* the estimate: their
    percentiles never covered a true ECE of 0 in 400 trials. This is therefore a basic bootstrap interval, which
    reflects the resamples about the estimate. The inflation depends on which bins' gaps are real; the interval
    covers two cases: all gaps are real, or only those beyond two standard errors. In trials with 200 and 1,000
    questions, the 95 % interval covered a true ECE of 0 to 0.11 in 89 to 99 % of them. Above 12,000 rows, resamples
    are drawn by each bin's mean and variance (`firstlib.metrics.moments`), which gives the same interval sooner.
    """
    (found,) = resampled_ece([(confidence, correct)], bins, resamples, seed)
    return found.interval(level)


def paired_bootstrap_difference(
    confidence_a: ArrayLike,
    correct_a: ArrayLike,
    confidence_b: ArrayLike,
    correct_b: ArrayLike,
    bins: int = 10,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """ECE of model a minus ECE of model b, with a bootstrap interval; fractions, negative if a is better.

    Takes and raises what `bootstrap_ece` does, for two models: row i of all four arrays is the same
    question. Both models are resampled with the same questions, so difficulty that they share cancels. Chance
    inflates the better model's ECE more; the interval allows for this as `bootstrap_ece` does, and is
    conservative if the models are alike. An interval that excludes 0 indicates a difference beyond chance. In the
    same trials it covered the true difference in 89 to 99 % of them.
    """
    a = check_predictions(confidence_a, correct_a, "_a")
    b = check_predictions(confidence_b, correct_b, "_b")
    if len(a[0]) != len(b[0]):
        raise ValueError(f"confidence_a has {len(a[0])} rows, confidence_b {len(b[0])}: pass the same questions")
    found_a, found_b = _resampled([a, b], bins, resamples, seed)
    return found_a.minus(found_b, level)


def bootstrap_difference(
    confidence_a: ArrayLike,
    correct_a: ArrayLike,
    confidence_b: ArrayLike,
    correct_b: ArrayLike,
    bins: int = 10,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """ECE of model a minus ECE of model b on other questions, with a bootstrap interval; fractions.

    Takes and raises what `paired_bootstrap_difference` does, but the rows of a and b are unrelated and may differ in
    number. Each model's questions are resampled by themselves, so difficulty that they share does not cancel.
    """
    a = check_predictions(confidence_a, correct_a, "_a")
    b = check_predictions(confidence_b, correct_b, "_b")
    (found_a,) = _resampled([a], bins, resamples, seed)
    (found_b,) = _resampled([b], bins, resamples, seed + 1)
    return found_a.minus(found_b, level)


def noise_floor(
    confidence: ArrayLike,
    bins: int = 10,
    draws: int = 1000,
    seed: int = 0,
    binning: Binning | str = Binning.EQUAL_WIDTH,
) -> NoiseFloor:
    """The ECE that chance alone produces if these confidences are perfectly calibrated; fractions.

    Takes confidence `(N,)` and bins as `ece` does. Each draw makes row i right with probability confidence[i]
    and computes the ECE; the same seed gives the same floor. A measured ECE below the 95th percentile is no
    evidence of miscalibration. Raises ValueError as `ece` does, or if a count is below 1.
    """
    values = noise_draws(confidence, bins, draws, seed, binning)
    return NoiseFloor(float(values.mean()), float(np.quantile(values, 0.95)))


def noise_draws(
    confidence: ArrayLike,
    bins: int = 10,
    draws: int = 1000,
    seed: int = 0,
    binning: Binning | str = Binning.EQUAL_WIDTH,
) -> np.ndarray:
    """Returns the ECE `(draws,)` of a perfectly calibrated model by chance: what `noise_floor` summarises."""
    check_at_least_one("draws", draws)
    confidences = check_confidence(confidence)
    n, index = len(confidences), bin_index(confidences, bin_edges(confidences, bins, Binning(binning)))
    if n > MANY_ROWS:
        return _ece_of(calibrated_sums(confidences, index, draws, seed), n)
    order = np.argsort(index, kind="stable")  # makes each bin a slice
    confidences, index = confidences[order], index[order]
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    expected = np.add.reduceat(confidences, starts)
    found = []
    for numbers in _uniform(n, draws, seed):
        right = np.add.reduceat(numbers < confidences, starts, axis=1)
        found.append(_ece_of(right - expected, n))
    return np.concatenate(found)


def _uniform(n: int, draws: int, seed: int) -> Iterable[np.ndarray]:
    """Returns `draws` rows of n random numbers in [0, 1), in batches; not too many are remembered.

    Every position of a slider asks for the same ones, and drawing them takes longer than what is done with them.
    """
    return _remembered(n, draws, seed) if n * draws <= REMEMBERED else _drawn(n, draws, seed)


@lru_cache(maxsize=1)
def _remembered(n: int, draws: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_drawn(n, draws, seed))


def _drawn(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for size in _batch_sizes(n, draws):
        yield rng.random((size, n))


@dataclass(frozen=True, eq=False)
class ResampledEce:
    """An ECE, and how much each of R resamples exceeds the ECE that it was drawn from, `(R,)`; fractions.

    `least` assumes that every bin's gap is real, so chance adds little; `most`, that only significant gaps are.
    """

    estimate: float
    least: np.ndarray
    most: np.ndarray

    def interval(self, level: float = 0.95) -> Interval:
        """Returns what `bootstrap_ece` does."""
        bounds = _basic_interval(self.estimate, self.most, self.least, level)
        return Interval(self.estimate, max(bounds.low, 0.0), bounds.high)

    def minus(self, other: "ResampledEce", level: float = 0.95) -> Interval:
        """Returns the difference to another model that was resampled with the same questions, or with its own."""
        estimate = self.estimate - other.estimate
        return _basic_interval(estimate, self.most - other.least, self.least - other.most, level)


def resampled_ece(
    models: Sequence[tuple[ArrayLike, ArrayLike]], bins: int = 10, resamples: int = 1000, seed: int = 0
) -> list[ResampledEce]:
    """Resamples the ECE of several models with the same questions, so that intervals of all cost one drawing.

    Takes confidence `(N,)` and correct `(N,)` of each model, row i the same question. `interval` and `minus` of
    what is returned equal `bootstrap_ece` and `paired_bootstrap_difference`, whose errors it raises.
    """
    checked = [check_predictions(confidence, correct) for confidence, correct in models]
    n = len(checked[0][0])
    for at, (confidence, _) in enumerate(checked):
        if len(confidence) != n:
            raise ValueError(f"models[{at}] has {len(confidence)} rows, models[0] {n}: pass the same questions")
    return _resampled(checked, bins, resamples, seed)


def _resampled(
    models: Sequence[tuple[np.ndarray, np.ndarray]], bins: int, resamples: int, seed: int
) -> list[ResampledEce]:
    """Resamples predictions that are checked already, and of one length."""
    check_at_least_one("resamples", resamples)
    n = len(models[0][0])
    # Binned once: a resample only repeats rows, and a row keeps its bin.
    edges = equal_width_edges(bins)
    indices = [bin_index(sure, edges) for sure, _ in models]
    residuals = [right - sure for sure, right in models]
    resampled = (bootstrap_sums if n > MANY_ROWS else _drawn_sums)(indices, residuals, bins, resamples, seed)
    return [
        _inflation(np.bincount(index, residual, bins), drawn, n)
        for index, residual, drawn in zip(indices, residuals, resampled, strict=True)
    ]


def _drawn_sums(
    indices: list[np.ndarray], residuals: list[np.ndarray], bins: int, resamples: int, seed: int
) -> list[np.ndarray]:
    """Returns what `bootstrap_sums` does, from rows drawn one by one."""
    resampled: list[list[np.ndarray]] = [[] for _ in indices]
    for rows in _draws(len(indices[0]), resamples, seed):
        for batches, index, residual in zip(resampled, indices, residuals, strict=True):
            batches.append(_sums(index[rows], residual[rows], bins))
    return [np.concatenate(batches) for batches in resampled]


def _inflation(observed: np.ndarray, resampled: np.ndarray, n: int) -> ResampledEce:
    """Compares resampled sums `(R, bins)` with the observed sums `(bins,)`, and with the significant ones."""
    estimate = float(_ece_of(observed, n))
    significant = np.where(np.abs(observed) > SIGNIFICANT * resampled.std(axis=0), observed, 0.0)
    recentred = resampled - observed + significant
    return ResampledEce(estimate, _ece_of(resampled, n) - estimate, _ece_of(recentred, n) - _ece_of(significant, n))


def _basic_interval(estimate: float, largest: np.ndarray, smallest: np.ndarray, level: float) -> Interval:
    """Subtracts the quantiles of the largest and the smallest inflation; the interval contains the estimate."""
    check_level(level)
    low = estimate - float(np.quantile(largest, (1 + level) / 2))
    high = estimate - float(np.quantile(smallest, (1 - level) / 2))
    return Interval(estimate, min(low, estimate), max(high, estimate))


def _batch_sizes(n: int, total: int) -> Iterator[int]:
    """Splits `total` repetitions over n rows into batches of about ROWS_AT_ONCE rows."""
    size = max(1, ROWS_AT_ONCE // n)
    for start in range(0, total, size):
        yield min(size, total - start)


def _draws(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields row indices drawn with replacement, `(batch, n)` at a time."""
    rng = np.random.default_rng(seed)
    for size in _batch_sizes(n, resamples):
        yield rng.integers(0, n, (size, n))


def _sums(index: np.ndarray, residual: np.ndarray, bins: int) -> np.ndarray:
    """Sums residuals `(R, N)` per bin, all resamples in one bincount; returns `(R, bins)`."""
    resamples = len(index)
    cell = index + bins * np.arange(resamples)[:, None]
    return np.bincount(cell.ravel(), residual.ravel(), resamples * bins).reshape(resamples, bins)


def _ece_of(sums: np.ndarray, n: int) -> np.ndarray:
    """Computes ECE from the bins' residual sums `(..., bins)`."""
    return np.abs(sums).sum(axis=-1) / n
