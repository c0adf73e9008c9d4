"""A temperature on a trained student's logits, after training (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

import numpy as np

LOWEST, HIGHEST = 0.02, 50.0  # temperatures tried
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
    return _fit(shares[possible], np.eye(shares.shape[1])[answer[possible]])


def fit_temperature_to(shares: np.ndarray, targets: np.ndarray) -> float:
    """Returns the T at which `shares ** (1/T)`, renormalised, has the least cross-entropy to other probabilities.

    No label is needed. Candidates that either side rules out are left out.

    >>> shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> round(fit_temperature_to(shares**2 / (shares**2).sum(1, keepdims=True), shares), 2)
    2.0

    Args:
        shares: `(N, C)` probabilities.
        targets: `(N, C)` probabilities to come near to.
    """
    return _fit(shares, np.where(shares > 0, targets, 0.0))


def _fit(shares: np.ndarray, targets: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        logits = np.ascontiguousarray(np.log(shares).T)  # so that sums over few choices add long rows
    targets = np.ascontiguousarray(targets.T)
    ratio = (np.sqrt(5) - 1) / 2
    low, high = -np.log(HIGHEST), -np.log(LOWEST)
    for _ in range(_STEPS):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        if _cross_entropy(logits, targets, np.exp(first)) <= _cross_entropy(logits, targets, np.exp(second)):
            high = second
        else:
            low = first
    return float(np.exp(-(low + high) / 2).round(6))


def _cross_entropy(logits: np.ndarray, targets: np.ndarray, inverse: float) -> float:
    """Returns the mean cross-entropy of logits `(C, N)` to targets `(C, N)`."""
    with np.errstate(invalid="ignore"):
        scaled = np.where(np.isneginf(logits), -np.inf, logits * inverse)
    highest = scaled.max(axis=0)
    normaliser = np.log(np.exp(scaled - highest).sum(axis=0)) + highest
    weighed = (targets * np.where(np.isneginf(scaled), 0, scaled)).sum(axis=0)
    return float((targets.sum(axis=0) * normaliser - weighed).mean())
