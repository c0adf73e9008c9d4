"""Which choice of a logged question is right.

A log of lm-evaluation-harness writes the right answer as text that may be an index or the text of a choice; for some
tasks (Winogrande) it tells neither. The log's own `acc` decides between these readings of it.
"""

import ast
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from firstlib.evaluation.audit.answers import UNKNOWN


class Judged(Protocol):
    """What is needed of a logged question."""

    @property
    def scores(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def choices(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def acc(self) -> bool | None: ...  # noqa: D102
    @property
    def acc_norm(self) -> bool | None: ...  # noqa: D102


def right_choices(samples: Sequence[Judged], chosen: np.ndarray) -> np.ndarray:
    """Returns the index of each question's right choice `(N,)`, or `UNKNOWN`.

    Takes the index `(N,)` of each question's most probable choice. The target is read as an index or as a text,
    whichever agrees with `acc` in more questions; where it is neither, `acc` itself tells the right choice if the
    chosen one is right, or if there are only two.
    """
    judged = [sample.acc for sample in samples]
    readings = [np.array([read(sample) for sample in samples]) for read in (_as_index, _as_text)]
    best = max(readings, key=lambda one: int((agrees(chosen, one, judged) & (one != UNKNOWN)).sum()))
    return np.where(best != UNKNOWN, best, _from_judgement(samples, chosen))


def agrees(chosen: np.ndarray, answer: np.ndarray, judged: Sequence[bool | None]) -> np.ndarray:
    """Returns whether each log's judgement fits its right choice, `(N,)`; unknown ones always do.

    A question with neither a right choice nor a judgement does not.
    """
    known = np.array([verdict is not None for verdict in judged])
    right = np.array([bool(verdict) for verdict in judged])
    fits = ~known | ((chosen == answer) == right)
    return np.where(answer == UNKNOWN, known, fits)


def per_character(samples: Sequence[Judged], answer: np.ndarray) -> np.ndarray:
    """Returns log-probabilities per character of the choice, `(N, C)`, minus infinity where there is no choice.

    The harness counts the choice without the space before it, which the log includes. Whether there was one follows
    from the log's `acc_norm`, where the log has it.
    """
    judged = [sample.acc_norm for sample in samples]
    tried = [_divided(samples, strip) for strip in (True, False)]
    return max(tried, key=lambda scores: int(agrees(scores.argmax(axis=1), answer, judged).sum()))


def _divided(samples: Sequence[Judged], strip: bool) -> np.ndarray:
    table = np.full((len(samples), max(len(sample.scores) for sample in samples)), -np.inf)
    for place, sample in enumerate(samples):
        lengths = [max(1, len(choice) - (strip and choice[:1].isspace())) for choice in sample.choices]
        table[place, : len(lengths)] = np.array(sample.scores) / lengths
    return table


def _as_index(sample: Judged) -> int:
    text = sample.target.strip()
    index = int(text) if text.isdecimal() and len(text) < 4 else UNKNOWN
    return index if index < len(sample.choices) else UNKNOWN


def _as_text(sample: Judged) -> int:
    choices = [choice.strip() for choice in sample.choices]
    wanted = sample.target.strip()
    return choices.index(wanted) if choices.count(wanted) == 1 else UNKNOWN


def _from_judgement(samples: Sequence[Judged], chosen: np.ndarray) -> np.ndarray:
    found = np.full(len(samples), UNKNOWN)
    for place, sample in enumerate(samples):
        if _several(sample.target) or sample.acc is None:
            continue
        if sample.acc:
            found[place] = chosen[place]
        elif len(sample.scores) == 2:
            found[place] = 1 - chosen[place]
    return found


def _several(target: str) -> bool:
    """Whether a question has several right choices, which the harness writes as a list."""
    try:
        return isinstance(ast.literal_eval(target), list) if target.startswith("[") else False
    except (ValueError, SyntaxError):
        return False
