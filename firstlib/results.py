"""What a run reports of a model's answers: one row of numbers."""

from dataclasses import dataclass

from firstlib.answers import Predictions, Reading
from firstlib.metrics import accuracy, brier, ece, nll, trust
from firstlib.settings import Measures, Method, Task


@dataclass(frozen=True)
class Row:
    """One line of the results table; fractions, nats for `nll`."""

    method: Method
    setting: str
    dataset: Task
    n: int
    accuracy: float
    ece: float
    trust: float
    nll: float
    brier: float


def scores(found: Predictions, measures: Measures, reading: Reading | None = None) -> dict[str, float]:
    """All measures of one model's answers; fractions, nats for `nll`.

    Args:
        found: the answers.
        measures: how confidence is binned, and read where `reading` does not say.
        reading: confidence among the candidates or in the whole vocabulary.
    """
    correct, shares = found.correct(), found.shares()
    right, error = accuracy(correct), ece(found.confidence(reading or measures.confidence), correct, measures.bins)
    return {
        "accuracy": right,
        "ece": error,
        "trust": trust(right, error),
        "nll": nll(shares, found.answer),
        "brier": brier(shares, found.answer),
    }
