"""Pairs of pretrained models: their tables, and what the microworld's map predicted for them."""

from collections.abc import Sequence
from statistics import mean

from firstlib.results import table
from firstlib.results.markup import markdown_table
from firstlib.results.prediction import Prediction
from scripts.blocks.common import SHOWN, Results, only
from scripts.blocks.seeds import mechanism_block


def headline_block(runs: Sequence[Results]) -> str:
    """Returns the table of the first pair of pretrained models, with the methods that the README shows."""
    first = [run for run in runs if run["preset"] == runs[0]["preset"]]
    took = ", ".join(f"{_hours(run):.1f} ({task_of(run)})" for run in first)
    told = f"Training and extraction took {took} hours of one core."
    return f"{_pretrained_table(only(first, SHOWN))}\n\n{told}"


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
    trained = ", ".join(f"{run['trained_on']} ({task_of(run)})" for run in runs)
    told = (
        f"`{runs[0]['preset']}`, seed {runs[0]['seed']}; in percent, with 95 % bootstrap intervals over questions; "
        f"trained on {trained} examples:"
    )
    return f"{told}\n\n{table.of_intervals([row for run in runs for row in run['intervals']]).markdown()}"


def seeds_block(runs: Sequence[Results], planned: Sequence[int]) -> str:
    """Returns a pair's seeds on one task, what the map predicted for those after the first, and which are missing."""
    missing = [str(seed) for seed in planned if seed not in {run["seed"] for run in runs}]
    lines = [f"- {_predicted(run)}" for run in runs[1:]]
    lines += [f"- Not computed yet: seed {', '.join(missing)} (`make pretrained`)."] if missing else []
    return "\n\n".join([each_seed_block(runs), "\n".join(lines)])


def each_seed_block(runs: Sequence[Results]) -> str:
    """Returns every seed's numbers on one test set and their means, for the methods that all seeds have.

    Intervals over so few seeds would say nothing; the seeds themselves show how far apart they lie.
    """
    tables = [*(table.of_rows(run["intervals"]) for run in runs), table.of_seeds(runs, "intervals")]
    found = [next(iter(one.entries.values())) for one in tables]
    head = ["method", *(f"{name}<br>acc / ECE / Trust" for name in (*(f"seed {run['seed']}" for run in runs), "mean"))]
    shared = [name for name in found[-1] if all(name in methods for methods in found)]
    lines = [
        [name, *(" / ".join(f"{one.value:.1f}" for one in methods[name].values()) for methods in found)]
        for name in shared
    ]
    told = "In percent, each seed and the mean:"
    return f"{told}\n\n{markdown_table(head, lines)}"


def pretrained_mechanism_block(runs: Sequence[Results]) -> str:
    """Returns confidence and accuracy from teacher to student for each pair and task of the pretrained models."""
    found: dict[tuple[str, str], list[Results]] = {}
    for run in runs:
        if run["mechanism"]:
            found.setdefault((run["preset"], task_of(run)), []).append(run)
    return "\n\n".join(f"`{preset}`, {task}. {mechanism_block(of)}" for (preset, task), of in found.items())


def task_of(run: Results) -> str:
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
        f"{task_of(run)}, seed {run['seed']}: the teacher's confidence on validation questions is "
        f"{100 * noted.overconfidence:.1f} points above its accuracy. The benefit map predicts the order of "
        f"Trust {predicted}; measured: {here}. Training and extraction took {_hours(run):.1f} hours of one core."
    )


def _hours(run: Results) -> float:
    """Hours of a cell's trainings and of one extraction; methods that share a student are counted once."""
    costs = {name: next(iter(of.values())) for name, of in run["cost"].items()}
    teacher = costs.pop("teacher", {"seconds": 0.0})["seconds"]
    trained = {one["seconds"] for name, one in costs.items() if "shares" not in run["methods"][name]}
    before = [one["total_seconds"] - one["seconds"] for one in costs.values() if one["knowledge_bytes"]]
    extraction = min(before) - teacher if before else 0.0
    return float(teacher + extraction + sum(trained)) / 3600
