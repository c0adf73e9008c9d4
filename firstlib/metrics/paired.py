"""Paired comparisons over a few seeds: interval, sign-flip test, Holm's correction, detectable difference.

A *difference* is one seed's measure of a method minus the same measure of its baseline on the same questions.
"""

from collections.abc import Mapping
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.chance import Interval

MOST_EXACT = 16  # seeds up to which all sign flips are enumerated
FLIPS = 2**16  # drawn beyond
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131)
_T_80 = (1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883, 0.879, 0.876, 0.873, 0.870, 0.868, 0.866)
_NORMAL_975, _NORMAL_80 = 1.959963984540054, 0.8416212335729143  # with infinitely many degrees of freedom

Key = TypeVar("Key")


def mean_interval(values: ArrayLike) -> Interval:
    """Returns the mean over seeds with its 95 % interval (Student's t).

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> found.estimate, round(found.low, 2), round(found.high, 2)
    (2.0, -0.48, 4.48)

    Args:
        values: `(S,)`, one value a seed, S >= 2.

    Raises:
        ValueError: There are fewer than two values, or one is not finite.
    """
    found = _check(values)
    half = _quantile(_T_975, _NORMAL_975, len(found)) * _standard_error(found)
    mean = float(found.mean())
    return Interval(mean, mean - half, mean + half)


def sign_flip_p(differences: ArrayLike) -> float:
    """Returns the two-sided p-value of a sign-flip permutation test that the differences have mean 0.

    If a method and its baseline are exchangeable, every sign of every difference is equally likely. The p-value is the
    share of sign patterns whose mean is at least as far from 0 as the observed one. Up to 16 seeds all patterns are
    enumerated, so that the smallest p of S seeds is 2 / 2**S; beyond, 65,536 are drawn.

    >>> sign_flip_p([0.1, 0.2, 0.3]), sign_flip_p([0.0, 0.0])
    (0.25, 1.0)

    Raises:
        ValueError: As `mean_interval`.
    """
    found = _check(differences)
    if len(found) <= MOST_EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(found))))
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(FLIPS, len(found)))
        signs[0] = 1.0  # the observed pattern is one of them
    means = np.abs(signs @ found)
    return float((means >= abs(found.sum()) - 1e-12).mean())


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Returns p-values corrected for their number by Holm's step-down procedure (1979).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[Key, float] = {}
    largest = 0.0
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[key] = largest
    return {key: corrected[key] for key in p_values}


def detectable_difference(differences: ArrayLike) -> float:
    """Returns the smallest true mean difference that a paired t-test on as many seeds finds in 80 % of studies.

    At a significance of 0.05, two-sided, and the observed standard deviation of the differences (Bloom 1995).

    >>> round(detectable_difference([1.0, 2.0, 3.0, 4.0]), 2)
    2.69

    Raises:
        ValueError: As `mean_interval`.
    """
    found = _check(differences)
    both = _quantile(_T_975, _NORMAL_975, len(found)) + _quantile(_T_80, _NORMAL_80, len(found))
    return both * _standard_error(found)


def _check(values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or len(found) < 2 or not np.isfinite(found).all():
        raise ValueError(f"values: pass one finite number for each of at least two seeds, not {values!r}")
    return found


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _quantile(table: tuple[float, ...], normal: float, count: int) -> float:
    """Student's t with `count - 1` degrees of freedom; beyond the table by Cornish and Fisher's expansion."""
    freedom = count - 1
    if freedom <= len(table):
        return table[freedom - 1]
    first, second = normal**3 + normal, 5 * normal**5 + 16 * normal**3 + 3 * normal
    return normal + first / (4 * freedom) + second / (96 * freedom**2)
