"""The tables and figures of notebook 07, from the study's kept cells."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from firstlib.figures import Gain
from firstlib.results.differences import Difference, Place, differences
from firstlib.settings.schema import Knowledge

Results = Mapping[str, Any]
TRUTH = ("kl", "excess_nll", "calibration_error", "overconfidence", "aurc")
OVERCONFIDENCE = (-100, 5, 10, 20, 40, 100)  # of teachers, in points: edges of the columns
TOP, DRAWN = "the top k", "k tokens drawn"
DEFAULT_K = Knowledge().k
STAGES = {
    "teacher_train": "teacher, training questions",
    "teacher_validation": "teacher, validation",
    "targets_train": "targets, training questions",
    "targets_validation": "targets, validation",
    "student_train": "student, training questions",
    "student_test": "student, test",
}


def benefit(
    runs: Sequence[Results], baseline: str = "fine-tune", at: Callable[[Results, Place], float] | None = None
) -> dict[str, dict[str, list[Gain]]]:
    """Returns every method's gain in Trust over a baseline at every setting of the map, by test set.

    Settings with fewer than two seeds are left out.

    Args:
        runs: Cells of the map.
        baseline: A method.
        at: Where a setting lies, by cell and test set; the mean over seeds counts. None: at its teacher's
            over-confidence.
    """
    at = at or (lambda run, _: teachers_overconfidence(run))
    panels: dict[str, dict[str, list[Gain]]] = {}
    for name, of_seeds in _by_setting(runs).items():
        for one in differences(of_seeds, baseline):
            setting, dataset = one.place
            if one.method != "teacher" and setting != "mean over":
                gains = panels.setdefault(f"{dataset}, {setting}", {}).setdefault(one.method, [])
                gains.append(Gain(mean(at(run, one.place) for run in of_seeds), one.mean, name))
    return dict(sorted(panels.items(), key=lambda panel: not panel[0].endswith(", in-domain")))  # the nearer one first


def benefit_frame(panels: Mapping[str, Mapping[str, Sequence[Gain]]]) -> pd.DataFrame:
    """Returns the map in short: each method's mean gain in points, by test set and by the teacher's over-confidence.

    Then how much a gain rises where a teacher is ten points more over-confident (least squares), in how many settings
    the gain's interval lies above 0 and below, and of how many settings.
    """
    lines = {}
    for panel, methods in panels.items():
        for method, gains in methods.items():
            at, values = (np.array([100 * value for value in pair]) for pair in zip(*map(_point, gains), strict=True))
            line: dict[str, float] = {}
            for low, high in pairwise(OVERCONFIDENCE):
                inside = (at >= low) & (at < high)
                line[f"{low} to {high}" if low > -100 else f"under {high}"] = (
                    round(float(values[inside].mean()), 1) if inside.any() else float("nan")
                )
            slope = float(np.polyfit(at, values, 1)[0]) if len(set(at)) > 1 else float("nan")
            line["per ten points"] = round(10 * slope, 1)
            line["above 0"] = sum(one.gain.low > 0 for one in gains)
            line["below 0"] = sum(one.gain.high < 0 for one in gains)
            lines[panel, method] = {**line, "settings": len(at)}
    return pd.DataFrame.from_dict(lines, orient="index")


def _point(gain: Gain) -> tuple[float, float]:
    return gain.at, gain.gain.estimate


def _by_setting(runs: Sequence[Results]) -> dict[str, list[Results]]:
    """Cells of one setting, `map-csqa-8x400`, over seeds; at least two."""
    found: dict[str, list[Results]] = {}
    for run in runs:
        found.setdefault(run["name"].partition("-seed-")[0], []).append(run)
    return {name: of for name, of in found.items() if len(of) > 1}


def teachers_overconfidence(run: Results) -> float:
    """Returns the teacher's mean confidence minus its accuracy on validation questions of its task; a fraction."""
    one = next(found for found in run["mechanism"] if found["method"] == "distill")
    return float(one["teacher_validation"]["confidence"] - one["teacher_validation"]["accuracy"])


def overconfidence(run: Results, place: Place, method: str = "fine-tune") -> float:
    """Returns by how much a method is over-confident on a test set, against the exact posterior; a fraction."""
    rows = (row for row in run["rows"] if row["method"] == method)
    return next(float(row["overconfidence"]) for row in rows if (row["setting"], row["dataset"]) == place)


def by_size(runs: Sequence[Results], task: str, baseline: str = "fine-tune") -> dict[str, list[Gain]]:
    """Returns the gain in Trust over a baseline of plain distillation from more or fewer stored tokens, in domain.

    Gains lie at the bytes that the knowledge takes per response position, mean over seeds.

    Args:
        runs: Cells of the group `beyond`.
        task: Trained on and tested.
        baseline: A method.
    """
    kinds: dict[str, list[Gain]] = {}
    for one in differences(runs, baseline):
        made = runs[0]["methods"].get(one.method, {"settings": {}})["settings"]
        kind = {"teacher": TOP, "sampled": DRAWN}.get(made.get("knowledge", "teacher"))
        plain = made.get("learns") == "top-k" and not made.keys() - {"learns", "k", "knowledge"}
        size = mean(run["cost"].get(one.method, {}).get(task, {}).get("knowledge_bytes", 0) for run in runs)
        if plain and kind and size and one.place == ("in-domain", task):
            kinds.setdefault(kind, []).append(Gain(size, one.mean, str(made.get("k", DEFAULT_K))))
    return kinds


def differences_frame(found: Sequence[Difference]) -> pd.DataFrame:
    """Returns differences in points, a line per method and test set, with interval, p-value and what is detectable."""
    lines = [
        {
            "method": one.method,
            "test set": " ".join(one.place),
            "difference": round(100 * one.mean.estimate, 1),
            "from": round(100 * one.mean.low, 1),
            "to": round(100 * one.mean.high, 1),
            "p": round(one.p, 4),
            "detectable": round(100 * one.detectable, 1),
        }
        for one in found
    ]
    return pd.DataFrame(lines).set_index(["method", "test set"])


def mechanism_frame(runs: Sequence[Results]) -> pd.DataFrame:
    """Returns mean confidence and accuracy in percent, from teacher to student: a line per method, mean over seeds."""
    lines = {}
    for method in [one["method"] for one in runs[0]["mechanism"]]:
        found = [one for run in runs for one in run["mechanism"] if one["method"] == method]
        line: dict[tuple[str, str], float] = {("", "coefficient"): round(mean(one["coefficient"] for one in found), 2)}
        for stage, title in STAGES.items():
            for key in ("confidence", "accuracy"):
                line[title, key] = round(100 * mean(one[stage][key] for one in found), 1)
        lines[method] = line
    return pd.DataFrame.from_dict(lines, orient="index")


def following_frame(grid: Sequence[Results], method: str = "first", task: str = "csqa") -> pd.DataFrame:
    """Returns how closely students follow their targets, by epochs: in percent, mean over the map's settings and seeds.

    A student that cannot tell apart what its teacher has memorised learns the mean of the targets, which is less
    confident than they are. If that is why a recalibrated student is under-confident, the gap to the targets closes
    with more epochs.
    """
    lines = {}
    for epochs in sorted({run["changes"]["training__epochs"] for run in grid}):
        found = [
            one
            for run in grid
            if run["changes"]["training__epochs"] == epochs and run["changes"]["columns"][0]["train"] == task
            for one in run["mechanism"]
            if one["method"] == method
        ]
        if found:
            lines[epochs] = _following(found)
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("epochs")


def _following(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    confidence = {stage: 100 * mean(one[stage]["confidence"] for one in found) for stage in STAGES}
    accuracy = 100 * mean(one["student_test"]["accuracy"] for one in found)
    values = {
        "teacher, training questions": confidence["teacher_train"],
        "targets, training questions": confidence["targets_train"],
        "student, training questions": confidence["student_train"],
        "student below its targets": confidence["targets_train"] - confidence["student_train"],
        "student, test": confidence["student_test"],
        "its accuracy": accuracy,
        "over-confident by": confidence["student_test"] - accuracy,
    }
    return {**{name: round(value, 1) for name, value in values.items()}, "cells": len(found)}


def shares_frame(runs: Sequence[Results]) -> pd.DataFrame:
    """Returns the share of its own weights in every student averaged with its base model: a line per seed."""
    made = [{name: one["shares"] for name, one in run["methods"].items() if "shares" in one} for run in runs]
    lines = [{(name, task): share for name, of in one.items() for task, share in of.items()} for one in made]
    return pd.DataFrame(lines, index=pd.Index([run["seed"] for run in runs], name="seed"))


def truth_frame(runs: Sequence[Results], setting: str, dataset: str) -> pd.DataFrame:
    """Returns the distances from the exact posterior on one test set: a line per method, mean over seeds."""
    rows = [row for run in runs for row in run["rows"] if (row["setting"], row["dataset"]) == (setting, dataset)]
    methods = dict.fromkeys(row["method"] for row in rows)
    lines = {
        method: {key: round(mean(row[key] for row in rows if row["method"] == method), 4) for key in TRUTH}
        for method in methods
    }
    return pd.DataFrame.from_dict(lines, orient="index")


def cost_frame(runs: Sequence[Results], task: str) -> pd.DataFrame:
    """Returns what each method cost on a task: seconds, and 10^12 operations; mean over seeds."""
    lines = {}
    for name in runs[0]["cost"]:
        found = [run["cost"][name][task] for run in runs]
        lines[name] = {
            "own training (s)": round(mean(one["seconds"] for one in found), 1),
            "with all it rests on (s)": round(mean(one["total_seconds"] for one in found), 1),
            "TFLOP": round(mean(one["flops"] for one in found) / 1e12, 2),
        }
    return pd.DataFrame.from_dict(lines, orient="index")
