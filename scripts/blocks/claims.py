"""The paper's claims beside these runs."""

from collections.abc import Sequence
from typing import Any

from firstlib.results import table
from firstlib.results.markup import markdown_table
from firstlib.results.paper import family_rows
from firstlib.results.table import Entry
from scripts.blocks.common import Results


def claims_block(runs: Sequence[Results]) -> str:
    """Returns the paper's claims beside these runs; mean over seeds and standard deviation."""
    lines = []
    for task in runs[0]["coverage"]:
        mass = _spread([run["coverage"][task]["top-5"] for run in runs])
        lines.append([f"mass of the teacher's top 5, {task}", "over 95", mass])
    for task in runs[0]["coefficients"]:
        chosen = ", ".join(f"{run['coefficients'][task]:g}" for run in runs)
        lines.append([f"coefficient c chosen on validation, {task}", "near 0.3", chosen])
    for task in ("csqa", "boolq"):
        lines += _fine_tuning(runs, task)
    return markdown_table(["", "the paper", "here"], lines)


def _fine_tuning(runs: Sequence[Results], task: str) -> list[list[str]]:
    """What fine-tuning does to the teacher's calibration, and to both models' accuracy."""
    theirs = ", ".join(f"{100 * row['ece']:.1f}" for row in family_rows("in-domain", task, "teacher"))
    before, after = ([made(run, "teacher", task) for run in runs] for made in (_base, _tuned))
    lines = [
        [f"teacher's ECE before fine-tuning, {task}", "-", _spread([row["ece"] for row in before])],
        [f"teacher's ECE after fine-tuning, {task}", theirs, _spread([row["ece"] for row in after])],
        [f"its confidence minus accuracy before, {task}, points", "-", _spread(_over_confidence(before))],
        [f"its confidence minus accuracy after, {task}, points", "-", _spread(_over_confidence(after))],
    ]
    for role, method in (("teacher", "teacher"), ("student", "fine-tune")):
        untrained = [_base(run, role, task)["accuracy"] for run in runs]
        gains = [_tuned(run, method, task)["accuracy"] - a for run, a in zip(runs, untrained, strict=True)]
        lines.append([f"{role}'s accuracy before fine-tuning, {task}", "-", _spread(untrained)])
        lines.append([f"{role}'s gain by fine-tuning, {task}, points", "-", _spread(gains)])
    return lines


def _over_confidence(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["confidence"] - row["accuracy"] for row in rows]


def _base(run: Results, role: str, task: str) -> dict[str, Any]:
    return next(row for row in run["base"] if (row["role"], row["dataset"]) == (role, task))


def _tuned(run: Results, method: str, task: str) -> dict[str, Any]:
    wanted = (method, "in-domain", task)
    return next(row for row in run["rows"] if (row["method"], row["setting"], row["dataset"]) == wanted)


def _spread(values: Sequence[float]) -> str:
    entry: Entry = table.spread_entry([{"value": value} for value in values], "value")
    return entry.text
