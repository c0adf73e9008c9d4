"""Reads one of this library's runs for an audit: every method's answers to every test set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from firstlib.evaluation.audit.answers import Answers, Reading, joined, of_probabilities, refuse_acc_norm
from firstlib.evaluation.audit.options import Options
from firstlib.experiment import Experiment
from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.paths import RESULTS, preset_name
from firstlib.settings.loading import preset_names

KIND = "a run of this library"


def read_run(folder: Path, options: Options) -> list[Answers]:
    """Returns one input for each method of a finished run, with its test sets as subjects. Nothing is computed.

    Raises:
        UserError: The folder is not that of a run, or a stage is missing.
    """
    try:
        known = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        preset, seed = str(known["preset"]), int(known["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: results.json is not that of a run ({first_line(error)}); run again") from error
    experiment = _opened(preset, seed, folder.resolve())
    if experiment is None:
        raise UserError(
            f"{folder}: ran with a preset of its own or with overrides, which its folder does not tell; audit it from "
            "Python, with `audit(Experiment(preset, seed, runs, overrides))`"
        )
    return of_experiment(experiment, options)


def _opened(preset: str, seed: int, folder: Path) -> Experiment | None:
    """Returns the experiment of a run's folder; None where the folder belongs to another preset or has overrides."""
    if preset not in preset_names():
        return None
    experiment = Experiment(preset, seed, str(folder.parents[1]))
    return experiment if experiment.folder.resolve() == folder else None


def of_experiment(experiment: Experiment, options: Options) -> list[Answers]:
    """Returns one input for each method of an experiment that has run."""
    refuse_acc_norm(options.reading)
    return [_of_method(experiment.sealed(), name, options) for name in experiment.methods]


def _of_method(experiment: Experiment, name: str, options: Options) -> Answers:
    reading: Reading = options.reading or experiment.settings.measures.confidence
    parts = []
    for column in experiment.settings.columns:
        for test in column.test:
            found = experiment.predictions(name, column.train, test)
            rows = found.shares() if reading == "candidates" else found.probabilities
            place = f"{column.setting} {test}"
            parts.append(Answers(
                name, f"{KIND}, {preset_name(experiment.preset)}, seed {experiment.seed}", reading,
                *of_probabilities(rows, found.answer), rows, found.answer,
                ids=np.char.add(f"{place}:", found.question_id), groups=np.full(len(found), place),
            ))  # fmt: skip
    return replace(joined(name, parts), name=name)
