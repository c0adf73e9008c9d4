"""Trustworthy maximisation: what is done to a teacher's top-5 before a student may learn from it (paper, section 3).

Every map takes probabilities `(N, K)`, most probable first, and gives targets `(N, K)`. None needs a forward pass.
What is no probability, or sums to more than 1, is a ValueError that names the row: nothing is clipped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

DIRECT_FLOOR = 1e-6  # the paper's g
SUM_TOLERANCE = 1e-3  # by which rounded probabilities may pass 1, as in `losses`


class Map(StrEnum):
    """How the teacher's top-k probabilities become the student's targets."""

    NONE = "none"
    LABEL_SMOOTHING = "label-smoothing"
    TEMPERATURE = "temperature"
    LOGIT_TEMPERATURE = "logit-temperature"


def direct(probabilities: np.ndarray) -> np.ndarray:
    """Direct distillation: the top-k as they are, plus 1e-6 each, renormalised.

    >>> direct(np.array([[0.6, 0.2]])).round(4)
    array([[0.75, 0.25]])
    """
    _require_probabilities(probabilities)
    lifted = probabilities + DIRECT_FLOOR
    return lifted / lifted.sum(axis=-1, keepdims=True)


def temperature(probabilities: np.ndarray, coefficient: float) -> np.ndarray:
    """Eq. 4: a softmax over *probabilities*, not over logits: `q_i = exp(p_i/c) / sum_j exp(p_j/c)`.

    The smaller the coefficient, the sharper the target; with five tokens `q_1` can never pass e/(e+4) at c = 1.

    >>> sure = np.array([[1.0, 0, 0, 0, 0]])
    >>> temperature(sure, 1.0)[0, 0].round(3), temperature(sure, 0.3)[0, 0].round(3)
    (np.float64(0.405), np.float64(0.875))

    Raises:
        ValueError: The coefficient is not positive.
    """
    _require_positive(coefficient)
    _require_probabilities(probabilities)
    with np.errstate(over="ignore"):  # far below the highest, the exponential of minus infinity is 0
        weights = np.exp((probabilities - probabilities.max(axis=-1, keepdims=True)) / coefficient)
    return weights / weights.sum(axis=-1, keepdims=True)


def logit_temperature(probabilities: np.ndarray, coefficient: float) -> np.ndarray:
    """The classical temperature of Guo et al. (2017), which the paper does not use: `q_i ~ p_i^(1/T)`.

    Among the top-k, dividing the logits by T is the same as this power; the mass outside them is left out.

    >>> logit_temperature(np.array([[0.8, 0.2]]), 2.0).round(4)
    array([[0.6667, 0.3333]])

    Raises:
        ValueError: The coefficient is not positive, or a row has no mass at all.
    """
    _require_positive(coefficient)
    _require_probabilities(probabilities)
    _require_rows(probabilities.max(axis=-1) > 0, "all probabilities are 0, which no temperature changes")
    with np.errstate(divide="ignore", over="ignore"):
        logits = np.log(probabilities)
        weights = np.exp((logits - logits.max(axis=-1, keepdims=True)) / coefficient)
    return weights / weights.sum(axis=-1, keepdims=True)


def exact_temperature(
    probabilities: np.ndarray, coefficient: float, log_normaliser: np.ndarray, tempered: np.ndarray
) -> np.ndarray:
    """A logit temperature as the teacher itself would have applied it, its whole vocabulary included.

    What softer logits give to tokens outside the top-k is left over, for the loss's tail to deal with: rows sum to
    less than 1.

    >>> dense = np.array([[0.8, 0.1, 0.1]])  # logits log p: the log normaliser is 0, at T = 2 log sum sqrt(p)
    >>> exact_temperature(dense[:, :2], 2.0, np.zeros(1), np.log(np.sqrt(dense).sum(1))).round(3)
    array([[0.586, 0.207]])

    Args:
        probabilities: `(N, K)`, as stored.
        coefficient: T.
        log_normaliser: `(N,)`, log sum_j exp(z_j), in nats.
        tempered: `(N,)`, log sum_j exp(z_j / T).

    Raises:
        ValueError: The coefficient is not positive.
    """
    _require_positive(coefficient)
    _require_probabilities(probabilities)
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities.astype(np.float64)) + log_normaliser[:, None]
    return np.exp(logits / coefficient - tempered[:, None])


@dataclass(frozen=True)
class Smoothed:
    """Label smoothing's targets, and what it did to them that a reader should know.

    Attributes:
        targets: `(N, K)`.
        swapped: `(N,)` bool: the first token is no longer the most probable one.
        limited: `(N,)` bool: `p_1` was below `d`, so only `p_1` was moved and `q_1` is 0.
    """

    targets: np.ndarray
    swapped: np.ndarray
    limited: np.ndarray


def label_smoothing(probabilities: np.ndarray, moved: float = 0.1) -> Smoothed:
    """Eq. 3: `q_1 = p_1 - d`, and every other of the k gets `d / (k - 1)`. The sum stays as it was.

    >>> smoothed = label_smoothing(np.array([[0.5, 0.45, 0.03, 0.01, 0.01]]))
    >>> smoothed.targets.round(3), smoothed.swapped
    (array([[0.4  , 0.475, 0.055, 0.035, 0.035]]), array([ True]))

    Raises:
        ValueError: `moved` is outside [0, 1], or there is only one token to a row.
    """
    if not 0 <= moved <= 1:
        raise ValueError(f"label smoothing moves a mass between 0 and 1, not {moved}")
    if probabilities.shape[-1] < 2:
        raise ValueError("label smoothing needs at least two tokens a position to move mass between")
    _require_probabilities(probabilities)
    first = probabilities[:, 0]
    taken = np.minimum(first, moved)
    targets = probabilities + (taken / (probabilities.shape[1] - 1))[:, None]
    targets[:, 0] = first - taken
    swapped = (targets[:, 1:] > targets[:, :1]).any(axis=1)
    return Smoothed(targets, swapped, first < moved)


def recalibrate(probabilities: np.ndarray, kind: Map | str, coefficient: float) -> np.ndarray:
    """The targets under one map; `coefficient` is c, T or d, and is not used by `none`."""
    match Map(kind):
        case Map.NONE:
            return direct(probabilities)
        case Map.LABEL_SMOOTHING:
            return label_smoothing(probabilities, coefficient).targets
        case Map.TEMPERATURE:
            return temperature(probabilities, coefficient)
        case Map.LOGIT_TEMPERATURE:
            return logit_temperature(probabilities, coefficient)


@dataclass(frozen=True)
class Grid:
    """A two-step grid: `step, 2 step, ... , end`, then `fine` steps between the neighbours of the best."""

    step: float
    end: float
    fine: float


# The paper's grid for Eq. 4. A logit temperature softens above 1, so its grid must reach there.
GRIDS = {Map.TEMPERATURE: Grid(0.1, 1.0, 0.02), Map.LOGIT_TEMPERATURE: Grid(0.5, 5.0, 0.1)}


@dataclass(frozen=True)
class Search:
    """A finished search: every coefficient tried with its score, and the best one.

    Attributes:
        coarse: `(A, 2)`, coefficient and score.
        fine: `(B, 2)`, likewise.
        best: The coefficient with the lowest score; of equals the smallest.
    """

    coarse: np.ndarray
    fine: np.ndarray
    best: float

    @property
    def at_the_edge(self) -> bool:
        """Whether the best lies at an end of what was tried, so that a wider grid might do better."""
        tried = np.concatenate([self.coarse, self.fine])[:, 0]
        return bool(np.isclose(self.best, [tried.min(), tried.max()]).any())


def search(score: Callable[[float], float], grid: Grid = GRIDS[Map.TEMPERATURE]) -> Search:
    """The paper's two-step search for the coefficient with the lowest score, its validation ECE.

    >>> search(lambda c: abs(c - 0.335)).best
    0.34
    """
    coarse = _scores(score, grid.step * np.arange(1, round(grid.end / grid.step) + 1))
    centre = coarse[coarse[:, 1].argmin(), 0]
    reach = round(grid.step / grid.fine)
    around = centre + grid.fine * np.arange(1 - reach, reach)
    fine = _scores(score, around[(around > grid.fine / 2) & (around <= grid.end + grid.fine / 2)])
    both = np.concatenate([coarse, fine])
    both = both[both[:, 0].argsort(kind="stable")]
    return Search(coarse, fine, float(both[both[:, 1].argmin(), 0]))


def _scores(score: Callable[[float], float], coefficients: np.ndarray) -> np.ndarray:
    rounded = coefficients.round(10)
    return np.array([(c, score(float(c))) for c in rounded])


def _require_positive(coefficient: float) -> None:
    if not 0 < coefficient < np.inf:
        raise ValueError(f"a temperature must be above 0 and finite, not {coefficient}")


def _require_probabilities(rows: np.ndarray) -> None:
    _require_rows((rows >= 0).all(axis=-1), "a probability is negative or NaN; repair it, or leave the position out")
    _require_rows(rows.sum(axis=-1) <= 1 + SUM_TOLERANCE, "probabilities sum to more than 1; divide by their sum")


def _require_rows(good: np.ndarray | np.bool, complaint: str) -> None:
    if not good.all():
        raise ValueError(f"row {int(np.argmin(good))}: {complaint}")
