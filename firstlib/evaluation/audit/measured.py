"""Everything that an audit measures of one model's answers."""

from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.audit.answers import UNKNOWN, Answers
from firstlib.evaluation.audit.calibration_errors import CalibrationErrors, calibration_errors
from firstlib.evaluation.audit.subjects import Subject, by_subject
from firstlib.evaluation.audit.tempered import Tempered, cross_fitted
from firstlib.metrics import (
    Interval,
    NoiseFloor,
    Reliability,
    Selective,
    bootstrap_ece,
    clopper_pearson,
    noise_floor,
    reliability,
    selective_accuracy,
    share_interval,
)

WANTED = 0.9  # share of right answers for which a confidence is named


@dataclass(frozen=True)
class Loss:
    """Negative log-likelihood in nats, over the answers that are not ruled out.

    Attributes:
        of_choices: Whether it is the right choice's; else that of being right or wrong, from confidences alone.
        ruled_out: Answers whose truth has probability 0, which would make the mean infinite.
        unknown: Answers whose right choice the input does not tell.
    """

    value: float
    of_choices: bool
    ruled_out: int
    unknown: int


@dataclass(frozen=True, eq=False)
class Measured:
    """One input's measures; fractions but for `loss`.

    Attributes:
        accuracy: With its 95 % interval over questions (Clopper and Pearson).
        confidence: Mean over the answers.
        ece: With its 95 % bootstrap interval.
        floor: The ECE that chance gives a calibrated model with these confidences.
        errors: Other measures of calibration, and the ECE by other libraries' conventions.
        diagram: Accuracy by confidence; `low` and `high` `(B,)` are the ends of each bin's 95 % interval.
        selective: Accuracy among the most confident answers.
        sure: The lowest confidence from which 90 % of the answers are right; NaN where there is none.
        answered: Share of the questions with at least that confidence.
        right: Share of those that are right, with its 95 % interval (Clopper and Pearson); None where there are none.
        tempered: What one temperature would do; None where it cannot be told.
    """

    answers: Answers
    bins: int
    accuracy: Interval
    confidence: float
    ece: Interval
    floor: NoiseFloor
    errors: CalibrationErrors
    loss: Loss
    diagram: Reliability
    low: np.ndarray
    high: np.ndarray
    selective: Selective
    sure: float
    answered: float
    right: Interval | None
    tempered: Tempered | None
    subjects: tuple[Subject, ...]

    @property
    def name(self) -> str:
        """What tables call the input."""
        return self.answers.name

    @property
    def n(self) -> int:
        """Number of answers."""
        return len(self.answers)

    @property
    def gap(self) -> float:
        """Mean confidence minus accuracy: above 0, the model is over-confident."""
        return self.confidence - self.accuracy.estimate

    @property
    def above_chance(self) -> bool:
        """Whether the ECE can be told from that of a calibrated model."""
        return self.ece.estimate > self.floor.percentile_95


def measure(answers: Answers, bins: int = 10) -> Measured:
    """Returns every measure of one input.

    Raises:
        ValueError: The number of bins is below 1.
        UserError: The answers have too many subjects.
    """
    confidence, correct = answers.confidence, answers.correct
    diagram, selective = reliability(confidence, correct, bins), selective_accuracy(confidence, correct)
    low, high = clopper_pearson(np.nan_to_num(diagram.accuracy * diagram.count).round(), diagram.count)
    sure = selective.confidence_for(WANTED)
    among = correct[confidence >= sure]  # nothing is above nan
    return Measured(
        answers, bins,
        accuracy=share_interval(int(correct.sum()), len(correct)),
        confidence=float(confidence.mean()),
        ece=bootstrap_ece(confidence, correct, bins),
        floor=noise_floor(confidence, bins),
        errors=calibration_errors(confidence, correct, bins),
        loss=_loss(answers),
        diagram=diagram, low=low, high=high, selective=selective, sure=sure,
        answered=len(among) / len(correct),
        right=share_interval(int(among.sum()), len(among)) if len(among) else None,
        tempered=cross_fitted(answers, bins),
        subjects=by_subject(answers, bins),
    )  # fmt: skip


def _loss(answers: Answers) -> Loss:
    of_choices = answers.probabilities is not None and answers.answer is not None
    if answers.probabilities is not None and answers.answer is not None:
        known = answers.answer != UNKNOWN
        truth = answers.probabilities[known, answers.answer[known]]
    else:
        truth = np.where(answers.correct, answers.confidence, 1 - answers.confidence)
    possible = truth > 0
    value = float(-np.log(truth[possible]).mean()) if possible.any() else float("nan")
    return Loss(value + 0.0, of_choices, int((~possible).sum()), len(answers) - len(truth))
