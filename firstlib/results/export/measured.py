"""What is said of a model's answers to one test set: the numbers, and the same in plain words."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.predictions import Predictions, Reading
from firstlib.metrics import (
    Interval,
    NoiseFloor,
    Reliability,
    accuracy,
    bootstrap_ece,
    brier,
    clopper_pearson,
    ece,
    nll,
    noise_floor,
    smooth_ece,
    trust,
)
from firstlib.results.export.markdown import counted, escaped, percent
from firstlib.settings.schema import Task

# How far a probability may move between what was measured and what was exported: rounding alone.
TOLERANCE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1}


@dataclass(frozen=True)
class Measured:
    """What a card says of one test set; fractions, nats for `nll`.

    Attributes:
        name: of the test set, and the setting it stands for.
        guessing: accuracy of a blind guess.
        confidence: the mean over questions.
        interval: of the ECE, 95 %.
    """

    name: str
    n: int
    guessing: float
    confidence: float
    accuracy: float
    ece: float
    interval: Interval
    smooth_ece: float
    noise_floor: NoiseFloor
    trust: float
    nll: float
    brier: float
    reliability: Reliability


def measure(found: Predictions, name: str, reading: Reading, bins: int) -> Measured:
    """Everything that a card says of the answers to one test set."""
    confidence, correct, shares = found.confidence(reading), found.correct(), found.shares()
    right, error = accuracy(correct), ece(confidence, correct, bins)
    return Measured(
        name=name,
        n=len(found),
        guessing=float((1 / (found.candidate_ids >= 0).sum(axis=1)).mean()),
        confidence=float(confidence.mean()),
        accuracy=right,
        ece=error,
        interval=bootstrap_ece(confidence, correct, bins),
        smooth_ece=smooth_ece(confidence, correct),
        noise_floor=noise_floor(confidence, bins),
        trust=trust(right, error),
        nll=nll(shares, found.answer),
        brier=brier(shares, found.answer),
        reliability=found.reliability(reading, bins),
    )


@dataclass(frozen=True)
class Repeat:
    """One test set asked of an exported folder, beside what the experiment kept of the student."""

    test: Task
    kept: Predictions
    found: Predictions
    before: Measured
    after: Measured

    @property
    def largest(self) -> float:
        """By how much a candidate's probability differs at most, in the vocabulary or among the candidates."""
        probabilities = self.found.probabilities - self.kept.probabilities
        return float(max(np.abs(probabilities).max(), np.abs(self.found.shares() - self.kept.shares()).max()))

    @property
    def changed(self) -> int:
        """How many answers differ."""
        return int((self.found.predicted() != self.kept.predicted()).sum())


def in_plain_words(one: Measured) -> str:
    """Where answers are over- or under-confident, by how much, and whether that is more than luck."""
    gap = one.confidence - one.accuracy
    direction = "over-confident" if gap > 0 else "under-confident"
    mean = f"{direction} by {percent(abs(gap))} points" if percent(abs(gap)) != "0.0" else "calibrated on average"
    return " ".join(
        [
            f"On {escaped(one.name)}, it says {percent(one.confidence)} % on average and is right in "
            f"{percent(one.accuracy)} % of {counted(one.n, 'question')}: {mean}.",
            _parts(one.reliability),
            _luck(one),
            *_against_guessing(one),
        ]
    )


def _parts(found: Reliability) -> str:
    over, under = (float(np.nansum(found.weight * part)) for part in (found.over_confidence, found.under_confidence))
    worst = int(np.nanargmax(found.weight * np.abs(found.confidence - found.accuracy)))
    said, right = found.confidence[worst], found.accuracy[worst]
    low, high = 100 * found.edges[worst], 100 * found.edges[worst + 1]
    return (
        f"Of its ECE, {percent(over)} points are over-confidence and {percent(under)} under-confidence; what weighs "
        f"most is the bin from {low:.3g} to {high:.3g} % ({counted(found.count[worst], 'answer')}), which is right "
        f"{percent(abs(said - right))} points {'less' if said > right else 'more'} often than it says."
    )


def _luck(one: Measured) -> str:
    limit = f"{percent(one.noise_floor.percentile_95)} %"
    if one.ece <= one.noise_floor.percentile_95:
        return f"That may be luck: with so many questions a perfectly calibrated model would show up to {limit}."
    return f"That is more than luck: a perfectly calibrated model would show up to {limit}."


def _against_guessing(one: Measured) -> Iterator[str]:
    low, high = (float(end[0]) for end in clopper_pearson([round(one.accuracy * one.n)], [one.n]))
    if high < one.guessing:
        yield f"It is worse than guessing, which is right in {percent(one.guessing)} %."
    elif low <= one.guessing:
        yield f"It cannot be told from guessing, which is right in {percent(one.guessing)} %."
