"""Exact confidence intervals of proportions, such as the accuracy of a bin."""

import math

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.chance import Interval
from firstlib.metrics.checks import check_level

# A few units in the last place of a float64: the continued fraction cannot get closer.
FRACTION_PRECISION = 1e-15
# Newton's method squares the error: after a step of this size, relative to x, the next is lost in rounding.
SEARCH_PRECISION = 1e-11
# Upper bounds, never reached: the fraction needs about sqrt(n) terms, the search about ten steps.
MOST_TERMS = 100_000
MOST_STEPS = 200


def clopper_pearson(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact binomial confidence intervals, one for each bin of a reliability diagram.

    The bounds are the proportions for which this many successes or more, or this many or fewer, have probability
    (1 - level) / 2. The interval covers the true proportion with probability at least `level` for any n, and,
    unlike a bootstrap interval, does not collapse if all or none are right. Takes successes and n, whole numbers,
    each `(B,)` or a scalar; returns low and high, `(B,)` fractions. An empty bin, 0 of 0, gets (0, 1). Raises
    ValueError unless counts are whole and 0 <= successes <= n, and `level` is in (0, 1). Clopper and Pearson
    1934.

    With 0 of 10 right, high solves (1 - high)^10 = 0.025:

    >>> low, high = clopper_pearson([0], [10])
    >>> float(low[0]), round(float(high[0]), 6), round(1 - 0.025 ** 0.1, 6)
    (0.0, 0.308497, 0.308497)
    """
    check_level(level)
    right, total = _check_counts(successes, n)
    tail = (1 - level) / 2
    return _lower_end(right, total, tail), 1 - _lower_end(total - right, total, tail)


def share_interval(right: int, n: int, level: float = 0.95) -> Interval:
    """Returns the share of right answers with its exact interval, by `clopper_pearson`, whose errors it raises.

    >>> share_interval(9, 10).estimate
    0.9
    """
    return share_intervals([right], [n], level)[0]


def share_intervals(right: ArrayLike, n: ArrayLike, level: float = 0.95) -> list[Interval]:
    """Returns `share_interval` of each of B pairs `(B,)`, all at once: one by one, dozens take half a second."""
    low, high = clopper_pearson(right, n, level)
    share = np.asarray(right) / np.asarray(n)
    return [Interval(*one) for one in zip(share.tolist(), low.tolist(), high.tolist(), strict=True)]


def _check_counts(successes: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    right, total = np.broadcast_arrays(np.asarray(successes, np.float64), n)  # one float suffices: sums become floats
    whole = (right == np.floor(right)) & (total == np.floor(total)) & np.isfinite(total)
    bad = ~((right >= 0) & (right <= total) & whole)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"successes[{row}] is {right.flat[row]:g} of n = {total.flat[row]:g}: pass whole numbers, 0 to n"
        )
    return right, total


def _lower_end(successes: np.ndarray, n: np.ndarray, tail: float) -> np.ndarray:
    """Proportion for which this many successes or more have probability `tail`; 0 for no successes."""
    low = np.zeros(successes.shape)
    some = successes > 0
    if some.any():
        low[some] = _inverse_beta(tail, successes[some], n[some] - successes[some] + 1)
    return low


def _inverse_beta(probability: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solves I_x(a, b) = probability for x by Newton's method, with bisection where a step leaves the bracket."""
    log_beta = _log_beta(a, b)
    below, above = np.zeros(a.shape), np.ones(a.shape)
    x = a / (a + b)
    for _ in range(MOST_STEPS):
        excess = _incomplete_beta(x, a, b, log_beta) - probability
        below, above = np.where(excess < 0, x, below), np.where(excess < 0, above, x)
        newton = x - excess / np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - log_beta)
        inside = (newton >= below) & (newton <= above)
        following = np.where(inside, newton, (below + above) / 2)
        done = np.abs(following - x) <= SEARCH_PRECISION * x
        x = following
        if done.all():
            break
    return x


def _incomplete_beta(x: np.ndarray, a: np.ndarray, b: np.ndarray, log_beta: np.ndarray) -> np.ndarray:
    """Regularised incomplete beta function I_x(a, b) for x strictly between 0 and 1.

    The fraction converges fast only up to about the mean a / (a + b). A tail below one half never asks for more.
    """
    return np.exp(a * np.log(x) + b * np.log1p(-x) - log_beta) * _beta_fraction(x, a, b) / a


def _beta_fraction(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Continued fraction of the incomplete beta function, by Lentz's method (Numerical Recipes, 6.4)."""
    ratio_c = np.ones(x.shape)
    ratio_d = 1 / (1 - (a + b) * x / (a + 1))
    value = ratio_d
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        ratio_d, ratio_c = 1 / (1 + even * ratio_d), 1 + even / ratio_c
        value = value * ratio_d * ratio_c
        ratio_d, ratio_c = 1 / (1 + odd * ratio_d), 1 + odd / ratio_c
        step = ratio_d * ratio_c
        value = value * step
        if (np.abs(step - 1) <= FRACTION_PRECISION).all():
            break
    return value


def _log_beta(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Natural logarithm of the beta function; NumPy has no log-gamma, so it is taken from the standard library."""
    return np.array([math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q) for p, q in zip(a, b, strict=True)])
