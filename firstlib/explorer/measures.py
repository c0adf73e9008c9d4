"""What recalibrated targets measure: at one coefficient, and at all that the slider can reach."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from firstlib import metrics
from firstlib.distillation.losses import Tail
from firstlib.distillation.recalibration import GRIDS, Map, recalibrate, search
from firstlib.evaluation.predictions import Predictions
from firstlib.explorer.source import Source
from firstlib.explorer.state import State, positions

MEASURES = ("ece", "smooth_ece", "nll", "brier", "trust")
DRAWS = 200  # of the noise floor: its mean is then within 2 % of that of a thousand draws
ROUNDING = 1e-6  # kept probabilities are float32: less than this left over is nothing left over
REMEMBERED = 64  # settings of the controls whose curves are kept


def targets(answers: Predictions, state: State, vocabulary: int) -> Predictions:
    """The answers of a student that matched the teacher's recalibrated targets exactly.

    What the top K tokens leave over is dealt with as the loss deals with it (`losses.Tail`): `drop` and `ghost` leave
    it out of the candidates, `renormalise` divides by the sum, `smooth` spreads it over the other tokens of the
    vocabulary, `gold` gives it to the right answer. Of all maps only label smoothing leaves anything over.
    """
    found = recalibrate(answers.top_probabilities, state.kind, state.coefficient)
    mass = found.sum(axis=1, keepdims=True)
    if state.tail is Tail.RENORMALISE:
        return answers.under(found / mass)
    moved, residual = answers.under(found), np.where(1 - mass > ROUNDING, 1 - mass, 0)
    if state.tail is Tail.SMOOTH:
        others = max(vocabulary - found.shape[1], 1)
        return _with(moved, moved.probabilities + _outside(answers) * residual / others)
    if state.tail is Tail.GOLD:
        right = np.arange(answers.candidate_ids.shape[1]) == answers.answer[:, None]
        return _with(moved, np.minimum(moved.probabilities + right * residual, 1))
    return moved


@dataclass(frozen=True)
class Measures:
    """One number to a measure; fractions, `nll` in nats, `brier` summed over candidates.

    Attributes:
        nll: Mean over the questions whose right answer has any probability at all.
        ruled_out: Number of the others: the teacher's top K do not hold their right answer, and over all questions
            NLL would be infinite.
    """

    n: int
    accuracy: float
    ece: float
    smooth_ece: float
    nll: float
    brier: float
    trust: float
    ruled_out: int


def measure(found: Predictions, state: State) -> Measures:
    """Every measure of one set of answers."""
    confidence, correct = found.confidence(state.reading), found.correct()
    rows = found.shares() if state.reading == "candidates" else found.probabilities
    error = metrics.ece(confidence, correct, state.bins)
    accuracy = metrics.accuracy(correct)
    possible = rows[np.arange(len(rows)), found.answer] > 0
    return Measures(
        n=len(found),
        accuracy=accuracy,
        ece=error,
        smooth_ece=metrics.smooth_ece(confidence, correct),
        nll=metrics.nll(rows[possible], found.answer[possible]) if possible.any() else float("nan"),
        brier=metrics.brier(rows, found.answer),
        trust=metrics.trust(accuracy, error),
        ruled_out=int((~possible).sum()),
    )


@dataclass(frozen=True, eq=False)
class Curves:
    """Every measure over the slider's whole length, each `(A,)`; `floor` is the ECE that chance alone would give."""

    coefficients: np.ndarray
    ece: np.ndarray
    smooth_ece: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    trust: np.ndarray
    floor: np.ndarray

    def best(self, name: str) -> float:
        """Where a measure has its optimum; of equals the smallest coefficient."""
        values = getattr(self, name)
        if np.isnan(values).all():
            return float("nan")
        return float(self.coefficients[np.nanargmax(values) if name == "trust" else np.nanargmin(values)])

    def at(self, name: str, coefficient: float) -> float:
        """A measure's value at a coefficient, between two positions by a straight line."""
        return float(np.interp(coefficient, self.coefficients, getattr(self, name)))


def curves(source: Source, state: State) -> Curves:
    """The measures at every position of the slider; remembered, for they do not depend on where it stands."""
    return _curves(source, _anywhere(state))


@dataclass(frozen=True)
class Gap:
    """The optimism of a coefficient that was fitted on validation.

    Attributes:
        coefficient: What the paper's two-step search finds on validation.
        validation: ECE there, on the questions it was fitted on.
        test: ECE there, on questions it has not seen.
        best: The lowest ECE that any coefficient has on test.
    """

    coefficient: float
    validation: float
    test: float
    best: float

    @property
    def optimism(self) -> float:
        """By how much the fit looks better than it is; a fraction."""
        return self.test - self.validation


def gap(source: Source, state: State) -> Gap:
    """What fitting on validation is worth on test."""
    return _gap(source, _anywhere(state.change(split="validation")))


def ece_curve(source: Source, state: State) -> np.ndarray:
    """ECE alone at every position, `(A,)`; remembered."""
    return _ece_curve(source, _anywhere(state))


@lru_cache(maxsize=REMEMBERED)
def _curves(source: Source, state: State) -> Curves:
    answers, places = source.answers(state.task, state.split), positions(state.kind)
    lines = []
    for place in places:
        found = targets(answers, state.change(coefficient=float(place)), source.vocabulary)
        measured = measure(found, state)
        floor = metrics.noise_floor(found.confidence(state.reading), state.bins, DRAWS).mean
        lines.append([*(getattr(measured, name) for name in MEASURES), floor])
    return Curves(places, *np.array(lines).T)


@lru_cache(maxsize=REMEMBERED)
def _ece_curve(source: Source, state: State) -> np.ndarray:
    answers = source.answers(state.task, state.split)
    found = (targets(answers, state.change(coefficient=float(c)), source.vocabulary) for c in positions(state.kind))
    return np.array([metrics.ece(one.confidence(state.reading), one.correct(), state.bins) for one in found])


@lru_cache(maxsize=REMEMBERED)
def _gap(source: Source, state: State) -> Gap:
    return gap_between(state.kind, ece_curve(source, state), ece_curve(source, state.change(split="test")))


def gap_between(kind: Map, validation: np.ndarray, test: np.ndarray) -> Gap:
    """The gap from ECE at every position of the slider, `(A,)`, on either split."""
    places = positions(kind)
    at = int(validation.argmin())
    if kind in GRIDS:
        best = search(lambda c: float(validation[_place(places, c)]), GRIDS[kind]).best
        at = _place(places, best)
    return Gap(float(places[at]), float(validation[at]), float(test[at]), float(test.min()))


def _place(places: np.ndarray, coefficient: float) -> int:
    return int(np.abs(places - coefficient).argmin())


def _anywhere(state: State) -> State:
    """The state without what a curve does not depend on."""
    return State(state.task, state.split, state.kind, reading=state.reading, tail=state.tail, bins=state.bins)


def _with(found: Predictions, probabilities: np.ndarray) -> Predictions:
    return Predictions(**{**found.as_dict(), "probabilities": probabilities})


def _outside(answers: Predictions) -> np.ndarray:
    """`(N, C)` bool: the candidates that are not among the top K."""
    among = (answers.candidate_ids[:, :, None] == answers.top_ids[:, None, :]).any(axis=2)
    return ~among & (answers.candidate_ids >= 0)
