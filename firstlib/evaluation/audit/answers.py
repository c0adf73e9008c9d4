"""What every reader of an audit returns: confidences and whether each answer is right, with what else is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from firstlib.runtime.errors import UserError

Reading = Literal["candidates", "acc_norm", "vocabulary"]
READINGS: tuple[str, ...] = get_args(Reading)
SHOWN = 3  # rows named in a message
UNKNOWN = -1  # the index of a right answer that the input does not tell


class Shown(NamedTuple):
    """The texts of one question, for a page: what was asked, and the choices."""

    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Lost:
    """Rows that could not be used.

    Attributes:
        count: How many.
        total: How many rows there are, usable ones included.
        examples: The first of them with the reason, one text each.
    """

    count: int = 0
    total: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers to N questions of up to C choices, in one reading of confidence.

    Attributes:
        name: What tables and figures call the model.
        kind: What the input is, in words.
        reading: How probabilities were read, as the option names it.
        confidence: `(N,)`, the probability of the chosen answer.
        correct: `(N,)` bool.
        probabilities: `(N, C)`, each choice's; 0 where a question has fewer choices. None: the input has confidences.
        answer: `(N,)`, index of the right choice, or `UNKNOWN`. None where `probabilities` is.
        ids: `(N,)` texts that name the questions, by which inputs are paired. None: the input has none.
        groups: `(N,)` texts: the subject or task of each question. None: the input has none.
        texts: `(N,)`, questions as they were asked; empty where the input has none.
        lost: Rows left out.
        notes: What a reader of the numbers should know about how they were read; one sentence each.
    """

    name: str
    kind: str
    reading: Reading
    confidence: np.ndarray
    correct: np.ndarray
    probabilities: np.ndarray | None = None
    answer: np.ndarray | None = None
    ids: np.ndarray | None = None
    groups: np.ndarray | None = None
    texts: Sequence[Shown] = ()
    lost: Lost = Lost()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, rows: np.ndarray) -> "Answers":
        """Returns the answers of some rows, in their order, without texts."""

        def some(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        return replace(
            self, confidence=self.confidence[rows], correct=self.correct[rows], texts=(),
            probabilities=some(self.probabilities), answer=some(self.answer), ids=some(self.ids),
            groups=some(self.groups),
        )  # fmt: skip

    def named(self, name: str) -> "Answers":
        """Returns the answers under another name."""
        return replace(self, name=name)


def of_probabilities(probabilities: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns confidence and correctness, both `(N,)`: the first of the most probable choices is the one chosen."""
    chosen = probabilities.argmax(axis=1)
    return np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0], chosen == answer


def refuse_acc_norm(reading: str | None) -> None:
    """Checks that a reading needs no lengths of choices, for answers that have none.

    Raises:
        UserError: It is `acc_norm`.
    """
    if reading == "acc_norm":
        raise UserError(
            "reading acc_norm: only logs of lm-evaluation-harness and models with --candidates text have it; use "
            "candidates or vocabulary"
        )


def check_reading(reading: str) -> Reading:
    """Returns the reading; lm-evaluation-harness's `acc` is another name of `candidates`.

    Raises:
        UserError: There is no such reading.
    """
    wanted = "candidates" if reading == "acc" else reading
    for known in get_args(Reading):
        if known == wanted:
            return known
    raise UserError(f"reading: must be one of {', '.join(READINGS)}, not {reading!r}")


def joined(name: str, parts: Sequence[Answers]) -> Answers:
    """Returns the answers of several files of one model as one input; choices are padded to the widest question."""
    first = parts[0]
    if len(parts) == 1:
        return first.named(name)
    lost = Lost(
        sum(part.lost.count for part in parts),
        sum(part.lost.total for part in parts),
        tuple(text for part in parts for text in part.lost.examples)[:SHOWN],
    )
    texts = [text for part in parts for text in part.texts] if all(len(p.texts) == len(p) for p in parts) else ()
    return Answers(
        name, first.kind, first.reading,
        confidence=np.concatenate([part.confidence for part in parts]),
        correct=np.concatenate([part.correct for part in parts]),
        probabilities=_stacked([part.probabilities for part in parts]),
        answer=_concatenated([part.answer for part in parts]),
        ids=_concatenated([part.ids for part in parts]),
        groups=_concatenated([part.groups for part in parts]),
        texts=texts, lost=lost, notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )  # fmt: skip


def _concatenated(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _stacked(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    widest = max(part.shape[1] for part in known)
    return np.concatenate([np.pad(part, ((0, 0), (0, widest - part.shape[1]))) for part in known])
