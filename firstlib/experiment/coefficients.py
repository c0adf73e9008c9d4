"""Coefficients: searched for by a rule on validation data, given by the preset, or chosen by hand in notebook 04."""

import json
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from firstlib.distillation.recalibration import Map, recalibrate
from firstlib.distillation.search import GRIDS, Search, search, search_among
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import nll_of_possible
from firstlib.experiment import teachers
from firstlib.experiment.run import Run
from firstlib.metrics import ece, smooth_ece
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.paths import CHOSEN
from firstlib.settings.methods import Method
from firstlib.settings.schema import Measures, Task

# -- the search --------------------------------------------------------------------------------------------------


def search_for(run: Run, method: Method, task: Task) -> Search:
    """Returns the search for a method's coefficient on validation data: the paper's two-step grid, by its rule.

    Raises:
        UserError: The method has no temperature to search for.
    """
    kind, rule = Map(method.map), method.rule or "validation-ece"
    if not method.map.endswith("temperature"):
        raise UserError(f"map {method.map}: has no coefficient to search for")
    run = run.under(run.settings.under(method))
    answers = answers_to_fit(run, method, task)
    stored, measures = run.settings.knowledge.temperatures, run.settings.measures
    score = _scorer(rule, measures)

    def make() -> Search:
        if kind is Map.EXACT_TEMPERATURE:
            return search_among(lambda c: score(recalibrated(answers, kind, c, stored)), stored)
        return search(lambda c: score(recalibrated(answers, kind, c, stored)), GRIDS[kind])

    knowledge = (method.knowledge, method.folds, method.members, method.k)
    source = teachers.source_of_knowledge(run, task)
    return run.data.once(("search", source, task, kind, rule, knowledge, measures, stored), make)


def answers_to_fit(run: Run, method: Method, task: Task) -> Predictions:
    """Returns the answers that a search recalibrates: to validation questions, or out of fold to training questions."""
    if (method.rule or "").startswith("cross-fitted"):
        store = teachers.cross_fitted_knowledge(run, task, method.folds)
        return teachers.answers_in(run, store, task, "train")
    return target_answers(run, method, task, "validation")


def _scorer(rule: str, measures: Measures) -> Callable[[Predictions], float]:
    reading = measures.confidence
    if rule.endswith("-nll"):
        return _possible_nll
    if rule.endswith("-smooth-ece"):
        return lambda found: float(smooth_ece(found.confidence(reading), found.correct()))
    return lambda found: ece(found.confidence(reading), found.correct(), measures.bins)


def _possible_nll(found: Predictions) -> float:
    """NLL over the answers that the targets do not rule out; which ones does not depend on the coefficient."""
    value, _ = nll_of_possible(found)
    return float("inf") if np.isnan(value) else value


# -- targets as answers ------------------------------------------------------------------------------------------


def target_answers(run: Run, method: Method, task: Task, split: str) -> Predictions:
    """Returns the stored answers that a method's targets are made of, on the teacher's own task."""
    run = run.under(run.settings.under(method))
    if method.knowledge == "cross-fitted":
        return teachers.fold_teachers_answers(run, task, split, method.folds)
    if method.knowledge == "ensemble":
        store = teachers.ensemble_knowledge(run, task, method.members, split)
        return teachers.answers_in(run, store, task, split)
    return teachers.teacher_answers(run, task, task, split)


def recalibrated(
    found: Predictions, kind: Map | str, coefficient: float, stored: tuple[float, ...] = ()
) -> Predictions:
    """Returns answers as a student would give them that matched the recalibrated targets exactly.

    Of candidates of several tokens, or ranked by character, the map changes the shares: targets are known only along
    the right one.
    """
    if found.log_probabilities is not None:
        shares = Map.LOGIT_TEMPERATURE if Map(kind) is Map.EXACT_TEMPERATURE else kind
        return found.with_shares(lambda rows: recalibrate(rows, shares, coefficient))
    if Map(kind) is Map.EXACT_TEMPERATURE:
        return found.at_temperature(coefficient, stored)
    return found.under(recalibrate(found.top_probabilities, kind, coefficient))


def target_ece(run: Run, method: Method, task: Task, split: str, coefficient: float) -> float:
    """Returns the ECE of a method's targets at one coefficient; a fraction."""
    answers = target_answers(run, method, task, split)
    found = recalibrated(answers, method.map, coefficient, run.settings.knowledge.temperatures)
    measures = run.settings.measures
    return ece(found.confidence(measures.confidence), found.correct(), measures.bins)


# -- by hand -----------------------------------------------------------------------------------------------------


def chosen_by_hand(run: Run, name: str, task: Task) -> float | None:
    """Returns the coefficient that was chosen by hand for a method and task, if any.

    Raises:
        UserError: It was chosen for another teacher.
    """
    kept = all_chosen(run).get(task, {}).get(name)
    if kept and kept["knowledge"] != (source := teachers.source_of_knowledge(run, task)):
        raise UserError(
            f"{run.folder / CHOSEN}: {kept['coefficient']:g} was chosen for {task} with {kept['knowledge']}, and "
            f"the settings now give {source}; choose again in notebook 04, or remove it"
        )
    return kept and kept["coefficient"]


def choose(run: Run, name: str, task: Task, coefficient: float | None) -> None:
    """Keeps a coefficient in the run, or with None returns to the search's.

    Raises:
        UserError: The coefficient is not positive or not stored, the method has none to choose, or no model is trained
            on the task.
    """
    if task not in run.settings.training_tasks or (coefficient is not None and not 0 < coefficient < inf):
        raise UserError(f"coefficient of {task}: must be above 0, for a task trained on, not {coefficient!r}")
    method, stored = run.settings.all_methods[name], run.settings.knowledge.temperatures
    if coefficient is not None and method.fixed_coefficient is not None:
        raise UserError(f"coefficient of {task}: the preset gives {name} {method.fixed_coefficient:g}; change it there")
    if method.map == "exact-temperature" and coefficient not in (None, *stored):
        raise UserError(f"coefficient of {task}: must be a stored temperature, {list(stored)}, not {coefficient!r}")
    kept = all_chosen(run)
    others = {other: choice for other, choice in kept.get(task, {}).items() if other != name}
    choice = {"coefficient": coefficient, "knowledge": teachers.source_of_knowledge(run, task)}
    kept[task] = others if coefficient is None else {**others, name: choice}
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / CHOSEN, kept)


def all_chosen(run: Run) -> dict[str, dict[str, Any]]:
    """Returns the coefficients chosen by hand, by task and method, each with the teacher it was chosen for.

    Raises:
        UserError: The file is damaged, or names a method that the settings do not have.
    """
    path = run.folder / CHOSEN
    try:
        kept: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        names = {name for of_task in kept.values() for name in of_task}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: is damaged; remove it, and choose again in notebook 04") from error
    if unknown := sorted(names - run.settings.all_methods.keys()):
        raise UserError(f"{path}: {unknown[0]!r} is no method of this run; remove it, and choose again in notebook 04")
    return kept
