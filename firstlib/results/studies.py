"""Smaller questions put to a finished experiment: other coefficients, single cases, questions without an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstlib.evaluation.scores import scores
from firstlib.experiment.experiment import Experiment
from firstlib.metrics import ece
from firstlib.results.seeds import kept
from firstlib.settings.schema import METHODS, Task, Tuning
from firstlib.tasks.question import Question, without_right_choice

COEFFICIENTS = (0.1, 0.5, 1.0)  # beside the chosen one, in Figure 6, right
TUNINGS: tuple[Tuning, ...] = ("full", "lora", "qlora")


@dataclass(frozen=True)
class Case:
    """One question, and each model's share `(C,)` for every choice."""

    question: Question
    shares: dict[str, np.ndarray]


def tunings(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment with its student tuned in each way that there is; the preset's own way is the first."""
    own = experiment.settings.student.tuning
    ways = [own, *(way for way in TUNINGS if way != own)]
    return {way: experiment if way == own else experiment.change(student__tuning=way) for way in ways}


def readings(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment under each reading of what the paper leaves open; the first is the default."""
    return {
        "Eq. 4, full vocabulary": experiment,
        "Eq. 4, renormalised over the top k": experiment.change(distillation__student="renormalised"),
        "logit temperature, full vocabulary": experiment.change(recalibration__first_map="logit-temperature"),
    }


def variants(experiment: Experiment) -> dict[str, Any]:
    """What other students FIRST could have made of the main task; `make seeds` keeps it, a seed each.

    `rows`: a line a tuning and reading, in fractions. `effect`: a pair a coefficient, with the student's test ECE.
    `chosen`: the coefficient that validation chose.
    """
    task = experiment.main
    effect = coefficient_effect(experiment, task, sorted({*COEFFICIENTS, experiment.coefficient(task)}))
    return {"rows": _rows(experiment), "effect": effect.tolist(), "chosen": experiment.coefficient(task)}


def _rows(experiment: Experiment) -> list[dict[str, Any]]:
    groups = {"tuning": tunings(experiment), "reading": readings(experiment)}
    ways = [(group, *way) for group, found in groups.items() for way in found.items()]
    return [{"group": group, "name": name, **_scores(other)} for group, name, other in ways]


def _scores(experiment: Experiment) -> dict[str, float]:
    found = experiment.predictions("first", experiment.main, experiment.main)
    return {"n": len(found), **scores(found, experiment.settings.measures)}


def kept_effects() -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Figure 6, right, of the microworld: each kept seed's curve `(A, 2)`, and the coefficient chosen there."""
    runs = {f"seed {run['seed']}": run for run in kept("variants")}
    return {name: np.array(run["effect"]) for name, run in runs.items()}, {n: run["chosen"] for n, run in runs.items()}


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
    return [
        without_right_choice(question, experiment.source.foreign_choices(task, question), rng)
        for question in experiment.questions(task)[:count]
    ]


def hopeless_shares(experiment: Experiment, task: Task, questions: Sequence[Question]) -> dict[str, np.ndarray]:
    """Each model's shares `(N, C)` on questions to which no choice is right."""
    return {method: experiment.ask(method, task, questions).shares() for method in METHODS}
