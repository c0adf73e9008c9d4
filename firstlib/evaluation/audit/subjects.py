"""Accuracy and calibration by subject or task, with a correction for looking at many of them."""

from dataclasses import dataclass, replace

import numpy as np

from firstlib.evaluation.audit.answers import Answers
from firstlib.metrics import Interval, ece, holm, noise_draws, share_intervals
from firstlib.runtime.errors import UserError

LEVEL = 0.05  # chance of calling any calibrated subject miscalibrated
MOST_SUBJECTS = 1000
_FEWEST_DRAWS = 1000


@dataclass(frozen=True)
class Subject:
    """One subject or task; fractions.

    Attributes:
        floor: 95th percentile of the ECE of a calibrated model by chance.
        p_value: How often chance gives a calibrated model an ECE as large, corrected for all subjects by Holm's method.
        gap: Mean confidence minus accuracy.
    """

    name: str
    n: int
    accuracy: Interval
    ece: float
    floor: float
    p_value: float
    gap: float

    @property
    def miscalibrated(self) -> bool:
        """Whether its ECE is more than chance."""
        return self.p_value < LEVEL


def by_subject(answers: Answers, bins: int) -> tuple[Subject, ...]:
    """Returns each subject's measures, the largest ECE first; nothing where there are fewer than two subjects.

    Raises:
        UserError: There are too many subjects to be any.
    """
    if answers.groups is None:
        return ()
    names, place = np.unique(answers.groups, return_inverse=True)
    if len(names) < 2:
        return ()
    if len(names) > MOST_SUBJECTS:
        raise UserError(
            f"{answers.name}: has {len(names)} subjects, more than {MOST_SUBJECTS}; name a column of fewer with --by"
        )
    draws = max(_FEWEST_DRAWS, int(2 * len(names) / LEVEL))  # enough that the smallest p-value survives the correction
    order = np.argsort(place, kind="stable")
    parts = [answers.take(rows) for rows in np.split(order, np.cumsum(np.bincount(place))[:-1])]
    shares = share_intervals([part.correct.sum() for part in parts], [len(part) for part in parts])
    whole = zip(names.tolist(), parts, shares, strict=True)
    found = [_measured(str(name), part, share, bins, draws) for name, part, share in whole]
    corrected = holm({one.name: p for one, p in found})
    subjects = [replace(one, p_value=corrected[one.name]) for one, _ in found]
    return tuple(sorted(subjects, key=lambda one: -one.ece))


def p_value(error: float, draws: np.ndarray) -> float:
    """Returns how often chance reaches an error, from its draws: (1 + draws as large) / (1 + draws)."""
    return float((1 + np.count_nonzero(draws >= error)) / (1 + len(draws)))


def _measured(name: str, part: Answers, share: Interval, bins: int, draws: int) -> tuple[Subject, float]:
    error, chance = ece(part.confidence, part.correct, bins), noise_draws(part.confidence, bins, draws)
    floor, gap = float(np.quantile(chance, 0.95)), float(part.confidence.mean()) - share.estimate
    return Subject(name, len(part), share, error, floor, 1.0, gap), p_value(error, chance)
