"""Exact confidence intervals of a proportion, such as the accuracy of one bin."""

import math

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.checks import check_level

# A few steps of a float64: the continued fraction cannot come nearer.
FRACTION_PRECISION = 1e-15
# Newton's steps square the error: after one this small, as a share of x, the next is lost in rounding.
SEARCH_PRECISION = 1e-11
# The fraction needs about sqrt(n) terms, the search about ten steps; both stop long before these.
MOST_TERMS = 100_000
MOST_STEPS = 200


def clopper_pearson(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact binomial confidence intervals, one for each bin of a reliability diagram.

    The ends are the proportions under which so many successes, or so few, have probability (1 - level) / 2.
    So they cover the truth at least `level` of the time, at any n, and do not collapse where all or none
    were right, as a bootstrap's do. Takes successes and n, whole numbers `(B,)` or one for all; returns low
    and high, `(B,)` fractions. An empty bin, 0 of 0, gets (0, 1): nothing is known. Raises ValueError on
    counts that are not whole or not 0 <= successes <= n, or a level outside (0, 1). Clopper and Pearson
    1934.

    With none right of 10, high solves (1 - high)^10 = 0.025:

    >>> low, high = clopper_pearson([0], [10])
    >>> float(low[0]), round(float(high[0]), 6), round(1 - 0.025 ** 0.1, 6)
    (0.0, 0.308497, 0.308497)
    """
    check_level(level)
    right, total = _check_counts(successes, n)
    tail = (1 - level) / 2
    return _lower_end(right, total, tail), 1 - _lower_end(total - right, total, tail)


def _check_counts(successes: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    right, total = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    bad = ~((right >= 0) & (right <= total) & np.isfinite(total) & (right % 1 == 0) & (total % 1 == 0))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"successes[{row}] is {right.flat[row]:g} of n = {total.flat[row]:g}: pass whole numbers, 0 to n"
        )
    return right, total


def _lower_end(successes: np.ndarray, n: np.ndarray, tail: float) -> np.ndarray:
    """Proportion under which this many successes or more have probability `tail`; 0 where there are none."""
    low = np.zeros(successes.shape)
    some = successes > 0
    if some.any():
        low[some] = _inverse_beta(tail, successes[some], n[some] - successes[some] + 1)
    return low


def _inverse_beta(probability: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve I_x(a, b) = probability for x: Newton's steps, halving the bracket where one would leave it."""
    log_beta = _log_beta(a, b)
    below, above = np.zeros(a.shape), np.ones(a.shape)
    x = a / (a + b)
    for _ in range(MOST_STEPS):
        excess = _incomplete_beta(x, a, b, log_beta) - probability
        below, above = np.where(excess < 0, x, below), np.where(excess < 0, above, x)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            newton = x - excess / np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - log_beta)
        inside = (newton >= below) & (newton <= above)
        following = np.where(inside, newton, (below + above) / 2)
        done = np.abs(following - x) <= SEARCH_PRECISION * x
        x = following
        if done.all():
            break
    return x


def _incomplete_beta(x: np.ndarray, a: np.ndarray, b: np.ndarray, log_beta: np.ndarray) -> np.ndarray:
    """Regularised incomplete beta function I_x(a, b) for x strictly between 0 and 1."""
    # The fraction converges fast below the mean only; above it I_x(a, b) = 1 - I_(1-x)(b, a).
    turned = x > (a + 1) / (a + b + 2)
    front = np.exp(a * np.log(x) + b * np.log1p(-x) - log_beta)
    first, second = np.where(turned, b, a), np.where(turned, a, b)
    part = front * _beta_fraction(np.where(turned, 1 - x, x), first, second) / first
    return np.where(turned, 1 - part, part)


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
    """Natural logarithm of the beta function; NumPy has no log-gamma, the standard library has."""
    return np.array([math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q) for p, q in zip(a, b, strict=True)])
