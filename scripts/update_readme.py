"""Writes the result blocks of README.md and docs/findings.md from the runs themselves: `make seeds`, `make real`."""

import sys
from collections.abc import Sequence
from typing import Any

from firstlib import Experiment
from firstlib.results import table
from firstlib.results.comparison import Compared, compare
from firstlib.results.markup import markdown_table
from firstlib.results.paper import paper_rows
from firstlib.results.seeds import KEPT, beyond, kept
from firstlib.results.table import Entry, ResultsTable
from firstlib.runtime.files import write_json, write_text
from firstlib.runtime.paths import PROJECT

README, FINDINGS = PROJECT / "README.md", PROJECT / "docs" / "findings.md"
SEEDS = (0, 1, 2)
ENDS = {
    "results": ("<!-- results: written by `make seeds` -->", "<!-- end of results -->"),
    "claims": ("<!-- claims: written by `make seeds` -->", "<!-- end of claims -->"),
    "variants": ("<!-- variants: written by `make seeds` -->", "<!-- end of variants -->"),
    "real data": ("<!-- real data: written by `make real` -->", "<!-- end of real data -->"),
}

Results = dict[str, Any]


def main() -> None:
    """Computes and keeps every seed's results, where they are not kept yet, and rewrites the blocks."""
    KEPT.mkdir(exist_ok=True)
    for seed in SEEDS:
        experiment = Experiment("microworld", seed)
        write_json(KEPT / f"microworld-seed-{seed}.json", experiment.results())
        write_json(KEPT / f"microworld-beyond-seed-{seed}.json", beyond(experiment))
    rewrite()


def rewrite() -> None:
    """Writes the blocks from the kept results."""
    runs, further = kept("microworld"), kept("microworld-beyond")
    write_text(README, replaced(README.read_text(encoding="utf-8"), "results", results_block(runs)))
    text = replaced(FINDINGS.read_text(encoding="utf-8"), "claims", claims_block(runs))
    write_text(FINDINGS, replaced(text, "variants", variants_block(further)))


def real(seed: int = 0) -> None:
    """Runs small Llamas on real data, one seed with intervals over questions, and rewrites their block."""
    experiment = Experiment("real-small", seed)
    results = experiment.results()
    results["unusable"] = {t: {s: len(rows) for s, rows in of.items()} for t, of in results["unusable"].items()}
    results["intervals"] = [_flat(one) for one in compare(experiment, base=True)]
    write_json(KEPT / f"real-small-seed-{seed}.json", results)
    write_text(FINDINGS, replaced(FINDINGS.read_text(encoding="utf-8"), "real data", real_block(results)))


def _flat(one: Compared) -> dict[str, Any]:
    """A line of the comparison, as it is kept."""
    return {
        "setting": one.setting,
        "dataset": one.dataset,
        "method": one.method,
        "n": one.n,
        "accuracy": one.accuracy.estimate,
        "ece": one.ece.estimate,
        "trust": one.trust,
        "low": one.ece.low,
        "high": one.ece.high,
    }


def replaced(text: str, name: str, block: str) -> str:
    """Returns a page with one of its blocks replaced."""
    start, end = ENDS[name]
    before, rest = text.split(start)
    return f"{before}{start}\n\n{block}\n\n{end}{rest.split(end)[1]}"


def results_block(runs: Sequence[Results]) -> str:
    """Returns the results table over seeds."""
    seeds, n = ", ".join(str(run["seed"]) for run in runs), runs[0]["rows"][0]["n"]
    intro = (
        f"Mean over seeds {seeds} with the standard deviation between them, in percent; n = {n} test questions a cell "
        "and seed. Each seed draws its own training, validation and test questions."
    )
    return f"{intro}\n\n{_without_sizes(table.of_seeds(runs)).markdown()}"


def _without_sizes(found: ResultsTable) -> ResultsTable:
    return ResultsTable(found.entries, {}, {})


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
    """What fine-tuning does to the teacher's ECE, and to both models' accuracy."""
    theirs = ", ".join(f"{100 * row['ece']:.1f}" for row in _paper_teachers(task))
    lines = [
        [f"teacher's ECE before fine-tuning, {task}", "-", _spread([_base(r, "teacher", task, "ece") for r in runs])],
        [
            f"teacher's ECE after fine-tuning, {task}",
            theirs,
            _spread([_tuned(r, "teacher", task, "ece") for r in runs]),
        ],
    ]
    for role, method in (("teacher", "teacher"), ("student", "fine-tune")):
        before = [_base(run, role, task, "accuracy") for run in runs]
        after = [_tuned(run, method, task, "accuracy") for run in runs]
        gains = [b - a for a, b in zip(before, after, strict=True)]
        lines.append([f"{role}'s accuracy before fine-tuning, {task}", "-", _spread(before)])
        lines.append([f"{role}'s gain by fine-tuning, {task}, points", "-", _spread(gains)])
    return lines


def _paper_teachers(task: str) -> list[dict[str, Any]]:
    families = ("Llama-1 33B->7B", "Llama-2 13B->7B", "OpenLlama 13B->7B")
    found = [row for family in families for row in paper_rows(family)]
    return [r for r in found if (r["setting"], r["dataset"], r["method"]) == ("in-domain", task, "teacher")]


def _base(run: Results, role: str, task: str, name: str) -> float:
    return next(row[name] for row in run["base"] if (row["role"], row["dataset"]) == (role, task))


def _tuned(run: Results, method: str, task: str, name: str) -> float:
    wanted = (method, "in-domain", task)
    return next(r[name] for r in run["rows"] if (r["method"], r["setting"], r["dataset"]) == wanted)


def _spread(values: Sequence[float]) -> str:
    entry: Entry = table.spread_entry([{"value": value} for value in values], "value")
    return entry.text


def variants_block(runs: Sequence[Results]) -> str:
    """Returns the preset's further methods on its main task, over seeds."""
    return _without_sizes(table.of_seeds(runs)).markdown()


def real_block(results: Results) -> str:
    """Returns the table on real data, with what was chosen and left out."""
    coefficients = ", ".join(f"{c:g} ({task})" for task, c in results["coefficients"].items())
    masses = ", ".join(f"{100 * of['top-5']:.1f} % ({task})" for task, of in results["coverage"].items())
    lost = sum(sum(of.values()) for of in results["unusable"].values())
    notes = (
        f"Seed {results['seed']}, in percent, with 95 % bootstrap intervals over questions. Coefficients chosen on "
        f"validation: {coefficients}. Mass of the teacher's top 5: {masses}. {lost} rows of the data sets are unusable "
        "(two choices that read the same, or no answer); the run's `results.json` lists them by id."
    )
    return f"{table.of_intervals(results['intervals']).markdown()}\n\n{notes}"


if __name__ == "__main__":
    real() if "real" in sys.argv[1:] else main()
