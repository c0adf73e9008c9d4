"""Chooses the microworld's epochs, training questions and learning rate by its *baselines*: `make choose-settings`.

The rule, the grid and the distance are those of `docs/protocol.md`. Cells are kept in `data/results/settings.json` as
they are finished, so a search that is stopped resumes.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from statistics import mean
from typing import Any

from firstlib import Experiment
from firstlib.evaluation.scores import evaluate
from firstlib.results.markup import markdown_table
from firstlib.results.paper import family_rows
from firstlib.results.study import KEPT
from firstlib.runtime.files import write_json
from scripts import cells as cells_of

KEPT_CELLS = KEPT / "settings.json"
SEEDS = (100, 101, 102)
FIRST_SEED, FINALISTS = SEEDS[0], 2  # the grid on one seed, each task's nearest choices on all
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
METHODS, ROLES = ("teacher", "fine-tune"), ("teacher", "student")
TIE = 0.05  # points

Place = tuple[str, str, str]  # setting, test set, model


@dataclass(frozen=True)
class Choice:
    """How one task's models are trained."""

    task: str
    epochs: int
    questions: int
    rate: float = RATE

    @property
    def passes(self) -> int:
        """Training questions times epochs."""
        return self.epochs * self.questions


@dataclass(frozen=True)
class Cell:
    """A choice under one seed."""

    choice: Choice
    seed: int


Setting = tuple[Choice, ...]  # one for each task of COLUMNS
Scores = dict[Cell, dict[str, Any]]  # by test set and model


def measure(cell: Cell) -> tuple[Cell, dict[str, Any]]:
    """Trains teacher and fine-tuned student of one cell; returns their validation scores, and the base models'."""
    task, (where, tests) = cell.choice.task, COLUMNS[cell.choice.task]
    experiment = Experiment("microworld", cell.seed, "runs/settings").change(
        threads=1, sizes__train=cell.choice.questions, training__epochs=cell.choice.epochs,
        training__teacher_learning_rate=cell.choice.rate, training__student_learning_rate=cell.choice.rate,
        columns=[{"setting": where, "train": task, "test": list(tests)}],
    )  # fmt: skip
    measures, scores = experiment.settings.measures, {}
    for test in tests:
        found = {name: experiment.predictions(name, task, test, "validation") for name in METHODS}  # type: ignore[arg-type]
        found |= {f"base {role}": experiment.base_predictions(role, test, "validation") for role in ROLES}  # type: ignore[arg-type]
        scores[test] = {name: asdict(evaluate(answers, measures)) for name, answers in found.items()}
    return cell, scores


def kept_cells() -> Scores:
    """Returns the finished cells with their scores."""
    if not KEPT_CELLS.is_file():
        return {}
    kept = json.loads(KEPT_CELLS.read_text(encoding="utf-8"))
    return {Cell(Choice(**one["choice"]), one["seed"]): one["scores"] for one in kept}


def keep(done: Scores) -> None:
    """Writes the finished cells."""
    write_json(KEPT_CELLS, [{**asdict(cell), "scores": scores} for cell, scores in done.items()])


def compute(cells: Iterable[Cell], jobs: int) -> None:
    """Measures the cells that are not kept yet, several at a time, and keeps each as it is finished."""
    done = kept_cells()
    missing = sorted((cell for cell in set(cells) if cell not in done), key=lambda cell: -cell.choice.passes)

    def keep_one(cell: Cell, scores: dict[str, Any]) -> None:
        done[cell] = scores
        keep(done)

    cells_of.compute(missing, measure, keep_one, jobs)


def search(jobs: int) -> None:
    """Computes the grid on one seed, each task's nearest choices on all seeds, then other rates of the best setting."""
    for epochs in EPOCHS:
        compute(worth_trying(epochs, kept_cells()), jobs)
    done = kept_cells()
    finalists = [choice for task in COLUMNS for choice in nearest(task, done)[:FINALISTS]]
    compute([Cell(choice, seed) for choice in finalists for seed in SEEDS], jobs)
    best = ranked(kept_cells())[0][-1]
    others = [tuple(replace(choice, rate=rate) for choice in best) for rate in OTHER_RATES]
    compute([Cell(choice, FIRST_SEED) for setting in others for choice in setting], jobs)
    done = kept_cells()
    nearer = [setting for setting in others if _distance(setting, done) < _distance(best, done)]
    compute([Cell(choice, seed) for setting in nearer for choice in setting for seed in SEEDS], jobs)


# -- the rule ----------------------------------------------------------------------------------------------------


def worth_trying(epochs: int, done: Scores) -> list[Cell]:
    """Returns the first seed's cells of so many epochs, without training sets that fewer epochs took too far."""
    choices = [Choice(task, epochs, count) for task, counts in QUESTIONS.items() for count in counts]
    return [
        Cell(choice, FIRST_SEED) for choice in choices if choice.passes <= MOST_OF_A_CELL and not _too_far(choice, done)
    ]


def _too_far(choice: Choice, done: Scores) -> bool:
    """Whether fewer epochs have put every ECE of both models above the paper's ranges."""
    fewer = [replace(choice, epochs=epochs) for epochs in EPOCHS if epochs < choice.epochs]
    known = [each for each in fewer if Cell(each, FIRST_SEED) in done]
    return any(all(ours > max(paper_eces(*place)) for place, ours in eces(each, done).items()) for each in known)


def nearest(task: str, done: Scores) -> list[Choice]:
    """Returns a task's eligible choices of the first seed, the nearest to the paper's ranges first."""
    known = [cell.choice for cell in done if cell.seed == FIRST_SEED and cell.choice.task == task]
    return sorted(filter(lambda each: raises_accuracy(each, done), known), key=lambda each: distances(eces(each, done)))


def settings(done: Scores) -> Iterator[Setting]:
    """Yields every eligible setting whose cells are finished for all seeds."""
    whole = [choice for choice in {cell.choice for cell in done} if all(Cell(choice, seed) in done for seed in SEEDS)]
    for rate in (RATE, *OTHER_RATES):
        at_rate = [each for each in whole if each.rate == rate and raises_accuracy(each, done)]
        for setting in product(*([each for each in at_rate if each.task == task] for task in COLUMNS)):
            if sum(each.passes for each in setting) <= MOST_IN_ALL:
                yield setting


def raises_accuracy(choice: Choice, done: Scores) -> bool:
    """Whether fine-tuning raises mean validation accuracy of both models; out of domain it need not."""
    where, (test, *_) = COLUMNS[choice.task]
    return where == "out-of-domain" or all(
        _mean(choice, done, test, tuned, "accuracy") > _mean(choice, done, test, base, "accuracy")
        for tuned, base in (("teacher", "base teacher"), ("fine-tune", "base student"))
    )


def _mean(choice: Choice, done: Scores, test: str, name: str, measure: str) -> float:
    """Returns the mean over the seeds that are finished, in percent."""
    cells = [Cell(choice, seed) for seed in SEEDS]
    return 100 * mean(done[cell][test][name][measure] for cell in cells if cell in done)


@cache  # the settings are compared by the thousand
def paper_eces(where: str, test: str, method: str) -> list[float]:
    """Returns the ECE of the paper's three families, in percent."""
    return [100 * row["ece"] for row in family_rows(where, test, method)]


def eces(choice: Choice, done: Scores) -> dict[Place, float]:
    """Returns the ECE in percent of both baselines on each test set of the choice's column."""
    where, tests = COLUMNS[choice.task]
    return {(where, test, name): _mean(choice, done, test, name, "ece") for test in tests for name in METHODS}


def distances(found: dict[Place, float]) -> tuple[float, float]:
    """Returns the root mean square distance to the paper's ranges, in steps of TIE, and to their means; in points."""
    outside, away = [], []
    for place, ours in found.items():
        theirs = paper_eces(*place)
        outside.append(max(min(theirs) - ours, ours - max(theirs), 0.0))
        away.append(ours - mean(theirs))
    return TIE * round(_rms(outside) / TIE), _rms(away)


def _rms(values: Sequence[float]) -> float:
    return math.hypot(*values) / math.sqrt(len(values))


def ranked(done: Scores) -> list[tuple[float, float, Setting]]:
    """Returns eligible settings, the nearest first; near-equal distances by that to the means."""
    found = [(*_distance(setting, done), setting) for setting in settings(done)]
    return sorted(found, key=lambda one: one[:2])


def _distance(setting: Setting, done: Scores) -> tuple[float, float]:
    return distances({place: ours for choice in setting for place, ours in eces(choice, done).items()})


def table(done: Scores, best: Sequence[tuple[float, float, Setting]]) -> str:
    """Returns the nearest settings with their baselines' ECE in Markdown, the paper's ranges above them."""
    places = [(where, test, name) for where, tests in COLUMNS.values() for test in tests for name in METHODS]
    head = ["setting: epochs x questions", "rate", "distance", *(" ".join(place) for place in places)]
    ranges = [f"{min(paper_eces(*place)):.1f} to {max(paper_eces(*place)):.1f}" for place in places]
    lines = [["the paper", "", "", *ranges]]
    for distance, _, setting in best:
        found = {place: ours for choice in setting for place, ours in eces(choice, done).items()}
        described = ", ".join(f"{each.task} {each.epochs} x {each.questions:,}" for each in setting)
        lines.append([described, f"{setting[0].rate:g}", f"{distance:.2f}", *(f"{found[p]:.1f}" for p in places)])
    return markdown_table(head, lines)


def main() -> None:
    """Computes missing cells and shows the nearest settings."""
    options = cells_of.options(__doc__)
    if not options.show:
        search(options.jobs)
    done = kept_cells()
    print(table(done, ranked(done)[:10]))


if __name__ == "__main__":
    main()
