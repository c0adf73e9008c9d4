"""Writes the blocks of README.md and docs/ from kept results: `make seeds`, `make beyond`, `make map`, `make real`.

A block stands between two comments that name it. A block whose results are not kept yet says which command computes
them.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from firstlib import Experiment
from firstlib.results import study, table
from firstlib.results.beyond import (
    STAGES,
    benefit,
    benefit_frame,
    cost_frame,
    following_frame,
    mechanism_frame,
    truth_frame,
)
from firstlib.results.comparison import BASE_STUDENT, compare, with_base_student
from firstlib.results.differences import MEAN, Difference, difference_table, differences, spread_of
from firstlib.results.markup import markdown_table, with_block
from firstlib.results.paper import paper_rows
from firstlib.results.prediction import Prediction
from firstlib.results.study import KEPT
from firstlib.results.table import Entry, ResultsTable
from firstlib.runtime.files import write_json, write_text
from firstlib.runtime.paths import PROJECT
from scripts import choose_adapter, choose_settings, mutants, scale

README, FINDINGS, PROTOCOL = PROJECT / "README.md", PROJECT / "docs" / "findings.md", PROJECT / "docs" / "protocol.md"
SHOWN = (
    BASE_STUDENT, "teacher", "fine-tune", "distill", "label-smoothing", "first", *study.TEMPERED[:2],
    "distill-base-weights",
)  # fmt: skip
TRUTH = {"kl": "KL", "excess_nll": "excess NLL", "calibration_error": "|confidence - truth|", "aurc": "AURC"}

Results = dict[str, Any]


def main() -> None:
    """Rewrites every block whose results are kept."""
    for (page, name), (command, block) in BLOCKS.items():
        text = page.read_text(encoding="utf-8")
        write_text(page, replaced(text, name, block() or f"Not computed yet: `{command}`."))


def real(seed: int = 0) -> None:
    """Runs small Llamas on real data, one seed with intervals over questions, and rewrites their block."""
    experiment = Experiment("real-small", seed)
    results = experiment.results()
    results["unusable"] = {t: {s: len(rows) for s, rows in of.items()} for t, of in results["unusable"].items()}
    results["intervals"] = [one.flat() for one in compare(experiment)]
    write_json(KEPT / f"real-small-seed-{seed}.json", results)
    main()


def replaced(text: str, name: str, block: str) -> str:
    """Returns a page with one of its blocks replaced."""
    start, end = f"<!-- {name}: written by scripts/update_readme.py -->", f"<!-- end of {name} -->"
    return with_block(text, start, end, block)


# -- the paper's table -------------------------------------------------------------------------------------------


def results_block(runs: Sequence[Results], methods: Sequence[str] = SHOWN) -> str:
    """Returns the results table over seeds."""
    n = runs[0]["rows"][0]["n"]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    over = (
        f"Mean over {len(runs)} seeds ({seeds}) with half the width of its 95 % interval, in percent"
        if len(runs) > 1
        else f"Seed {seeds} alone, in percent (`make seeds` computes {len(study.SEEDS)})"
    )
    intro = f"{over}; n = {n} test questions a cell and seed. Each seed draws its own questions and trains anew."
    return f"{intro}\n\n{_without_sizes(table.of_seeds(_only(runs, methods))).markdown()}"


def _only(runs: Sequence[Results], methods: Sequence[str]) -> list[Results]:
    """The runs with the rows of these methods alone, and with their intervals where a run has any."""
    tables = ("rows", "intervals")
    return [
        {**run, **{name: [row for row in run[name] if row["method"] in methods] for name in tables if name in run}}
        for run in runs
    ]


def _without_sizes(found: ResultsTable) -> ResultsTable:
    return ResultsTable(found.entries, {}, {})


def sentences_block(runs: Sequence[Results]) -> str:
    """Returns the main findings as sentences, each with its number and its command."""
    against = {name: _in_mean(differences(runs, name)) for name in (BASE_STUDENT, "fine-tune", "distill", "first")}
    of_base, of_distill = against[BASE_STUDENT], against["distill"]
    theirs = {name: f"the paper's Table 1: {_paper_gain(name):+.1f}" for name in ("fine-tune", "distill")}
    lines = [
        f"- **FIRST against fine-tuning**: {_told(against['fine-tune']['first'])}; {theirs['fine-tune']}.",
        f"- **FIRST against plain distillation**: {_told(of_distill['first'])}; {theirs['distill']}.",
        f"- **FIRST against the student before training**: {_told(of_base['first'])}.",
        f"- **A temperature on the fine-tuned student, against FIRST**: {_told(against['first']['fine-tune+T'])}; on "
        f"the distilled student, against plain distillation: {_told(of_distill['distill+T'])}.",
        "- **Weights interpolated between the base model and the distilled student, against plain distillation**: "
        f"{_told(of_distill['distill-base-weights'])}. Against the student before training: "
        f"{_told(of_base['distill-base-weights'])}: {_by_place(runs, 'distill-base-weights', BASE_STUDENT)}.",
    ]
    intro = "Differences in Trust, mean over the four test sets, paired by seed (`make seeds`):"
    return "\n".join([intro, *lines])


def _in_mean(found: Sequence[Difference]) -> dict[str, Difference]:
    return {one.method: one for one in found if one.place == MEAN}


def _paper_gain(baseline: str) -> float:
    """FIRST's Trust less a baseline's in the paper's Table 1, in points, mean over families and test sets."""
    trust = {name: [row["trust"] for row in paper_rows() if row["method"] == name] for name in ("first", baseline)}
    return 100 * (mean(trust["first"]) - mean(trust[baseline]))


def _by_place(runs: Sequence[Results], method: str, baseline: str) -> str:
    """A method's difference from a baseline on each test set, in points, without intervals."""
    found = [one for one in differences(runs, baseline) if one.method == method and one.place != MEAN]
    return ", ".join(f"{100 * one.mean.estimate:+.1f} {' '.join(one.place)}" for one in found)


def _told(one: Difference) -> str:
    mean_, low, high = (f"{100 * value:+.1f}" for value in (one.mean.estimate, one.mean.low, one.mean.high))
    verdict = ("better" if one.mean.estimate > 0 else "worse") if one.found else "no difference was found"
    detectable = "" if one.found else f", which detect {100 * one.detectable:.1f} points with 80 % probability"
    return f"{verdict}, {mean_} points ({low} to {high}; p = {one.p:.3f}, {one.seeds} seeds{detectable})"


def differences_block(runs: Sequence[Results]) -> str:
    """Returns paired differences in Trust to the baselines, and what could have been found."""
    parts = []
    for baseline in (BASE_STUDENT, "fine-tune", "distill", "first", "distill+T"):
        found = [one for one in differences(runs, baseline) if one.method != "teacher"]
        parts.append(f"Trust minus that of `{baseline}`, in points:")
        parts.append(markdown_table(*difference_table(found)))
        smallest = mean(one.detectable for one in found if one.place != MEAN)
        parts.append(
            f"A study of {len(runs)} seeds detects a true difference of {100 * smallest:.1f} points on one test set "
            "with 80 % probability (mean over methods and test sets)."
        )
    for measure, title in (("accuracy", "Accuracy"), ("ece", "ECE")):
        found = [one for one in differences(runs, "fine-tune", measure) if one.method != "teacher"]
        parts += [f"{title} minus that of `fine-tune`, in points:", markdown_table(*difference_table(found))]
    return "\n\n".join(parts)


def truth_block(runs: Sequence[Results]) -> str:
    """Returns the distances from the exact posterior, mean over seeds, for every method and test set."""
    places = list(dict.fromkeys((row["setting"], row["dataset"]) for run in runs for row in run["rows"]))
    frames = [truth_frame(runs, *place)[list(TRUTH)] for place in places]
    lines = [
        [str(method), *(" / ".join(f"{value:.3f}" for value in frame.loc[method]) for frame in frames)]
        for method in frames[0].index
    ]
    head = ["method", *(" ".join(place) for place in places)]
    return f"{' / '.join(TRUTH.values())}, {_over(runs)}:\n\n{markdown_table(head, lines)}"


def cost_block(runs: Sequence[Results]) -> str:
    """Returns what each method cost on the main task: seconds and operations, mean over seeds."""
    frame = cost_frame(runs, runs[0]["rows"][0]["dataset"])
    return _markdown(frame, "method")


def spread_block(runs: Sequence[Results]) -> str:
    """Returns the standard deviation of Trust between seeds of the data alone, and of training alone."""
    place = ("in-domain", "csqa")
    of = {kind: [run for run in runs if f"-{kind}-" in run["name"]] for kind in ("data", "weights")}
    lines = [
        [method, *(f"{100 * spread_of(of[kind], method, place):.1f}" for kind in of)]
        for method in dict.fromkeys(row["method"] for row in runs[0]["rows"])
    ]
    counts = ", ".join(f"{len(of[kind])} seeds of {name}" for kind, name in (("data", "data"), ("weights", "training")))
    head = ["method", "other questions, same training seed", "same questions, other training seed"]
    return f"Standard deviation of Trust on CSQA-like questions, in points ({counts}):\n\n{markdown_table(head, lines)}"


def mechanism_block(runs: Sequence[Results]) -> str:
    """Returns confidence and accuracy from teacher to student on the main task, mean over seeds."""
    lines = [
        [
            str(method),
            f"{line['', 'coefficient']:.2f}",
            *(f"{line[title, 'confidence']:.1f} / {line[title, 'accuracy']:.1f}" for title in STAGES.values()),
        ]
        for method, line in mechanism_frame(runs).iterrows()
    ]
    head = ["method", "coefficient", *STAGES.values()]
    return f"Mean confidence / accuracy in percent, {_over(runs)}:\n\n{markdown_table(head, lines)}"


def _over(runs: Sequence[Results]) -> str:
    """Which seeds a table's figures are the mean of."""
    return "one seed" if len(runs) == 1 else f"mean over {len(runs)} seeds"


def map_block(runs: Sequence[Results]) -> str:
    """Returns the map in short: every method's gain by how over-confident the teacher is."""
    frame = benefit_frame(benefit(runs))
    seeds = len({run["seed"] for run in runs})
    told = (
        f"Trust minus fine-tuning's in points, by the teacher's over-confidence in points; {len(runs)} cells, up to "
        f"{seeds} seeds a setting; above and below 0: settings whose 95 % interval over seeds is:"
    )
    return f"{told}\n\n{_markdown(frame, 'test set', 'method')}"


def following_block(runs: Sequence[Results]) -> str:
    """Returns how closely the students of distillation and of FIRST follow their targets, by epochs."""
    parts = []
    for method in ("distill", "first"):
        shown = _markdown(following_frame(runs, method), "epochs")
        parts += [f"`{method}`, mean confidence in percent:", shown]
    return "\n\n".join(parts)


def _markdown(frame: pd.DataFrame, *names: str) -> str:
    """Returns a frame of numbers, its index under these names; where there is no number, nothing."""
    lines = [
        [*map(str, place if isinstance(place, tuple) else (place,)), *("" if v != v else f"{v:g}" for v in line)]
        for place, line in frame.iterrows()
    ]
    return markdown_table([*names, *frame.columns], lines)


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
    theirs = ", ".join(f"{100 * row['ece']:.1f}" for row in _paper_teachers(task))
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


def _paper_teachers(task: str) -> list[dict[str, Any]]:
    families = ("Llama-1 33B->7B", "Llama-2 13B->7B", "OpenLlama 13B->7B")
    found = [row for family in families for row in paper_rows(family)]
    return [r for r in found if (r["setting"], r["dataset"], r["method"]) == ("in-domain", task, "teacher")]


def _base(run: Results, role: str, task: str) -> dict[str, Any]:
    return next(row for row in run["base"] if (row["role"], row["dataset"]) == (role, task))


def _tuned(run: Results, method: str, task: str) -> dict[str, Any]:
    wanted = (method, "in-domain", task)
    return next(row for row in run["rows"] if (row["method"], row["setting"], row["dataset"]) == wanted)


def _spread(values: Sequence[float]) -> str:
    entry: Entry = table.spread_entry([{"value": value} for value in values], "value")
    return entry.text


def variants_block(runs: Sequence[Results]) -> str:
    """Returns methods beyond the paper over seeds, with their paired differences in Trust to the paper's."""
    rows = table.of_seeds(runs).entries
    head = ["method", *(f"{' '.join(place)}<br>acc / ECE / Trust" for place in rows)]
    wanted = ("fine-tune", "distill", "first")
    baselines = [name for name in wanted if any(name in methods for methods in rows.values())]
    found = {base: differences(runs, base) for base in baselines}
    head += [f"Trust minus {base}'s" for base in baselines]
    lines = []
    for name in dict.fromkeys(name for methods in rows.values() for name in methods):
        cells = [" / ".join(one.text for one in methods[name].values()) for methods in rows.values()]
        lines.append([name, *cells, *(_overall(found[base], name) for base in baselines)])
    return f"Mean over {len(runs)} seeds, in percent and points:\n\n{markdown_table(head, lines)}"


def _overall(found: Sequence[Difference], method: str) -> str:
    """A method's difference in the mean over test sets, or on the only one."""
    of = [one for one in found if one.method == method]
    return of[-1].text if of else ""  # the last is the mean, where there are several


def settings_block() -> str:
    """Returns the settings nearest to the paper's baselines."""
    done = choose_settings.kept_cells()
    return choose_settings.table(done, choose_settings.ranked(done)[:6])


def adapters_block() -> str:
    """Returns the accuracy of adapters by rate and rank, beside full tuning's."""
    done = choose_adapter.kept_cells()
    return choose_adapter.table(done) if choose_adapter.finished(done) else ""


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


def headline_block(runs: Sequence[Results]) -> str:
    """Returns the table of the first pair of pretrained models, with the methods that the README shows."""
    first = [run for run in runs if run["preset"] == runs[0]["preset"]]
    took = ", ".join(f"{_hours(run):.1f} ({_task_of(run)})" for run in first)
    told = f"Training and extraction took {took} hours of one core."
    return f"{_pretrained_table(_only(first, SHOWN))}\n\n{told}"


def pretrained_block(runs: Sequence[Results]) -> str:
    """Returns a table for each pair of pretrained models, and what the microworld's map predicted for each cell."""
    parts = []
    for preset in dict.fromkeys(run["preset"] for run in runs):
        of = [run for run in runs if run["preset"] == preset]
        predicted = "\n".join(f"- {_predicted(run)}" for run in of if run["prediction"])
        parts += [_pretrained_table(of), predicted]
    return "\n\n".join(filter(None, parts))


def _pretrained_table(runs: Sequence[Results]) -> str:
    """A pair's table, and what its numbers are."""
    trained = ", ".join(f"{run['trained_on']} ({_task_of(run)})" for run in runs)
    told = (
        f"`{runs[0]['preset']}`, seed {runs[0]['seed']}; in percent, with 95 % bootstrap intervals over questions; "
        f"trained on {trained} examples:"
    )
    return f"{told}\n\n{table.of_intervals([row for run in runs for row in run['intervals']]).markdown()}"


def each_seed_block(runs: Sequence[Results]) -> str:
    """Returns every seed's numbers on one test set and their means, for the methods that all seeds have."""
    tables = [*(table.of_rows(run["intervals"]) for run in runs), table.of_seeds(runs, "intervals")]
    found = [next(iter(one.entries.values())) for one in tables]
    head = ["method", *(f"{name}<br>acc / ECE / Trust" for name in (*(f"seed {run['seed']}" for run in runs), "mean"))]
    shared = [name for name in found[-1] if all(name in methods for methods in found)]
    lines = [[name, *(" / ".join(one.text for one in methods[name].values()) for methods in found)] for name in shared]
    return f"In percent, the means with half of their 95 % intervals over seeds:\n\n{markdown_table(head, lines)}"


def pretrained_mechanism_block(runs: Sequence[Results]) -> str:
    """Returns confidence and accuracy from teacher to student for each pair and task of the pretrained models."""
    found: dict[tuple[str, str], list[Results]] = {}
    for run in runs:
        if run["mechanism"]:
            found.setdefault((run["preset"], _task_of(run)), []).append(run)
    return "\n\n".join(f"`{preset}`, {task}. {mechanism_block(of)}" for (preset, task), of in found.items())


def _task_of(run: Results) -> str:
    """The task that a cell of one column trains on."""
    found: str = run["changes"]["columns"][0]["train"]
    return found


def _predicted(run: Results) -> str:
    """What the map predicted from a cell's teacher before a student was distilled, what was measured, and the cost."""
    noted = Prediction(**run["prediction"])
    trust: dict[str, list[float]] = {}
    for row in run["rows"]:
        trust.setdefault(row["method"], []).append(row["trust"])
    among = {name: mean(values) for name, values in trust.items() if name == "fine-tune" or name in noted.gains}
    orders = (noted.order, sorted(among, key=lambda name: -among[name]))
    predicted, here = (", ".join(f"`{name}`" for name in order if name in among) for order in orders)
    return (
        f"{_task_of(run)}, seed {run['seed']}: the teacher's confidence on validation questions is "
        f"{100 * noted.overconfidence:.1f} points above its accuracy. The benefit map predicts the order of "
        f"Trust {predicted}; measured: {here}. Training and extraction took {_hours(run):.1f} hours of one core."
    )


def _hours(run: Results) -> float:
    """Hours of a cell's trainings and extraction; methods that share a student are counted once."""
    costs = [of for tasks in run["cost"].values() for of in tasks.values()]
    longest = max(costs, key=lambda one: one["total_seconds"])
    others = {one["seconds"] for one in costs} - {longest["seconds"]}
    teacher = {one["seconds"] for one in run["cost"]["teacher"].values()}
    return float(longest["total_seconds"] + sum(others - teacher)) / 3600


def _kept(
    group: str, block: Callable[[Sequence[Results]], str], least: int = 1, base: bool = False
) -> Callable[[], str]:
    """A block of a group's kept results, with the base student's if wanted; empty while fewer than `least` are kept."""

    def make() -> str:
        runs = study.kept(group)
        runs = [with_base_student(run) for run in runs] if base else runs
        return block(runs) if len(runs) >= least else ""

    return make


def _pair_seeds() -> str:
    """The pretrained pair's first column over its seeds; empty while one is missing."""
    kept = [*study.kept("pretrained"), *study.kept("pretrained-seeds")]
    runs = [run for run in kept if (run["preset"], _task_of(run)) == (study.PAIR, study.PRETRAINED_TASKS[0])]
    return each_seed_block(runs) if len(runs) > len(study.PRETRAINED_SEEDS) else ""


def _real() -> str:
    file = KEPT / "real-small-seed-0.json"
    return real_block(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ""


BLOCKS: dict[tuple[Path, str], tuple[str, Callable[[], str]]] = {
    (README, "headline"): ("make pretrained", _kept("pretrained", headline_block)),
    (README, "results"): ("make seeds", _kept("seeds", results_block, base=True)),
    (README, "findings"): ("make seeds", _kept("seeds", sentences_block, least=3, base=True)),
    (FINDINGS, "claims"): ("make seeds", _kept("seeds", claims_block)),
    (FINDINGS, "differences"): ("make seeds", _kept("seeds", differences_block, least=3, base=True)),
    (FINDINGS, "mechanism"): ("make seeds", _kept("seeds", mechanism_block)),
    (FINDINGS, "truth"): ("make seeds", _kept("seeds", truth_block)),
    (FINDINGS, "cost"): ("make seeds", _kept("seeds", cost_block)),
    (FINDINGS, "spread"): ("make seeds", _kept("spread", spread_block, least=4)),
    (FINDINGS, "following"): ("make map", _kept("map", following_block, least=20)),
    (FINDINGS, "map"): ("make map", _kept("map", map_block, least=20)),
    (FINDINGS, "variants"): ("make beyond", _kept("beyond", variants_block, least=2)),
    (FINDINGS, "variants out of domain"): ("make beyond", _kept("out-of-domain", variants_block, least=2)),
    (FINDINGS, "exact temperature"): ("make beyond", _kept("exact", variants_block, least=2)),
    (FINDINGS, "pretrained"): ("make pretrained", _kept("pretrained", pretrained_block)),
    (FINDINGS, "pretrained seeds"): ("make pretrained", _pair_seeds),
    (FINDINGS, "pretrained mechanism"): ("make pretrained", _kept("pretrained", pretrained_mechanism_block)),
    (FINDINGS, "real data"): ("make real", _real),
    (PROTOCOL, "settings"): ("make choose-settings", settings_block),
    (PROJECT / "docs" / "reliability.md", "mutants"): ("make mutants", mutants.kept),
    (scale.PAGE, "scale"): ("python -m benchmarks.growth", scale.block),
    (PROTOCOL, "adapters"): ("make choose-adapter", adapters_block),
}


if __name__ == "__main__":
    real() if "real" in sys.argv[1:] else main()
