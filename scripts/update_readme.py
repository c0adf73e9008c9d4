"""Writes the README's results from the runs themselves: `make seeds`, `make real`. No number there is typed by hand."""

import csv
import sys
from collections.abc import Sequence
from typing import Any

from firstlib.results.seeds import KEPT, kept, spread

from firstlib.experiment.experiment import Experiment
from firstlib.results import tables
from firstlib.results.studies import variants
from firstlib.runtime.files import write_json
from firstlib.runtime.paths import PAPER_TABLE, PROJECT

README = PROJECT / "README.md"
SEEDS = (0, 1, 2)
START, END = "<!-- results: written by `make seeds` -->", "<!-- end of results -->"
REAL, REAL_END = "<!-- real data: written by `make real` -->", "<!-- end of real data -->"

Results = dict[str, Any]


def main() -> None:
    """Computes every seed's results where they are not there yet, keeps them, and renews the README's block."""
    KEPT.mkdir(exist_ok=True)
    for seed in SEEDS:
        experiment = Experiment("microworld", seed)
        write_json(KEPT / f"microworld-seed-{seed}.json", experiment.results())
        write_json(KEPT / f"variants-seed-{seed}.json", {"seed": seed, **variants(experiment)})
    README.write_text(renewed(README.read_text(encoding="utf-8"), kept("microworld")), encoding="utf-8")


def real(seed: int = 0) -> None:
    """The same for small Llamas on real data: one seed, with intervals over questions."""
    experiment = Experiment("real-small", seed)
    results = {**experiment.results(), "intervals": tables.intervals(experiment)}
    results["unusable"] = {t: {s: len(rows) for s, rows in of.items()} for t, of in results["unusable"].items()}
    write_json(KEPT / f"real-small-seed-{seed}.json", results)
    text = README.read_text(encoding="utf-8")
    README.write_text(_between(text, REAL, REAL_END, real_block(results)), encoding="utf-8")


def real_block(results: Results) -> str:
    """Method by column, each ECE with its 95 % interval, and what chance would give."""
    rows = results["intervals"]
    columns = list(dict.fromkeys((row["setting"], row["dataset"], row["n"]) for row in rows))
    head = ["method"] + [
        f"{setting} {dataset}, n = {n}<br>acc / ECE (interval) / Trust" for setting, dataset, n in columns
    ]
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        found = {(row["setting"], row["dataset"], row["n"]): row for row in rows if row["method"] == method}
        lines.append([method, *[_interval_cell(found[column]) for column in columns]])
    coefficients = ", ".join(f"{c:g} ({task})" for task, c in results["coefficients"].items())
    masses = ", ".join(f"{100 * of['top-5']:.1f} % ({task})" for task, of in results["coverage"].items())
    lost = sum(sum(of.values()) for of in results["unusable"].values())
    notes = (
        f"Seed {results['seed']}, in percent, with 95 % bootstrap intervals over questions. Coefficients chosen on "
        f"validation: {coefficients}. Mass of the teacher's top 5: {masses}. {lost} rows of the data sets cannot be "
        "used (two choices that read the same, or no answer) and are listed by id in the run's `results.json`."
    )
    return "\n\n".join([_markdown(head, lines), notes])


def _interval_cell(row: dict[str, Any]) -> str:
    percent = {name: f"{100 * row[name]:.1f}" for name in ("accuracy", "ece", "low", "high", "trust")}
    return f"{percent['accuracy']} / {percent['ece']} ({percent['low']} to {percent['high']}) / {percent['trust']}"


def renewed(text: str, results: Sequence[Results]) -> str:
    """The README with its results block written anew."""
    return _between(text, START, END, block(results))


def _between(text: str, start: str, end: str, block: str) -> str:
    before, rest = text.split(start)
    return f"{before}{start}\n\n{block}\n\n{end}{rest.split(end)[1]}"


def block(results: Sequence[Results]) -> str:
    """The whole block: the table, and what the paper's claims look like here."""
    seeds = ", ".join(str(result["seed"]) for result in results)
    n = results[0]["rows"][0]["n"]
    intro = (
        f"Mean over seeds {seeds} with the standard deviation between them, in percent; n = {n} test questions a cell "
        "and seed. Each seed draws its own training, validation and test questions."
    )
    return "\n\n".join([intro, main_table(results), claims_table(results), variants_table()])


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
    return " / ".join(spread([row[name] for row in found]) for name in ("accuracy", "ece", "trust"))


def claims_table(results: Sequence[Results]) -> str:
    """What the paper says, and what is seen here; mean over seeds, standard deviation behind."""
    lines = []
    for task in results[0]["coverage"]:
        found = [result["coverage"][task]["top-5"] for result in results]
        lines.append([f"mass of the teacher's top 5, {task}", "over 95", spread(found)])
    for task in results[0]["coefficients"]:
        found = [result["coefficients"][task] for result in results]
        lines.append([f"coefficient c chosen on validation, {task}", "near 0.3", ", ".join(f"{c:g}" for c in found)])
    for task in ("csqa", "boolq"):
        base = [_base(result, "teacher", task, "ece") for result in results]
        tuned = [_tuned(result, "teacher", task, "ece") for result in results]
        lines.append([f"teacher's ECE before fine-tuning, {task}", "-", spread(base)])
        lines.append([f"teacher's ECE after fine-tuning, {task}", _paper_teacher_ece(task), spread(tuned)])
        for role, method in (("teacher", "teacher"), ("student", "fine-tune")):
            pairs = [(_base(r, role, task, "accuracy"), _tuned(r, method, task, "accuracy")) for r in results]
            lines.append(
                [f"{role}'s accuracy before fine-tuning, {task}", "-", spread([before for before, _ in pairs])]
            )
            lines.append([f"{role}'s gain by fine-tuning, {task}, points", "-", spread([b - a for a, b in pairs])])
    return _markdown(["", "the paper", "here"], lines)


def variants_table() -> str:
    """FIRST's student tuned in other ways, and under the paper's other readings."""
    lines = [
        [f"{group}: {name}", f"{row['accuracy']} / {row['ECE']} / {row['Trust']}"]
        for group in ("tuning", "reading")
        for name, row in tables.variants(group).iterrows()
    ]
    return _markdown(["first, in other ways", "in-domain csqa<br>acc / ECE / Trust"], lines)


def _paper_teacher_ece(task: str) -> str:
    with PAPER_TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["setting"] == "in-domain" and row["dataset"].lower() == task]
    return ", ".join(row["ece"] for row in rows if row["method"].startswith("Teacher"))


def _base(result: Results, role: str, task: str, name: str) -> float:
    return next(r[name] for r in result["base"] if (r["role"], r["dataset"]) == (role, task))


def _tuned(result: Results, method: str, task: str, name: str) -> float:
    wanted = (method, "in-domain", task)
    return next(r[name] for r in result["rows"] if (r["method"], r["setting"], r["dataset"]) == wanted)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    real() if "real" in sys.argv[1:] else main()
