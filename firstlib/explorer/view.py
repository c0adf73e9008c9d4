"""From where the controls stand to all there is to see."""

from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.explorer.measures import DRAWS, Curves, Gap, Measures, curves, ece_curve, gap, measure, targets
from firstlib.explorer.source import Source
from firstlib.explorer.state import State
from firstlib.metrics import NoiseFloor, Reliability, clopper_pearson, noise_floor
from firstlib.metrics.bins import bin_index

LISTED = 5  # questions of a clicked bin


@dataclass(frozen=True, eq=False)
class Example:
    """One question: what the teacher stored of it, what a student is given, and what the student says.

    Attributes:
        choices: What each of the C candidates stands for.
        answer: Index of the right one.
        tokens: The K stored tokens, most probable first.
        before: `(K,)`, their probabilities as stored.
        after: `(K,)`, recalibrated.
        teacher: `(C,)`, the candidates' shares as the teacher gave them.
        target: `(C,)`, recalibrated.
        student: `(C,)`, None where it was not asked, or there is none yet.
        confidence: Of the recalibrated answer, in the state's reading.
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
    """What there is to see.

    Attributes:
        low: `(B,)`, lower ends of the bins' accuracy, 95 % (Clopper and Pearson); 0 where a bin is empty.
        high: `(B,)`, upper ends; 1 where a bin is empty.
        floor: The ECE that a perfectly calibrated model would show by chance.
        other: `(A,)`, ECE on the split that is not shown, over the slider.
        in_bin: Number of answers in the chosen bin.
        listed: The first few of them.
    """

    state: State
    reliability: Reliability
    low: np.ndarray
    high: np.ndarray
    measures: Measures
    floor: NoiseFloor
    curves: Curves
    other: np.ndarray
    gap: Gap
    example: Example
    in_bin: int
    listed: tuple[Example, ...]


def compute(source: Source, state: State) -> View:
    """The view that belongs to a state. Curves are computed once for each setting of the other controls."""
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
    """The ends of each bin's accuracy, 95 %, `(B,)` each; 0 and 1 where it is empty."""
    right = (np.nan_to_num(diagram.accuracy) * diagram.count).round()
    pairs, place = np.unique([right, diagram.count], axis=1, return_inverse=True)  # the report's bins are often alike
    low, high = clopper_pearson(*pairs)
    return low[place], high[place]


def rows_in_bin(confidence: np.ndarray, edges: np.ndarray, chosen: int | None) -> np.ndarray:
    """The rows whose confidence lies in the chosen bin; none where no bin is chosen."""
    if chosen is None:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(bin_index(confidence, edges) == chosen)


def example(source: Source, state: State, found: Predictions, row: int, student: Predictions | None = None) -> Example:
    """One question of the shown split, with what the recalibrated answers `found` and a student give it."""
    answers, asked = source.answers(state.task, state.split), source.asked(state.task, state.split, row)
    there = answers.candidate_ids[row] >= 0
    return Example(
        row=row,
        name=str(answers.question_id[row]),
        text=asked.text,
        choices=asked.choices,
        answer=int(np.flatnonzero(there).tolist().index(int(answers.answer[row]))),
        tokens=tuple(source.tokens(answers.top_ids[row])),
        before=answers.top_probabilities[row],
        after=found.top_probabilities[row],
        teacher=_one(answers, row).shares()[0][there],
        target=_one(found, row).shares()[0][there],
        student=None if student is None else _matched(_one(student, row), answers.candidate_ids[row][there]),
        confidence=float(_one(found, row).confidence(state.reading)[0]),
        correct=bool(found.probabilities[row].argmax() == found.answer[row]),
    )


def _one(found: Predictions, row: int) -> Predictions:
    return Predictions(**{name: values[row : row + 1] for name, values in found.as_dict().items()})


def _matched(student: Predictions, candidate_ids: np.ndarray) -> np.ndarray:
    """The student's shares of these candidates: in free text each model has its own."""
    same = student.candidate_ids[0] == candidate_ids[:, None]
    return (same * student.shares()[0]).sum(axis=1)
