"""How much of a calibration error is luck: bootstrap intervals and the noise floor."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import Binning, bin_edges, bin_index
from firstlib.metrics.checks import check_at_least_one, check_confidence, check_level, check_predictions

# Rows drawn at a time: small enough to stay in the processor's cache, large enough to hide the loop.
ROWS_AT_ONCE = 1 << 17
# How many standard errors from 0 a bin's gap must lie to be believed.
BELIEVED = 2.0


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval, in the estimate's unit; low <= estimate <= high."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class NoiseFloor:
    """The ECE a perfectly calibrated model would show: mean and 95th percentile over draws, fractions."""

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

    Takes confidence `(N,)` and correct `(N,)` as `ece`, and draws N rows with replacement, `resamples`
    times. The same seed gives the same interval. Raises ValueError as `ece`, or for a number or a level out
    of range.

    Chance adds to an ECE, which is never below 0, so resamples lie *above* the estimate: their percentiles
    never covered a true ECE of 0 in 400 trials. So their distances from the estimate are turned over. How
    much chance has added depends on which bins' gaps are real; the interval allows for all of them, and for
    only those beyond two standard errors. In trials with 200 and 1,000 questions, the 95 % interval covered
    a true ECE of 0 to 0.11 in 89 to 99 % of them.
    """
    (luck,) = _compare_with_resamples([check_predictions(confidence, correct)], bins, resamples, level, seed)
    ends = _turned_over(luck.estimate, luck.most, luck.least, level)
    return Interval(luck.estimate, max(ends.low, 0.0), ends.high)


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
    """ECE of model a minus ECE of model b, with a bootstrap interval; fractions, negative if a is the better.

    Takes and raises what `bootstrap_ece` does, for two models: row i of all four arrays is the same
    question. Both are resampled with the same questions, so what is hard for both cancels. Chance adds more
    to the better model's ECE; the interval allows for that as `bootstrap_ece`'s does, and is wider than it
    need be if both are alike. One that leaves out 0 says that the difference is more than luck. In such
    trials it covered the true difference in 89 to 99 %.
    """
    a = check_predictions(confidence_a, correct_a, "_a")
    b = check_predictions(confidence_b, correct_b, "_b")
    if len(a[0]) != len(b[0]):
        raise ValueError(f"confidence_a has {len(a[0])} rows, confidence_b {len(b[0])}: pass the same questions")
    of_a, of_b = _compare_with_resamples([a, b], bins, resamples, level, seed)
    difference = of_a.estimate - of_b.estimate
    return _turned_over(difference, of_a.most - of_b.least, of_a.least - of_b.most, level)


def noise_floor(
    confidence: ArrayLike,
    bins: int = 10,
    draws: int = 1000,
    seed: int = 0,
    binning: Binning | str = Binning.EQUAL_WIDTH,
) -> NoiseFloor:
    """ECE by chance alone: with these confidences, and answers right exactly as often as they say.

    Takes confidence `(N,)` and bins as `ece`. Every draw makes row i right with probability confidence[i]
    and takes the ECE; the same seed gives the same floor. A measured ECE below the 95th percentile is no
    evidence of miscalibration. Raises ValueError as `ece`, or for a number below 1.
    """
    check_at_least_one("draws", draws)
    sure = check_confidence(confidence)
    index = bin_index(sure, bin_edges(sure, bins, Binning(binning)))
    order = np.argsort(index, kind="stable")  # a bin's rows side by side, so that a bin is a slice
    sure, index = sure[order], index[order]
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    expected = np.add.reduceat(sure, starts)
    random = np.random.default_rng(seed)
    found = []
    for part in _parts(len(sure), draws):
        right = np.add.reduceat(random.random((part, len(sure))) < sure, starts, axis=1, dtype=np.int64)
        found.append(_ece_of(right - expected, len(sure)))
    values = np.concatenate(found)
    return NoiseFloor(float(values.mean()), float(np.quantile(values, 0.95)))


@dataclass(frozen=True, eq=False)
class _Luck:
    """An ECE, and by how much each of R resamples exceeds the ECE it came from, `(R,)`.

    `least` takes every bin's gap as real, so that chance adds little; `most` takes only gaps beyond BELIEVED.
    """

    estimate: float
    least: np.ndarray
    most: np.ndarray


def _compare_with_resamples(
    models: list[tuple[np.ndarray, np.ndarray]], bins: int, resamples: int, level: float, seed: int
) -> list[_Luck]:
    """Resample all models' checked predictions with the same rows."""
    check_at_least_one("bins", bins)
    check_at_least_one("resamples", resamples)
    check_level(level)
    n = len(models[0][0])
    # Binned once: a resample only repeats rows, and a row keeps its bin.
    binned = [(bin_index(sure, bin_edges(sure, bins)), right - sure) for sure, right in models]
    parts: list[list[np.ndarray]] = [[] for _ in models]
    for rows in _draws(n, resamples, seed):
        for part, (index, residual) in zip(parts, binned, strict=True):
            part.append(_sums(index[rows], residual[rows], bins))
    observed = [np.bincount(index, residual, bins) for index, residual in binned]
    return [_luck(sums, np.concatenate(part), n) for sums, part in zip(observed, parts, strict=True)]


def _luck(observed: np.ndarray, resampled: np.ndarray, n: int) -> _Luck:
    """Compare resampled sums `(R, bins)` with the observed `(bins,)`, and with the believed among them."""
    estimate = float(_ece_of(observed, n))
    believed = np.where(np.abs(observed) > BELIEVED * resampled.std(axis=0), observed, 0.0)
    recentred = resampled - observed + believed
    return _Luck(estimate, _ece_of(resampled, n) - estimate, _ece_of(recentred, n) - _ece_of(believed, n))


def _turned_over(estimate: float, largest: np.ndarray, smallest: np.ndarray, level: float) -> Interval:
    """Take off the estimate what chance may have added, at most and at least; keep the estimate inside."""
    low = estimate - float(np.quantile(largest, (1 + level) / 2))
    high = estimate - float(np.quantile(smallest, (1 - level) / 2))
    return Interval(estimate, min(low, estimate), max(high, estimate))


def _parts(n: int, total: int) -> Iterator[int]:
    """Cut `total` repetitions over n rows into parts of about ROWS_AT_ONCE rows."""
    size = max(1, ROWS_AT_ONCE // n)
    for start in range(0, total, size):
        yield min(size, total - start)


def _draws(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield row numbers drawn with replacement, `(part, n)` at a time."""
    random = np.random.default_rng(seed)
    for part in _parts(n, resamples):
        yield random.integers(0, n, (part, n))


def _sums(index: np.ndarray, residual: np.ndarray, bins: int) -> np.ndarray:
    """Sum residuals `(R, N)` per bin, for all resamples in one count; returns `(R, bins)`."""
    resamples = len(index)
    cell = index + bins * np.arange(resamples)[:, None]
    return np.bincount(cell.ravel(), residual.ravel(), resamples * bins).reshape(resamples, bins)


def _ece_of(sums: np.ndarray, n: int) -> np.ndarray:
    """ECE from the bins' residual sums `(..., bins)`."""
    return np.abs(sums).sum(axis=-1) / n
