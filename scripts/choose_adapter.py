"""Chooses the rate of the microworld's LoRA and QLoRA by fine-tuning's accuracy: `make choose-adapter`.

The rule and the grid are those of `docs/protocol.md`. Cells are kept in `data/results/adapters.json` as they are
finished, so a search that is stopped resumes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from firstlib import Experiment
from firstlib.evaluation.scores import evaluate
from firstlib.results.markup import markdown_table
from firstlib.results.study import KEPT
from firstlib.runtime.files import write_json
from scripts import cells as cells_of

KEPT_CELLS = KEPT / "adapters.json"
SEEDS = (100, 101, 102)
TASKS = {"student": ("csqa", "boolq"), "teacher": ("csqa",)}  # where the study tunes them with adapters in domain
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
RANK, OTHER_RANKS = 16, (4, 64)
MEASURES = ("accuracy", "ece")


@dataclass(frozen=True)
class Choice:
    """How a model is tuned; of full tuning the rate and the rank are the preset's and 0."""

    tuning: str
    rate: float = 1e-3
    rank: int = 0
    model: str = "student"


@dataclass(frozen=True)
class Cell:
    """A choice on one task under one seed."""

    choice: Choice
    task: str
    seed: int


FULL, FULL_TEACHER = Choice("full"), Choice("full", model="teacher")
Scores = dict[Cell, dict[str, float]]


def measure(cell: Cell) -> tuple[Cell, dict[str, float]]:
    """Fine-tunes the model of one cell; returns its accuracy and ECE on validation questions."""
    preset, choice = Experiment("microworld", cell.seed, "runs/settings"), cell.choice
    column = next(one for one in preset.settings.columns if one.train == cell.task)
    adapter = {"rank": choice.rank, "alpha": 2 * choice.rank, "learning_rate": choice.rate}
    tuned = {f"{choice.model}__tuning": choice.tuning, f"{choice.model}__lora": adapter}
    changes: dict[str, Any] = tuned if choice.rank else {}
    experiment = preset.change(threads=1, columns=[column.model_dump(mode="json")], **changes)
    name = "fine-tune" if choice.model == "student" else choice.model
    answers = experiment.predictions(name, cell.task, cell.task, "validation")
    scores = asdict(evaluate(answers, experiment.settings.measures))
    return cell, {name: scores[name] for name in MEASURES}


def kept_cells() -> Scores:
    """Returns the finished cells with their scores."""
    if not KEPT_CELLS.is_file():
        return {}
    kept = json.loads(KEPT_CELLS.read_text(encoding="utf-8"))
    return {Cell(Choice(**one["choice"]), one["task"], one["seed"]): one["scores"] for one in kept}


def compute(cells: Iterable[Cell], jobs: int) -> None:
    """Measures the cells that are not kept yet, several at a time, and keeps each as it is finished."""
    done = kept_cells()
    missing = [cell for cell in cells if cell not in done]

    def keep(cell: Cell, scores: dict[str, float]) -> None:
        done[cell] = scores
        write_json(KEPT_CELLS, [{**asdict(one), "scores": of} for one, of in done.items()])

    cells_of.compute(missing, measure, keep, jobs)


def search(jobs: int) -> None:
    """Computes full tuning and the rates of the adapters, then other ranks at the student's best rate."""
    pairs = (("lora", "student"), ("qlora", "student"), ("lora", "teacher"))
    rates = [Choice(tuning, rate, RANK, model) for tuning, model in pairs for rate in RATES]
    compute(_cells([FULL, FULL_TEACHER, *rates]), jobs)
    rate = best("lora", kept_cells()).rate
    compute(_cells([Choice("lora", rate, rank) for rank in OTHER_RANKS]), jobs)


def _cells(choices: Sequence[Choice]) -> Iterator[Cell]:
    return (Cell(choice, task, seed) for choice in choices for task in TASKS[choice.model] for seed in SEEDS)


def finished(done: Scores) -> list[Choice]:
    """Returns the choices that are finished on all tasks and seeds."""
    return [choice for choice in dict.fromkeys(cell.choice for cell in done) if set(_cells([choice])) <= done.keys()]


def accuracy(choice: Choice, done: Scores) -> float:
    """Returns a choice's validation accuracy, mean over tasks and seeds."""
    return mean(done[cell]["accuracy"] for cell in _cells([choice]))


def best(tuning: str, done: Scores, model: str = "student") -> Choice:
    """Returns an adapter's finished choice of rank 16 with the highest accuracy; of equals the smaller rate."""
    of = [one for one in finished(done) if (one.tuning, one.rank, one.model) == (tuning, RANK, model)]
    return max(of, key=lambda choice: (accuracy(choice, done), -choice.rate))


def table(done: Scores) -> str:
    """Returns accuracy and ECE of the finished choices in Markdown, in percent, mean over seeds."""
    lines = []
    for choice in sorted(finished(done), key=lambda one: (one.model, one.tuning, one.rank, one.rate)):
        cells = [[done[Cell(choice, task, seed)] for seed in SEEDS] for task in TASKS[choice.model]]
        scores = [" / ".join(f"{100 * mean(one[name] for one in of):.1f}" for name in MEASURES) for of in cells]
        scores += [""] * (len(TASKS["student"]) - len(scores))
        rank, mean_accuracy = str(choice.rank or ""), f"{100 * accuracy(choice, done):.1f}"
        lines.append([choice.model, choice.tuning, rank, f"{choice.rate:g}", *scores, mean_accuracy])
    columns = [f"{task}: accuracy / ECE" for task in TASKS["student"]]
    head = ["model", "tuning", "rank", "rate", *columns, "mean accuracy"]
    return markdown_table(head, lines)


def main() -> None:
    """Computes missing cells and shows them all."""
    options = cells_of.options(__doc__)
    if not options.show:
        search(options.jobs)
    print(table(kept_cells()))


if __name__ == "__main__":
    main()
