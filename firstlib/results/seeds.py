"""Results kept over several seeds, in `data/results`: written by `make seeds`, read by notebooks and the report."""

import json
from typing import Any

import numpy as np

from firstlib.experiment import Experiment, students, summary
from firstlib.runtime.paths import PROJECT

KEPT = PROJECT / "data" / "results"


def kept(name: str) -> list[dict[str, Any]]:
    """Returns what is kept under a name, one entry per seed."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob(f"{name}-seed-*.json"))]


def beyond(experiment: Experiment) -> dict[str, Any]:
    """Returns the results of the preset's further methods (`beyond`) on the main task.

    `rows` also holds the tuned method itself, to compare with; `coefficients` are those that the students learned with.
    """
    run, task = experiment.run, experiment.main_task
    names = [*filter(None, [experiment.settings.recalibrated]), *experiment.settings.beyond]
    found = [row for row in summary.rows(run, names=tuple(names), tasks=(task,)) if row.dataset == task]
    return {
        "preset": experiment.preset,
        "seed": experiment.seed,
        "task": task,
        "rows": [row.flat() for row in found],
        "coefficients": {name: students.coefficient(run, name, task) for name in names},
        "methods": {name: run.settings.all_methods[name].model_dump(mode="json") for name in names},
    }


def coefficient_effects(name: str = "microworld-beyond") -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns Figure 6, right: for each kept seed the test ECE by coefficient `(A, 2)`, and the chosen coefficient.

    The points are the methods that differ from `first` in the coefficient alone.
    """
    curves, chosen = {}, {}
    for run in kept(name):
        same = [method for method in run["methods"] if _differs_in_coefficient(run["methods"], method)]
        errors = {row["method"]: row["ece"] for row in run["rows"]}
        points = sorted((run["coefficients"][method], errors[method]) for method in same)
        label = f"seed {run['seed']}"
        curves[label], chosen[label] = np.array(points), run["coefficients"]["first"]
    return curves, chosen


def _differs_in_coefficient(methods: dict[str, dict[str, Any]], name: str) -> bool:
    first = methods["first"]
    return all(methods[name][key] == value for key, value in first.items() if key != "coefficient")
