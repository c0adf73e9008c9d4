"""Differences between two inputs, paired by question where their ids agree."""

from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.audit.answers import UNKNOWN, Answers
from firstlib.metrics import Interval, bootstrap_difference, paired_bootstrap_difference

RESAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """One input minus another; fractions, with 95 % bootstrap intervals.

    Attributes:
        name: The input.
        baseline: What is subtracted.
        n: Questions that both answered; 0 where they cannot be paired.
        of: Questions of the input and of the baseline.
        paired: Whether both are measured on the same questions, and resampled together.
        ece: A positive one means that the input is less calibrated.
        accuracy: A positive one means that the input is more often right.
        other_answers: Pairs whose right answers differ: choices in another order, or other questions under one id.
    """

    name: str
    baseline: str
    n: int
    of: tuple[int, int]
    paired: bool
    ece: Interval
    accuracy: Interval
    other_answers: int = 0

    @property
    def beyond_chance(self) -> bool:
        """Whether the ECE's interval excludes 0."""
        return self.ece.low > 0 or self.ece.high < 0


def difference(new: Answers, old: Answers, bins: int = 10) -> Difference:
    """Returns the measures of one input minus another's.

    Where questions share ids, only these are compared, each with itself. Otherwise each input is resampled alone.
    """
    a, b = shared(new, old)
    paired = len(a) > 0
    one, other = (new.take(a), old.take(b)) if paired else (new, old)
    ece = paired_bootstrap_difference if paired else bootstrap_difference
    return Difference(
        new.name, old.name, len(a), (len(new), len(old)), paired,
        ece(one.confidence, one.correct, other.confidence, other.correct, bins),
        _accuracy(one.correct, other.correct, paired), _other_answers(new, old, a, b),
    )  # fmt: skip


def shared(new: Answers, old: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of both inputs that are the same questions, in the same order; both `(n,)`."""
    if new.ids is None or old.ids is None:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    _, a, b = np.intersect1d(new.ids, old.ids, assume_unique=True, return_indices=True)
    return a, b


def _other_answers(new: Answers, old: Answers, a: np.ndarray, b: np.ndarray) -> int:
    """Returns how many pairs have different right answers, by index, and by text where both inputs have texts."""
    if new.answer is None or old.answer is None:
        return 0
    one, other = new.answer[a], old.answer[b]
    pairs = np.flatnonzero((one != other) & (one != UNKNOWN) & (other != UNKNOWN))
    if len(new.texts) < len(new) or len(old.texts) < len(old):
        return len(pairs)
    return sum(new.texts[a[i]].choices[one[i]] != old.texts[b[i]].choices[other[i]] for i in pairs)


def _accuracy(new: np.ndarray, old: np.ndarray, paired: bool) -> Interval:
    """Returns the difference of two shares with a normal 95 % interval, of the paired differences where there are."""
    estimate = float(new.mean() - old.mean())
    if paired:
        error = float((new.astype(float) - old).std(ddof=1) / np.sqrt(len(new))) if len(new) > 1 else 1.0
    else:
        error = float(np.sqrt(new.var() / len(new) + old.var() / len(old)))
    reach = 1.959964 * error
    return Interval(estimate, max(estimate - reach, -1.0), min(estimate + reach, 1.0))
