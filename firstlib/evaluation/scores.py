"""What a run reports of a model's answers: one row of numbers. And what is kept of runs over several seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from firstlib.evaluation.predictions import Predictions, Reading
from firstlib.metrics import accuracy, brier, ece, nll, trust
from firstlib.runtime.paths import PROJECT
from firstlib.settings.schema import Measures, Method, Task

KEPT = PROJECT / "data" / "results"


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


def kept(name: str) -> list[dict[str, Any]]:
    """What `make seeds` has kept under this name, one a seed."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob(f"{name}-seed-*.json"))]


def spread(values: Sequence[float]) -> str:
    """Mean of fractions in percent, and the standard deviation between them where there are several.

    >>> spread([0.60, 0.64])
    '62.0 ± 2.8'
    """
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"
