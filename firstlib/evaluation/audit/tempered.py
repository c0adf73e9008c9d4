"""What one temperature would do for a model: fitted on some of the answers, measured on the others."""

from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.audit.answers import UNKNOWN, Answers
from firstlib.evaluation.temperature import fit_temperature
from firstlib.metrics import Interval, bootstrap_ece

FOLDS = 5
FEWEST = 20  # answers: with fewer, a fold holds too few to fit on
MOST_FITTED = 20_000  # answers that a temperature is fitted on: more would change its third digit


@dataclass(frozen=True, eq=False)
class Tempered:
    """The effect of one temperature, measured on answers that it was not fitted on.

    Attributes:
        value: The temperature fitted on all answers: the one to use. Logits are divided by it.
        by_fold: Those fitted without each fold.
        ece: After it, by cross-fitting, with its interval; a fraction.
        nll: After it, over the same answers as `nll_before`; in nats.
        nll_before: Before it, over the answers whose right choice has any probability.
        confidence: `(M,)`, after it.
        correct: `(M,)` bool.
    """

    value: float
    by_fold: tuple[float, ...]
    ece: Interval
    nll: float
    nll_before: float
    confidence: np.ndarray
    correct: np.ndarray


def cross_fitted(answers: Answers, bins: int, folds: int = FOLDS, seed: int = 0) -> Tempered | None:
    """Returns what one temperature would do; None where it cannot be told.

    The answers are dealt into folds at random. Each fold is measured with the temperature that is fitted on the other
    folds (Guo et al. 2017, by negative log-likelihood), so no answer is measured with a temperature that it
    helped to choose. With confidences alone, the temperature is one on the odds of being right.
    """
    if answers.reading == "vocabulary" or len(answers) < FEWEST:
        return None
    rows, right = _distributions(answers)
    known = right != UNKNOWN
    rows, right = rows[known], right[known]
    possible = rows[np.arange(len(rows)), right] > 0
    if possible.sum() < FEWEST:
        return None
    return _measured(rows, right, possible, answers.correct[known], bins, folds, seed)


def _measured(
    rows: np.ndarray, right: np.ndarray, possible: np.ndarray, correct: np.ndarray, bins: int, folds: int, seed: int
) -> Tempered:
    fold = np.random.default_rng(seed).permutation(len(rows)) % folds
    confidence, of_right, values = np.empty(len(rows)), np.empty(len(rows)), []
    chosen = rows.argmax(axis=1)
    for number in range(folds):
        here = fold == number
        values.append(_fit(rows[~here], right[~here]))
        after = at_temperature(rows[here], values[-1])
        place = np.arange(len(after))
        confidence[here], of_right[here] = after[place, chosen[here]], after[place, right[here]]
    before = rows[possible, right[possible]]
    with np.errstate(divide="ignore"):
        nll = float(-np.log(of_right[possible]).mean())
    return Tempered(
        _fit(rows, right), tuple(values), bootstrap_ece(np.clip(confidence, 0, 1), correct, bins), nll,
        float(-np.log(before).mean()), np.clip(confidence, 0, 1), correct,
    )  # fmt: skip


def at_temperature(rows: np.ndarray, temperature: float) -> np.ndarray:
    """Returns probabilities `(N, C)` with their logarithms divided by a temperature, renormalised.

    >>> at_temperature(np.array([[0.8, 0.2, 0.0]]), 2).round(3)
    array([[0.667, 0.333, 0.   ]])
    """
    with np.errstate(divide="ignore"):
        scaled = np.log(rows / rows.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(scaled)
    return weights / weights.sum(axis=1, keepdims=True)


def _distributions(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Returns distributions `(N, C)` and the index of the right choice `(N,)`."""
    if answers.probabilities is not None and answers.answer is not None:
        return answers.probabilities, answers.answer
    sure = answers.confidence
    return np.stack([sure, 1 - sure], axis=1), np.where(answers.correct, 0, 1)


def _fit(rows: np.ndarray, right: np.ndarray) -> float:
    if len(rows) > MOST_FITTED:
        some = np.linspace(0, len(rows) - 1, MOST_FITTED).astype(np.intp)
        rows, right = rows[some], right[some]
    try:
        return fit_temperature(rows, right)
    except ValueError:  # no right answer has any mass: nothing to fit
        return 1.0
