"""Measures of recalibrated targets: at one coefficient, and at every position of the slider."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from firstlib import metrics
from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map, recalibrate
from firstlib.distillation.search import GRIDS, search
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import evaluate, nll_of_possible
from firstlib.explorer.source import ExplorerSource
from firstlib.explorer.state import State, positions
from firstlib.settings.schema import Measures

MEASURES = ("ece", "smooth_ece", "nll", "brier", "trust")
DRAWS = 200  # of the noise floor; its mean is then within 2 % of that of a thousand draws
ROUNDING = 1e-6  # stored probabilities are float32, so a smaller residual counts as none
REMEMBERED = 64  # settings of the controls whose curves are cached


def targets(answers: Predictions, state: State, vocabulary: int) -> Predictions:
    """Returns the answers of a student that matched the teacher's recalibrated targets exactly.

    The tail treats the mass that the top K tokens leave over as the loss does (`options.Tail`): `drop` and `ghost` give
    it to no candidate, `renormalise` divides by the sum, `smooth` spreads it over the other tokens of the vocabulary,
    and `gold` gives it to the right answer. Only label smoothing leaves any mass over.
    """
    if answers.log_probabilities is not None:  # of several tokens only shares can be recalibrated, as the search does
        return answers.with_shares(lambda rows: recalibrate(rows, state.kind, state.coefficient))
    found = recalibrate(answers.top_probabilities, state.kind, state.coefficient)
    mass = found.sum(axis=1, keepdims=True)
    if state.tail is Tail.RENORMALISE:
        return answers.under(found / mass)
    moved, residual = answers.under(found), np.where(1 - mass > ROUNDING, 1 - mass, 0)
    if state.tail is Tail.SMOOTH:
        others = max(vocabulary - found.shape[1], 1)
        return replace(moved, probabilities=moved.probabilities + _outside(answers) * residual / others)
    if state.tail is Tail.GOLD:
        right = np.arange(answers.candidate_ids.shape[1]) == answers.answer[:, None]
        return replace(moved, probabilities=np.minimum(moved.probabilities + right * residual, 1))
    return moved


def _outside(answers: Predictions) -> np.ndarray:
    """`(N, C)` bool: the candidates that are not among the top K."""
    among = (answers.candidate_ids[:, :, None] == answers.top_ids[:, None, :]).any(axis=2)
    return ~among & (answers.candidate_ids >= 0)


@dataclass(frozen=True)
class TargetMeasures:
    """Measures of N recalibrated answers: fractions, nats for `nll`.

    Attributes:
        nll: Mean over the questions whose right answer has a probability above 0.
        brier: Of the candidates' shares, whatever the reading of confidence; summed over candidates.
        ruled_out: Number of the other questions; their right answer is not among the teacher's top K, so NLL over all
            questions would be infinite.
    """

    n: int
    accuracy: float
    ece: float
    smooth_ece: float
    nll: float
    brier: float
    trust: float
    ruled_out: int


def measure(found: Predictions, state: State) -> TargetMeasures:
    """Returns the measures of answers, with the state's reading of confidence and number of bins."""
    scores = evaluate(found, Measures(confidence=state.reading, bins=state.bins))
    likelihood, ruled_out = nll_of_possible(found, state.reading)
    return TargetMeasures(
        n=scores.n,
        accuracy=scores.accuracy,
        ece=scores.ece,
        smooth_ece=metrics.smooth_ece(found.confidence(state.reading), found.correct()),
        nll=likelihood,
        brier=scores.brier,
        trust=scores.trust,
        ruled_out=ruled_out,
    )


@dataclass(frozen=True, eq=False)
class Curves:
    """Each measure at every position of the slider, `(A,)`; `floor` is the mean ECE that chance alone would give."""

    coefficients: np.ndarray
    ece: np.ndarray
    smooth_ece: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    trust: np.ndarray
    floor: np.ndarray

    def best(self, name: str) -> float:
        """Returns the coefficient at a measure's optimum; of equal ones the smallest, and nan if there is none."""
        values = getattr(self, name)
        if np.isnan(values).all():
            return float("nan")
        return float(self.coefficients[np.nanargmax(values) if name == "trust" else np.nanargmin(values)])

    def at(self, name: str, coefficient: float) -> float:
        """Returns a measure's value at a coefficient, interpolated linearly between positions."""
        return float(np.interp(coefficient, self.coefficients, getattr(self, name)))


def curves(source: ExplorerSource, state: State) -> Curves:
    """Returns the measures at every position of the slider; cached, because they do not depend on its position."""
    return _curves(source, _without_position(state))


@dataclass(frozen=True)
class Gap:
    """How much better a coefficient looks on the questions that it was fitted on than on others; fractions.

    Attributes:
        coefficient: The result of the paper's two-step search on validation questions.
        validation: ECE on these questions.
        test: ECE on test questions, with the same coefficient.
        best: The lowest ECE that any coefficient has on test questions.
    """

    coefficient: float
    validation: float
    test: float
    best: float

    @property
    def optimism(self) -> float:
        """ECE on test minus ECE on validation questions; a fraction."""
        return self.test - self.validation


def gap(source: ExplorerSource, state: State) -> Gap:
    """Returns how much of the fit on validation remains on test questions; cached."""
    return _gap(source, _without_position(state.change(split="validation")))


def ece_curve(source: ExplorerSource, state: State) -> np.ndarray:
    """Returns ECE alone at every position, `(A,)`; cached."""
    return _ece_curve(source, _without_position(state))


@lru_cache(maxsize=REMEMBERED)
def _curves(source: ExplorerSource, state: State) -> Curves:
    answers, places = source.answers(state.task, state.split), positions(state.kind)
    lines = []
    for place in places:
        found = targets(answers, state.change(coefficient=float(place)), source.vocabulary)
        measured = measure(found, state)
        floor = metrics.noise_floor(found.confidence(state.reading), state.bins, DRAWS).mean
        lines.append([*(getattr(measured, name) for name in MEASURES), floor])
    return Curves(places, *np.array(lines).T)


@lru_cache(maxsize=REMEMBERED)
def _ece_curve(source: ExplorerSource, state: State) -> np.ndarray:
    answers = source.answers(state.task, state.split)
    found = (targets(answers, state.change(coefficient=float(c)), source.vocabulary) for c in positions(state.kind))
    return np.array([metrics.ece(one.confidence(state.reading), one.correct(), state.bins) for one in found])


@lru_cache(maxsize=REMEMBERED)
def _gap(source: ExplorerSource, state: State) -> Gap:
    return gap_between(state.kind, ece_curve(source, state), ece_curve(source, state.change(split="test")))


def gap_between(kind: Map, validation: np.ndarray, test: np.ndarray) -> Gap:
    """Returns the gap, given ECE `(A,)` at every position of the slider on validation and on test questions."""
    places = positions(kind)
    at = int(validation.argmin())
    if kind in GRIDS:
        best = search(lambda c: float(validation[_place(places, c)]), GRIDS[kind]).best
        at = _place(places, best)
    return Gap(float(places[at]), float(validation[at]), float(test[at]), float(test.min()))


def _place(places: np.ndarray, coefficient: float) -> int:
    return int(np.abs(places - coefficient).argmin())


def _without_position(state: State) -> State:
    """Returns the state with only those controls set that a curve depends on."""
    return State(state.task, state.split, state.kind, reading=state.reading, tail=state.tail, bins=state.bins)
