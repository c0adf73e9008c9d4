"""From the controls' state to everything that the explorer shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.explorer.measures import DRAWS, Curves, Gap, TargetMeasures, curves, ece_curve, gap, measure, targets
from firstlib.explorer.source import ExplorerSource
from firstlib.explorer.state import State
from firstlib.metrics import NoiseFloor, Reliability, clopper_pearson, noise_floor
from firstlib.metrics.bins import bin_index

LISTED = 5  # questions of a chosen bin


@dataclass(frozen=True, eq=False)
class ExampleView:
    """One question: the teacher's stored answer, the recalibrated target, and the student's answer.

    Attributes:
        row: Of the source's answers.
        choices: What each of the C candidates stands for.
        answer: Index of the right one.
        tokens: The K stored tokens, most probable first.
        before: `(K,)` their stored probabilities.
        after: `(K,)` their recalibrated probabilities.
        teacher: `(C,)` the candidates' shares as the teacher gave them.
        target: `(C,)` their recalibrated shares.
        student: `(C,)` the student's shares; None if it was not asked or is not trained.
        confidence: Of the recalibrated answer, in the state's reading.
        correct: Whether the recalibrated answer is right.
    """

    row: int
    name: str
    text: str
    choices: tuple[str, ...]
    answer: int
    tokens: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    teacher: np.ndarray
    target: np.ndarray
    student: np.ndarray | None
    confidence: float
    correct: bool


@dataclass(frozen=True, eq=False)
class View:
    """Everything that the explorer shows.

    Attributes:
        low: `(B,)` lower ends of the bins' 95 % accuracy intervals (Clopper and Pearson); 0 for an empty bin.
        high: `(B,)` upper ends; 1 for an empty bin.
        floor: The ECE that a perfectly calibrated model would have by chance.
        other: `(A,)` ECE on the split that is not shown, at every position of the slider.
        in_bin: Number of answers in the chosen bin.
        listed: The first few of them.
    """

    state: State
    reliability: Reliability
    low: np.ndarray
    high: np.ndarray
    measures: TargetMeasures
    floor: NoiseFloor
    curves: Curves
    other: np.ndarray
    gap: Gap
    example: ExampleView
    in_bin: int
    listed: tuple[ExampleView, ...]


def compute(source: ExplorerSource, state: State) -> View:
    """Returns the view of a state. Curves are computed once for each setting of the other controls."""
    found = targets(source.answers(state.task, state.split), state, source.vocabulary)
    confidence = found.confidence(state.reading)
    diagram = found.reliability(state.reading, state.bins)
    low, high = intervals(diagram)
    rows = rows_in_bin(confidence, diagram.edges, state.bin)
    student = source.student(state.task, state.split) if len(rows) else None
    unseen = state.change(split="test" if state.split == "validation" else "validation")
    return View(
        state=state,
        reliability=diagram,
        low=low,
        high=high,
        measures=measure(found, state),
        floor=noise_floor(confidence, state.bins, DRAWS),
        curves=curves(source, state),
        other=ece_curve(source, unseen),
        gap=gap(source, state),
        example=example(source, state, found, min(state.example, len(found) - 1)),
        in_bin=len(rows),
        listed=tuple(example(source, state, found, int(row), student) for row in rows[:LISTED]),
    )


def intervals(diagram: Reliability) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of each bin's 95 % accuracy interval, `(B,)` each; 0 and 1 for an empty bin."""
    right = (np.nan_to_num(diagram.accuracy) * diagram.count).round()
    pairs, place = np.unique([right, diagram.count], axis=1, return_inverse=True)  # many of a report's bins are equal
    low, high = clopper_pearson(*pairs)
    return low[place], high[place]


def rows_in_bin(confidence: np.ndarray, edges: np.ndarray, chosen: int | None) -> np.ndarray:
    """Returns the rows whose confidence lies in the chosen bin; none if no bin is chosen."""
    if chosen is None:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(bin_index(confidence, edges) == chosen)


def example(
    source: ExplorerSource, state: State, found: Predictions, row: int, student: Predictions | None = None
) -> ExampleView:
    """Returns one question with its answers.

    Args:
        source: Gives the question's text and the teacher's answer.
        state: Names task, split and reading.
        found: The recalibrated answers to that split.
        row: Of these answers.
        student: The student's answers to the same split.
    """
    answers, asked = source.answers(state.task, state.split), source.asked(state.task, state.split, row)
    there = answers.candidate_ids[row] >= 0
    one = _one(found, row)
    return ExampleView(
        row=row,
        name=str(answers.question_id[row]),
        text=asked.text,
        choices=asked.choices,
        answer=int(np.flatnonzero(there).tolist().index(int(answers.answer[row]))),
        tokens=tuple(source.tokens(answers.top_ids[row])),
        before=answers.top_probabilities[row],
        after=found.top_probabilities[row],
        teacher=_one(answers, row).shares()[0][there],
        target=one.shares()[0][there],
        student=None if student is None else _matched(_one(student, row), answers.candidate_ids[row][there]),
        confidence=float(one.confidence(state.reading)[0]),
        correct=bool(one.correct()[0]),
    )


def _one(found: Predictions, row: int) -> Predictions:
    arrays: dict[str, Any] = {name: values[row : row + 1] for name, values in found.as_dict().items()}
    return Predictions(**arrays, score=found.score)


def _matched(student: Predictions, candidate_ids: np.ndarray) -> np.ndarray:
    """Returns the student's shares of these candidates; in free text, each model has candidates of its own."""
    same = student.candidate_ids[0] == candidate_ids[:, None]
    return (same * student.shares()[0]).sum(axis=1)
