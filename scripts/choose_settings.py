"""Chooses the microworld's epochs, training questions and learning rate by its *baselines*: `make choose-settings`.

The rule, the grid and the distance are those of `docs/protocol.md`. Cells are kept in `data/results/settings.json` as
they are finished, so a search that is stopped resumes.
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from firstlib import Experiment
from firstlib.evaluation.scores import evaluate
from firstlib.results.paper import paper_rows
from firstlib.results.seeds import KEPT
from firstlib.runtime.files import write_json
from firstlib.runtime.progress import steps

KEPT_CELLS = KEPT / "settings.json"
SEEDS = (100, 101, 102)
FIRST_SEED, FINALISTS = SEEDS[:1], 10  # the whole grid on one seed, the nearest settings on all
EPOCHS = (3, 6, 10, 15)
QUESTIONS = {"csqa": (600, 1200, 2000, 3600), "boolq": (300, 600, 1000, 2000), "alpaca": (200, 400, 700, 1000)}
RATE, OTHER_RATES = 1e-3, (5e-4, 2e-3)
MOST_OF_A_CELL, MOST_IN_ALL = 14_000, 20_000  # training questions times epochs
# Each training task with its column's setting and test sets, as in the preset.
COLUMNS = {
    "csqa": ("in-domain", ("csqa",)),
    "boolq": ("in-domain", ("boolq",)),
    "alpaca": ("out-of-domain", ("csqa", "obqa")),
}
FAMILIES = ("Llama-1 33B->7B", "Llama-2 13B->7B", "OpenLlama 13B->7B")
METHODS = ("teacher", "fine-tune")
TIE = 0.05  # points


@dataclass(frozen=True)
class Cell:
    """One training task under one setting and seed."""

    task: str
    epochs: int
    questions: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Setting:
    """Epochs and rate for all tasks, and each task's number of training questions."""

    epochs: int
    rate: float
    questions: tuple[int, ...]  # in the order of COLUMNS

    def cells(self, task: str, seeds: Sequence[int] = SEEDS) -> list[Cell]:
        """Returns the task's cells, one per seed."""
        count = self.questions[list(COLUMNS).index(task)]
        return [Cell(task, self.epochs, count, self.rate, seed) for seed in seeds]

    def all_cells(self) -> list[Cell]:
        """Returns the cells of every task and seed."""
        return [cell for task in COLUMNS for cell in self.cells(task)]

    @property
    def passes(self) -> int:
        """Training questions times epochs, over all tasks."""
        return self.epochs * sum(self.questions)


def grid() -> list[Cell]:
    """Returns every cell of the search's first round: one seed, one rate."""
    return [
        Cell(task, epochs, count, RATE, seed)
        for seed in FIRST_SEED
        for task, counts in QUESTIONS.items()
        for epochs, count in product(EPOCHS, counts)
        if epochs * count <= MOST_OF_A_CELL
    ]


def measure(cell: Cell) -> dict[str, Any]:
    """Trains teacher and fine-tuned student of one cell; returns their validation scores, and the base models'."""
    setting, tests = COLUMNS[cell.task]
    experiment = Experiment("microworld", cell.seed, "runs/settings").change(
        threads=1, sizes__train=cell.questions, training__epochs=cell.epochs,
        training__teacher_learning_rate=cell.rate, training__student_learning_rate=cell.rate,
        columns=[{"setting": setting, "train": cell.task, "test": list(tests)}],
    )  # fmt: skip
    measures = experiment.settings.measures
    scores: dict[str, dict[str, Any]] = {}
    for test in tests:
        found = {name: experiment.predictions(name, cell.task, test, "validation") for name in METHODS}  # type: ignore[arg-type]
        found |= {
            f"base {role}": experiment.base_predictions(role, test, "validation") for role in ("teacher", "student")
        }  # type: ignore[arg-type]
        scores[test] = {name: asdict(evaluate(answers, measures)) for name, answers in found.items()}
    return {"cell": asdict(cell), "scores": scores}


Scores = dict[Cell, dict[str, Any]]  # by test set and model


def kept_cells() -> Scores:
    """Returns the finished cells with their scores."""
    if not KEPT_CELLS.is_file():
        return {}
    return {Cell(**one["cell"]): one["scores"] for one in json.loads(KEPT_CELLS.read_text(encoding="utf-8"))}


def compute(cells: Iterable[Cell], jobs: int) -> None:
    """Measures the cells that are not kept yet, several at a time, and keeps each as it is finished."""
    done = kept_cells()
    missing = [cell for cell in cells if cell not in done]
    with get_context("spawn").Pool(jobs) as pool, steps("cells", len(missing)) as at:
        for number, found in enumerate(pool.imap_unordered(measure, missing), 1):
            done[Cell(**found["cell"])] = found["scores"]
            write_json(KEPT_CELLS, [{"cell": asdict(cell), "scores": scores} for cell, scores in done.items()])
            at(number)


# -- the rule ----------------------------------------------------------------------------------------------------


def settings(done: Scores, rates: Sequence[float], seeds: Sequence[int] = SEEDS) -> Iterator[Setting]:
    """Yields every eligible setting whose cells of these seeds are all finished."""
    for epochs, rate in product(EPOCHS, rates):
        for counts in product(*QUESTIONS.values()):
            setting = Setting(epochs, rate, counts)
            whole = all(cell in done for task in COLUMNS for cell in setting.cells(task, seeds))
            if whole and setting.passes <= MOST_IN_ALL and raises_accuracy(setting, done):
                yield setting


def raises_accuracy(setting: Setting, done: Scores) -> bool:
    """Whether fine-tuning raises mean validation accuracy in every in-domain column, of both models."""
    pairs = (("teacher", "base teacher"), ("fine-tune", "base student"))
    return all(
        _mean(setting, done, task, task, tuned, "accuracy") > _mean(setting, done, task, task, base, "accuracy")
        for task, (where, _) in COLUMNS.items()
        if where == "in-domain"
        for tuned, base in pairs
    )


def _mean(setting: Setting, done: Scores, task: str, test: str, name: str, measure: str) -> float:
    """Returns the mean over the seeds that are finished, in percent."""
    return 100 * mean(done[cell][test][name][measure] for cell in setting.cells(task) if cell in done)


def paper_eces(where: str, test: str, method: str) -> list[float]:
    """Returns the ECE of the paper's three families, in percent."""
    rows = [row for family in FAMILIES for row in paper_rows(family)]
    return [100 * r["ece"] for r in rows if (r["setting"], r["dataset"], r["method"]) == (where, test, method)]


def eces(setting: Setting, done: Scores) -> dict[tuple[str, str, str], float]:
    """Returns the setting's ECE in percent for each column's setting and test set, and for each baseline."""
    return {
        (where, test, name): _mean(setting, done, task, test, name, "ece")
        for task, (where, tests) in COLUMNS.items()
        for test in tests
        for name in METHODS
    }


def distances(found: dict[tuple[str, str, str], float]) -> tuple[float, float]:
    """Returns the root mean square distance to the paper's ranges, and to their means, in points."""
    outside, away = [], []
    for place, ours in found.items():
        theirs = paper_eces(*place)
        outside.append(max(min(theirs) - ours, ours - max(theirs), 0.0))
        away.append(ours - mean(theirs))
    return math.hypot(*outside) / math.sqrt(len(outside)), math.hypot(*away) / math.sqrt(len(away))


def ranked(
    done: Scores, rates: Sequence[float] = (RATE,), seeds: Sequence[int] = SEEDS
) -> list[tuple[float, float, Setting]]:
    """Returns eligible settings, the nearest first; near-equal distances by that to the means."""
    found = [(*distances(eces(setting, done)), setting) for setting in settings(done, rates, seeds)]
    return sorted(found, key=lambda one: (round(one[0] / TIE), one[1]))


def table(done: Scores, best: Sequence[tuple[float, float, Setting]]) -> Table:
    """Returns the nearest settings with their baselines' ECE, the paper's ranges above them."""
    lines = Table(title="validation ECE of the baselines, in percent, mean over seeds")
    places = [(where, test, name) for where, tests in COLUMNS.values() for test in tests for name in METHODS]
    for heading in ("epochs", "rate", "questions", "distance", *("\n".join(place) for place in places)):
        lines.add_column(heading, justify="right")
    ranges = [f"{min(paper_eces(*place)):.1f}-{max(paper_eces(*place)):.1f}" for place in places]
    lines.add_row("the paper", "", "", "", *ranges, end_section=True)
    for distance, _, setting in best:
        found = eces(setting, done)
        counts = " ".join(map(str, setting.questions))
        cells = [f"{found[place]:.1f}" for place in places]
        lines.add_row(str(setting.epochs), f"{setting.rate:g}", counts, f"{distance:.2f}", *cells)
    return lines


def main() -> None:
    """Computes missing cells and shows the nearest settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, one CPU thread each")
    parser.add_argument("--show", action="store_true", help="compute nothing")
    options = parser.parse_args()
    if not options.show:
        search(options.jobs)
    done = kept_cells()
    Console().print(table(done, ranked(done, (RATE, *OTHER_RATES))[:10]))


def search(jobs: int) -> None:
    """Computes the grid on one seed, its nearest settings on all seeds, and other rates of the two nearest."""
    compute(grid(), jobs)
    finalists = [setting for _, _, setting in ranked(kept_cells(), seeds=FIRST_SEED)[:FINALISTS]]
    compute(_cells(finalists), jobs)
    nearest = [setting for _, _, setting in ranked(kept_cells())[:2]]
    compute(_cells(replace(setting, rate=rate) for setting in nearest for rate in OTHER_RATES), jobs)


def _cells(of: Iterable[Setting]) -> list[Cell]:
    return list(dict.fromkeys(cell for setting in of for cell in setting.all_cells()))


if __name__ == "__main__":
    main()
