"""Trustworthy maximisation: maps from a teacher's top-k probabilities to a student's targets.

FIRST, section 3 (https://arxiv.org/abs/2408.12168). Every map takes probabilities `(N, K)`, most probable first, and
returns targets `(N, K)`; none needs a forward pass. A negative value, NaN, or a row that sums to more than 1 raises a
ValueError that names the row: nothing is clipped.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from firstlib.knowledge import TopK
from firstlib.metrics.checks import check_rows, check_temperature, check_top_k

DIRECT_FLOOR = 1e-6  # the paper's g
UNCERTAIN = 0.1  # nats of entropy above which a position counts as uncertain


class Map(StrEnum):
    """The maps, by the names that presets use."""

    NONE = "none"
    STORED = "stored"
    LABEL_SMOOTHING = "label-smoothing"
    TEMPERATURE = "temperature"
    LOGIT_TEMPERATURE = "logit-temperature"
    EXACT_TEMPERATURE = "exact-temperature"


def direct(probabilities: np.ndarray) -> np.ndarray:
    """Returns the top-k as they are, plus 1e-6 each, renormalised: the paper's direct distillation.

    >>> direct(np.array([[0.6, 0.2]])).round(4)
    array([[0.75, 0.25]])
    """
    check_top_k(probabilities)
    lifted = probabilities + DIRECT_FLOOR
    return lifted / lifted.sum(axis=-1, keepdims=True)


def temperature(probabilities: np.ndarray, coefficient: float) -> np.ndarray:
    """Eq. 4, a softmax over *probabilities*, not logits: `q_i = exp(p_i/c) / sum_j exp(p_j/c)`.

    A smaller coefficient gives a sharper target. With five tokens `q_1` cannot exceed e/(e+4) at c = 1.

    >>> sure = np.array([[1.0, 0, 0, 0, 0]])
    >>> temperature(sure, 1.0)[0, 0].round(3), temperature(sure, 0.3)[0, 0].round(3)
    (np.float64(0.405), np.float64(0.875))

    Raises:
        ValueError: The coefficient is not positive.
    """
    check_temperature(coefficient)
    check_top_k(probabilities)
    with np.errstate(over="ignore"):  # exp(-inf) is 0
        weights = np.exp((probabilities - probabilities.max(axis=-1, keepdims=True)) / coefficient)
    return weights / weights.sum(axis=-1, keepdims=True)


def logit_temperature(probabilities: np.ndarray, coefficient: float) -> np.ndarray:
    """Temperature scaling of Guo et al. (2017), which the paper does not use: `q_i ~ p_i^(1/T)`.

    Within the top-k this power equals dividing the logits by T. The mass outside the top-k is left out.

    >>> logit_temperature(np.array([[0.8, 0.2]]), 2.0).round(4)
    array([[0.6667, 0.3333]])

    Raises:
        ValueError: The coefficient is not positive, or a row has no mass.
    """
    check_temperature(coefficient)
    check_top_k(probabilities)
    check_rows(probabilities.max(axis=-1) > 0, "all probabilities are 0, which no temperature changes")
    with np.errstate(divide="ignore", over="ignore"):
        logits = np.log(probabilities)
        weights = np.exp((logits - logits.max(axis=-1, keepdims=True)) / coefficient)
    return weights / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Smoothed:
    """Targets of label smoothing, and its side effects.

    Attributes:
        targets: `(N, K)`.
        swapped: `(N,)` bool: the first token is no longer the most probable.
        limited: `(N,)` bool: `p_1` was below `d`, so only `p_1` was moved and `q_1` is 0.
    """

    targets: np.ndarray
    swapped: np.ndarray
    limited: np.ndarray


def label_smoothing(probabilities: np.ndarray, moved: float = 0.1) -> Smoothed:
    """Eq. 3: `q_1 = p_1 - d`, and each of the other tokens gains `d / (k - 1)`. The sum does not change.

    >>> smoothed = label_smoothing(np.array([[0.5, 0.45, 0.03, 0.01, 0.01]]))
    >>> smoothed.targets.round(3), smoothed.swapped
    (array([[0.4  , 0.475, 0.055, 0.035, 0.035]]), array([ True]))

    Raises:
        ValueError: `moved` is outside [0, 1], or a row has only one token.
    """
    if not 0 <= moved <= 1:
        raise ValueError(f"label smoothing moves a mass between 0 and 1, not {moved}")
    if probabilities.shape[1] < 2:
        raise ValueError("label smoothing needs at least two tokens a position to move mass between")
    check_top_k(probabilities)
    first = probabilities[:, 0]
    taken = np.minimum(first, moved)
    targets = probabilities + (taken / (probabilities.shape[1] - 1))[:, None]
    targets[:, 0] = first - taken
    swapped = (targets[:, 1:] > targets[:, :1]).any(axis=1)
    return Smoothed(targets, swapped, first < moved)


def recalibrate(probabilities: np.ndarray, kind: Map | str, coefficient: float) -> np.ndarray:
    """Returns the targets under one map.

    Args:
        probabilities: `(N, K)`, most probable first.
        kind: A map that needs nothing but the top-k; `targets_of` knows the others.
        coefficient: c, d or T; unused by `none` and `stored`.

    Raises:
        ValueError: The map needs normalisers of the whole vocabulary; or as the map itself.
    """
    match Map(kind):
        case Map.NONE:
            return direct(probabilities)
        case Map.STORED:
            check_top_k(probabilities)
            return probabilities
        case Map.LABEL_SMOOTHING:
            return label_smoothing(probabilities, coefficient).targets
        case Map.TEMPERATURE:
            return temperature(probabilities, coefficient)
        case Map.LOGIT_TEMPERATURE:
            return logit_temperature(probabilities, coefficient)
        case Map.EXACT_TEMPERATURE:
            raise ValueError("an exact temperature needs the normalisers of a store: use targets_of")


def targets_of(item: TopK, kind: Map | str, coefficient: float, temperatures: tuple[float, ...] = ()) -> np.ndarray:
    """Returns the targets `(P, K)` for one example's stored knowledge.

    Args:
        item: The store's entry.
        kind: Any map.
        coefficient: c, d or T; unused by `none` and `stored`.
        temperatures: Those whose log normalisers the store holds (`Origin.temperatures`).

    Raises:
        StoreError: An exact temperature whose normaliser the store does not hold.
        ValueError: As the maps.
    """
    if Map(kind) is Map.EXACT_TEMPERATURE:
        return item.at_temperature(coefficient, temperatures)
    return recalibrate(item.probabilities, kind, coefficient)


def at_positions(item: TopK, targets: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns recalibrated targets `(P, K)` at the chosen positions `(P,)`, and the stored top k as it is elsewhere."""
    return np.where(chosen[:, None], targets, direct(item.probabilities))
