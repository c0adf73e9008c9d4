"""Writes the README's results from the runs themselves: `make seeds`. No number there is typed by hand."""

import csv
import json
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from firstlib.artefacts import PAPER_TABLE, PROJECT, write_json

README = PROJECT / "README.md"
SEEDS = (0, 1, 2)
KEPT = PROJECT / "data" / "results"
START, END = "<!-- results: written by `make seeds` -->", "<!-- end of results -->"

Results = dict[str, Any]


def main() -> None:
    """Computes every seed's results where they are not there yet, keeps them, and renews the README's block."""
    from firstlib.experiment import Experiment  # here: the README's text alone needs no model

    KEPT.mkdir(exist_ok=True)
    for seed in SEEDS:
        write_json(KEPT / f"microworld-seed-{seed}.json", Experiment("microworld", seed).results())
    README.write_text(renewed(README.read_text(encoding="utf-8"), kept_results()), encoding="utf-8")


def kept_results() -> list[Results]:
    """The results that were kept, one a seed."""
    return [json.loads(path.read_text()) for path in sorted(KEPT.glob("microworld-seed-*.json"))]


def renewed(text: str, results: Sequence[Results]) -> str:
    """The README with its results block written anew."""
    before, rest = text.split(START)
    return f"{before}{START}\n\n{block(results)}\n\n{END}{rest.split(END)[1]}"


def block(results: Sequence[Results]) -> str:
    """The whole block: the table, and what the paper's claims look like here."""
    seeds = ", ".join(str(result["seed"]) for result in results)
    n = results[0]["rows"][0]["n"]
    intro = (
        f"Mean over seeds {seeds} with the standard deviation between them, in percent; n = {n} test questions a cell "
        "and seed. Each seed draws its own training, validation and test questions."
    )
    return "\n\n".join([intro, main_table(results), claims_table(results)])


def main_table(results: Sequence[Results]) -> str:
    """Method by column: accuracy, ECE, Trust."""
    rows = [row for result in results for row in result["rows"]]
    columns = list(dict.fromkeys((row["setting"], row["dataset"]) for row in rows))
    head = ["method"] + [f"{setting} {dataset}<br>acc / ECE / Trust" for setting, dataset in columns]
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [_cell(rows, method, *column) for column in columns]
        lines.append([method, *cells])
    return _markdown(head, lines)


def _cell(rows: Sequence[dict[str, Any]], method: str, setting: str, dataset: str) -> str:
    found = [r for r in rows if (r["method"], r["setting"], r["dataset"]) == (method, setting, dataset)]
    return " / ".join(_spread([row[name] for row in found]) for name in ("accuracy", "ece", "trust"))


def claims_table(results: Sequence[Results]) -> str:
    """What the paper says, and what is seen here; mean over seeds, standard deviation behind."""
    lines = []
    for task in results[0]["coverage"]:
        found = [result["coverage"][task]["top-5"] for result in results]
        lines.append([f"mass of the teacher's top 5, {task}", "over 95", _spread(found)])
    for task in results[0]["coefficients"]:
        found = [result["coefficients"][task] for result in results]
        lines.append([f"coefficient c chosen on validation, {task}", "near 0.3", ", ".join(f"{c:g}" for c in found)])
    for task in ("csqa", "boolq"):
        base = [_base(result, "teacher", task, "ece") for result in results]
        tuned = [_tuned(result, "teacher", task, "ece") for result in results]
        lines.append([f"teacher's ECE before fine-tuning, {task}", "-", _spread(base)])
        lines.append([f"teacher's ECE after fine-tuning, {task}", _paper_teacher_ece(task), _spread(tuned)])
        for role, method in (("teacher", "teacher"), ("student", "fine-tune")):
            pairs = [(_base(r, role, task, "accuracy"), _tuned(r, method, task, "accuracy")) for r in results]
            lines.append(
                [f"{role}'s accuracy before fine-tuning, {task}", "-", _spread([before for before, _ in pairs])]
            )
            lines.append([f"{role}'s gain by fine-tuning, {task}, points", "-", _spread([b - a for a, b in pairs])])
    return _markdown(["", "the paper", "here"], lines)


def _paper_teacher_ece(task: str) -> str:
    with PAPER_TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["setting"] == "in-domain" and row["dataset"].lower() == task]
    return ", ".join(row["ece"] for row in rows if row["method"].startswith("Teacher"))


def _base(result: Results, role: str, task: str, name: str) -> float:
    return next(r[name] for r in result["base"] if (r["role"], r["dataset"]) == (role, task))


def _tuned(result: Results, method: str, task: str, name: str) -> float:
    wanted = (method, "in-domain", task)
    return next(r[name] for r in result["rows"] if (r["method"], r["setting"], r["dataset"]) == wanted)


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
