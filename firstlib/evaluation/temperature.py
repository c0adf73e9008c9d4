"""A temperature on a trained student's logits, after training (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

import numpy as np

_LOWEST, _HIGHEST = 0.02, 50.0  # of 1/T
_STEPS = 80  # golden-section steps: the interval shrinks by 0.618 each


def fit_temperature(shares: np.ndarray, answer: np.ndarray) -> float:
    """Returns the T that minimises the negative log-likelihood of `shares ** (1/T)`, renormalised.

    The likelihood is convex in 1/T, so a golden-section search finds its optimum. Rows whose right answer has no mass
    cannot be repaired by any T and are left out.

    A model that says 0.9 and is right in half of the cases needs a very high T:

    >>> fit_temperature(np.array([[0.9, 0.1]] * 4), np.array([0, 1, 0, 1])) > 10
    True

    Args:
        shares: `(N, C)` probabilities.
        answer: `(N,)` index of the right candidate.

    Raises:
        ValueError: No row's right answer has any mass.
    """
    possible = shares[np.arange(len(shares)), answer] > 0
    if not possible.any():
        raise ValueError("no right answer has any probability, so no temperature can be fitted")
    with np.errstate(divide="ignore"):
        logits = np.ascontiguousarray(np.log(shares[possible]).T)  # so that sums over few choices add long rows
    right = answer[possible]
    ratio = (np.sqrt(5) - 1) / 2
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    for _ in range(_STEPS):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        if _nll(logits, right, np.exp(first)) <= _nll(logits, right, np.exp(second)):
            high = second
        else:
            low = first
    return float(np.exp(-(low + high) / 2).round(6))


def _nll(logits: np.ndarray, right: np.ndarray, inverse: float) -> float:
    """Returns the mean loss of logits `(C, N)`."""
    with np.errstate(invalid="ignore"):
        scaled = np.where(np.isneginf(logits), -np.inf, logits * inverse)
    highest = scaled.max(axis=0)
    normaliser = np.log(np.exp(scaled - highest).sum(axis=0)) + highest
    return float((normaliser - scaled[right, np.arange(len(right))]).mean())
