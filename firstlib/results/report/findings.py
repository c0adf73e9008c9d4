"""Everything that a report shows, collected from an experiment in one place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstlib.distillation.search import Search
from firstlib.evaluation.audit.calibration_errors import CalibrationErrors
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Row
from firstlib.experiment import Experiment, students, summary
from firstlib.explorer import ExperimentSource, questions, starting
from firstlib.explorer.questions import Case
from firstlib.figures.style import name_of
from firstlib.results import study
from firstlib.results.comparison import Compared, compare
from firstlib.results.provenance import Manifest, Recorder, StageLine, stage_lines, targets_in_words
from firstlib.results.report import grid
from firstlib.results.report.other_measures import other_measures
from firstlib.runtime.paths import preset_name
from firstlib.settings.methods import WITHOUT_COEFFICIENT
from firstlib.settings.schema import Settings, Task

MOST_TOKENS = 100  # of the coverage figure


@dataclass(frozen=True, eq=False)
class Findings:
    """What a report shows.

    Attributes:
        compared: Every method on every test set, with intervals.
        rows: The results table.
        chosen: Method -> training task -> its coefficient, temperature or share of its own weights, as text, if any.
        answers: Each method's answers to the main task's test questions.
        others: Other measures of calibration of these answers.
        coverage: `(positions, K)`, the teacher's most probable tokens on the last training set.
        searches: Training task -> search of the tuned method's coefficient; empty where no method is tuned.
        effects: Figure 6, right, over the kept seeds: curves and chosen coefficients.
        case: The case study; None where the main task's answers are free text.
        explorer: What the page's explorer draws, as JSON; None where no method is tuned.
    """

    preset: str
    seed: int
    settings: Settings
    compared: list[Compared]
    rows: list[Row]
    chosen: dict[str, dict[Task, str]]
    answers: dict[str, Predictions]
    others: dict[str, CalibrationErrors]
    coverage: np.ndarray
    searches: dict[str, Search]
    effects: tuple[dict[str, np.ndarray], dict[str, float]]
    case: Case | None
    explorer: dict[str, Any] | None


@dataclass(frozen=True)
class Provenance:
    """What a report's numbers come from.

    Attributes:
        stages: Every stage, in the order in which they were computed.
        versions: Of the packages that computed the last one.
    """

    stages: list[StageLine]
    versions: Mapping[str, str]


def collect(experiment: Experiment) -> tuple[Findings, Provenance]:
    """Returns everything that an experiment's report shows. Missing stages are computed, unless it is sealed.

    Raises:
        UserError: The experiment is sealed, and a stage is missing.
    """
    recorder = Recorder()
    watched = recorder.watch(experiment)
    found, methods = _findings(watched), _methods_of_folders(watched)
    manifests: list[Manifest] = sorted(recorder.manifests(), key=lambda manifest: manifest["finished"])
    return found, Provenance(stage_lines(manifests, methods), manifests[-1]["versions"] if manifests else {})


def _findings(experiment: Experiment) -> Findings:
    settings, task = experiment.settings, experiment.main_task
    answers = {name: experiment.predictions(name, task, task) for name in experiment.methods}
    return Findings(
        preset=preset_name(experiment.preset),
        seed=experiment.seed,
        settings=settings,
        compared=compare(experiment),
        rows=experiment.rows(),
        chosen=_chosen(experiment),
        answers=answers,
        others={name: other_measures(found, settings.measures) for name, found in answers.items()},
        coverage=_coverage(experiment),
        searches={str(one): experiment.search(one) for one in experiment.tasks} if settings.recalibrated else {},
        effects=study.coefficient_effects(),
        case=questions.case(experiment, task) if experiment.run.data.has_candidates(task) else None,
        explorer=_explorer(experiment) if settings.recalibrated else None,
    )


def _explorer(experiment: Experiment) -> dict[str, Any]:
    return grid.explorer(ExperimentSource(experiment, ask=False), experiment.tasks, starting(experiment))


def _chosen(experiment: Experiment) -> dict[str, dict[Task, str]]:
    """Returns what was chosen for each method that something was chosen for, by task."""
    found: dict[str, dict[Task, str]] = {}
    for name in experiment.settings.methods:
        for task in experiment.tasks:
            if parts := list(_chosen_for(experiment, name, task)):
                found.setdefault(name, {})[task] = ", ".join(parts)
    return found


def _chosen_for(experiment: Experiment, name: str, task: Task) -> Iterator[str]:
    """Yields the coefficient of a method's map, and what was chosen after training."""
    run, method = experiment.run, experiment.settings.methods[name]
    if method.map not in WITHOUT_COEFFICIENT:
        yield targets_in_words(method.map, experiment.coefficient(task, name))
    if method.afterwards == "student-temperature":
        yield f"student's T = {students.student_temperature(run, name, task):.3g}"
    elif method.afterwards == "agreement-temperature":
        by_test = summary.temperatures(run, name, task)
        yield f"student's T = {', '.join(f'{one:.3g} on {name_of(test)}' for test, one in by_test.items())}"
    elif method.afterwards == "base-weights":
        yield f"{students.share(run, name, task):g} of its own weights"


def _coverage(experiment: Experiment) -> np.ndarray:
    """Returns the top 100 on the last training set, or as many as were imported."""
    imported = experiment.settings.knowledge.imported
    k = None if imported else min(MOST_TOKENS, experiment.run.data.vocabulary("teacher"))
    return experiment.knowledge(experiment.tasks[-1], k).all_probabilities()


def _methods_of_folders(experiment: Experiment) -> dict[str, list[str]]:
    """Returns the methods that share each student's folder."""
    found: dict[str, list[str]] = {}
    for name in experiment.settings.methods:
        for task in experiment.tasks:
            found.setdefault(experiment.student(name, task).name, []).append(name)
    return found
