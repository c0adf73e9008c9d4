"""Smaller questions put to a finished experiment: other coefficients, single cases, questions without an answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firstlib.experiment import Experiment
from firstlib.metrics import ece
from firstlib.settings import METHODS, Task
from firstlib.tasks.microworld import without_right_choice
from firstlib.tasks.question import Question


@dataclass(frozen=True)
class Case:
    """One question, and each model's share `(C,)` for every choice."""

    question: Question
    shares: dict[str, np.ndarray]


def coefficient_effect(experiment: Experiment, task: Task, coefficients: Sequence[float]) -> np.ndarray:
    """Figure 6, right: test ECE of a student distilled with each coefficient; `(A, 2)`."""
    lines = []
    for coefficient in coefficients:
        found = experiment.change(recalibration__coefficient=coefficient).predictions("first", task, task)
        reading, bins = experiment.settings.measures.confidence, experiment.settings.measures.bins
        lines.append((coefficient, ece(found.confidence(reading), found.correct(), bins)))
    return np.array(lines)


def case(experiment: Experiment, task: Task, number: int = 0) -> Case:
    """The case study on one of the task's test questions."""
    question = experiment.questions(task)[number]
    return Case(question, {m: experiment.predictions(m, task, task).shares()[number] for m in METHODS})


def hopeless_questions(experiment: Experiment, task: Task, count: int = 200) -> list[Question]:
    """Test questions whose choices have been replaced by words that answer something else."""
    rng = np.random.default_rng(experiment.seed)
    return [without_right_choice(question, rng) for question in experiment.questions(task)[:count]]


def hopeless_shares(experiment: Experiment, task: Task, questions: Sequence[Question]) -> dict[str, np.ndarray]:
    """Each model's shares `(N, C)` on questions to which no choice is right."""
    return {method: experiment.ask(method, task, questions).shares() for method in METHODS}
