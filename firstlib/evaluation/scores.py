"""The measures of one model's answers, computed in one place for tables, reports, cards and the explorer."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.truth import AgainstTruth
from firstlib.metrics import accuracy, brier, ece, nll, selective_accuracy, trust
from firstlib.settings.schema import Measures, Reading


@dataclass(frozen=True)
class Scores:
    """Accuracy, calibration and proper scores of N answers; fractions, nats for `nll`.

    Attributes:
        confidence: Mean over the answers.
        aurc: Area under the risk-coverage curve, 0 is best: how well confidence tells right answers from wrong ones.
        trust: Accuracy minus ECE.
        nll: Of the candidates' shares, whatever the reading of confidence.
        brier: Likewise, summed over candidates.
    """

    n: int
    accuracy: float
    ece: float
    trust: float
    nll: float
    brier: float
    confidence: float
    aurc: float


def evaluate(found: Predictions, measures: Measures, reading: Reading | None = None) -> Scores:
    """Returns the measures of a model's answers.

    Args:
        found: N answers.
        measures: Bins of the ECE, and the reading of confidence where `reading` is None.
        reading: Confidence as a share among the candidates, or as a probability in the vocabulary.
    """
    correct, shares = found.correct(), found.shares()
    confidence = found.confidence(reading or measures.confidence)
    right, error = accuracy(correct), ece(confidence, correct, measures.bins)
    return Scores(
        n=len(found),
        accuracy=right,
        ece=error,
        trust=trust(right, error),
        nll=nll(shares, found.answer),
        brier=brier(shares, found.answer),
        confidence=float(confidence.mean()),
        aurc=selective_accuracy(confidence, correct).area,
    )


def nll_of_possible(found: Predictions, reading: Reading = "candidates") -> tuple[float, int]:
    """Returns the mean NLL in nats over the answers that are not ruled out, and how many are.

    An answer is ruled out where its right candidate has no mass, as recalibrated targets leave it outside the top k:
    over all answers the NLL would be infinite. NaN where every answer is ruled out.
    """
    rows = found.shares() if reading == "candidates" else found.probabilities
    possible = rows[np.arange(len(rows)), found.answer] > 0
    mean = nll(rows[possible], found.answer[possible]) if possible.any() else float("nan")
    return mean, int((~possible).sum())


@dataclass(frozen=True)
class Row:
    """One line of the results table: a method on a test set, where possible also beside the exact posterior."""

    method: str
    setting: str
    dataset: str
    scores: Scores
    truth: AgainstTruth | None = None

    def flat(self) -> dict[str, Any]:
        """Returns the line as `results.json` holds it."""
        place = {"method": self.method, "setting": self.setting, "dataset": self.dataset}
        return {**place, **asdict(self.scores), **(asdict(self.truth) if self.truth else {})}

    @property
    def accuracy(self) -> float:
        """A fraction."""
        return self.scores.accuracy

    @property
    def ece(self) -> float:
        """A fraction."""
        return self.scores.ece
