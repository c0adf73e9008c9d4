"""The measures of a model's answers to one test set that a card shows, and the same in words."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Scores, evaluate
from firstlib.metrics import (
    Interval,
    NoiseFloor,
    Reliability,
    bootstrap_ece,
    clopper_pearson,
    noise_floor,
    smooth_ece,
)
from firstlib.results.export.markdown import counted, escaped, percent
from firstlib.settings.schema import Measures, Task

# The most that rounding changes a probability between the experiment's student and the exported one.
TOLERANCE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1}


@dataclass(frozen=True)
class Measured:
    """What a card shows of one test set; fractions.

    Attributes:
        name: Of the test set, with its setting.
        guessing: Accuracy of a blind guess.
        interval: 95 % bootstrap interval of the ECE.
        noise_floor: ECE that a perfectly calibrated model would have by chance.
    """

    name: str
    guessing: float
    scores: Scores
    interval: Interval
    smooth_ece: float
    noise_floor: NoiseFloor
    reliability: Reliability


def measure(found: Predictions, name: str, measures: Measures) -> Measured:
    """Returns everything that a card shows of the answers to one test set."""
    confidence, correct, bins = found.confidence(measures.confidence), found.correct(), measures.bins
    return Measured(
        name=name,
        guessing=float((1 / (found.candidate_ids >= 0).sum(axis=1)).mean()),
        scores=evaluate(found, measures),
        interval=bootstrap_ece(confidence, correct, bins),
        smooth_ece=smooth_ece(confidence, correct),
        noise_floor=noise_floor(confidence, bins),
        reliability=found.reliability(measures.confidence, bins),
    )


@dataclass(frozen=True)
class Repeat:
    """One test set: the answers that the experiment stores, and those of the exported folder.

    Attributes:
        kept: The experiment's answers.
        found: The exported model's.
        before: The measures of `kept`.
        after: The measures of `found`.
    """

    test: Task
    kept: Predictions
    found: Predictions
    before: Measured
    after: Measured

    @property
    def largest(self) -> float:
        """Largest difference of a candidate's probability, in the vocabulary or among the candidates."""
        probabilities = self.found.probabilities - self.kept.probabilities
        return float(max(np.abs(probabilities).max(), np.abs(self.found.shares() - self.kept.shares()).max()))

    @property
    def changed(self) -> int:
        """Number of answers that differ."""
        return int((self.found.predicted() != self.kept.predicted()).sum())


def in_plain_words(one: Measured) -> str:
    """Returns where answers are over- or under-confident, by how much, and whether chance explains it."""
    scores = one.scores
    gap = percent(abs(scores.confidence - scores.accuracy))
    direction = "over-confident" if scores.confidence > scores.accuracy else "under-confident"
    return " ".join(
        [
            f"On {escaped(one.name)}, its mean confidence is {percent(scores.confidence)} % and it answers "
            f"{percent(scores.accuracy)} % of {counted(scores.n, 'question')} correctly: "
            + (f"it is {direction} by {gap} points." if gap != "0.0" else "it is calibrated on average."),
            _parts(one.reliability),
            _chance(one),
            *_against_guessing(one),
        ]
    )


def _parts(found: Reliability) -> str:
    over, under = (float(np.nansum(found.weight * part)) for part in (found.over_confidence, found.under_confidence))
    worst = int(np.nanargmax(found.weight * np.abs(found.confidence - found.accuracy)))
    confidence, accuracy = found.confidence[worst], found.accuracy[worst]
    low, high = 100 * found.edges[worst], 100 * found.edges[worst + 1]
    return (
        f"Over-confidence contributes {percent(over)} points to its ECE and under-confidence {percent(under)}. The bin "
        f"from {low:.3g} to {high:.3g} % ({counted(found.count[worst], 'answer')}) contributes most: its accuracy is "
        f"{percent(abs(confidence - accuracy))} points {'below' if confidence > accuracy else 'above'} its confidence."
    )


def _chance(one: Measured) -> str:
    limit = f"{percent(one.noise_floor.percentile_95)} %"
    if one.scores.ece <= one.noise_floor.percentile_95:
        return f"Chance may explain its ECE: on so many questions, a perfectly calibrated model has up to {limit}."
    return f"Chance does not explain its ECE: on so many questions, a perfectly calibrated model has up to {limit}."


def _against_guessing(one: Measured) -> Iterator[str]:
    low, high = (float(end[0]) for end in clopper_pearson([round(one.scores.accuracy * one.scores.n)], [one.scores.n]))
    if high < one.guessing:
        yield f"It is worse than guessing, which is right in {percent(one.guessing)} % of the cases."
    elif low <= one.guessing:
        yield f"It is not significantly better than guessing, which is right in {percent(one.guessing)} % of the cases."
