"""The microworld's study: cells that can be computed anywhere, in any order, each kept as one JSON file.

A cell is a preset with some settings changed, under one seed. `make seeds` and `make map` compute those that are not
kept yet; `scripts/Snakefile` and `scripts/submit.py` compute the same ones on a cluster.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from firstlib.experiment import Experiment, students, summary
from firstlib.results.cost import cost
from firstlib.results.mechanism import mechanism
from firstlib.runtime.files import write_json
from firstlib.runtime.paths import PROJECT
from firstlib.settings.schema import Task

KEPT = PROJECT / "data" / "results"
RUNS = "runs/study"
PRESET = "microworld"

SEEDS = tuple(range(10))
BEYOND_SEEDS = SEEDS[:5]  # the methods of `beyond` train some thirty students a seed
SPREAD_SEEDS = SEEDS[1:5]  # of the data alone, and of the weights alone; seed 0 is both
MAP_SEEDS = SEEDS[:3]
MAP_EPOCHS = (1, 2, 4, 8, 16)
MAP_QUESTIONS = {"csqa": (200, 400, 800, 1600), "alpaca": (100, 200, 400, 800)}
MAP_METHODS: dict[str, dict[str, Any]] = {
    "fine-tune": {"learns": "answers"},
    "distill": {"learns": "top-k"},
    "label-smoothing": {"learns": "top-k", "map": "label-smoothing", "coefficient": 0.1},
    "first": {"learns": "top-k", "map": "temperature"},
    "first-logit": {"learns": "top-k", "map": "logit-temperature"},
    "fine-tune+T": {"learns": "answers", "afterwards": "student-temperature"},
    "distill+T": {"learns": "top-k", "afterwards": "student-temperature"},
}
MAP_COLUMNS: dict[str, dict[str, Any]] = {
    "csqa": {"setting": "in-domain", "train": "csqa", "test": ["csqa"]},
    "alpaca": {"setting": "out-of-domain", "train": "alpaca", "test": ["csqa", "obqa"]},
}


@dataclass(frozen=True)
class Cell:
    """One computation of the study.

    Attributes:
        name: Of its file in `data/results`, without the ending.
        seed: Of weights and order, and of the questions unless `changes` says otherwise.
        changes: Settings changed in the preset, as `Experiment.change` takes them.
        beyond: Whether the methods of `beyond` are measured instead of the preset's.
        mechanism: Whether confidence is followed from teacher to student on the training task.
    """

    name: str
    seed: int
    changes: dict[str, Any] = field(default_factory=dict, hash=False)
    beyond: bool = False
    mechanism: bool = False

    @property
    def file(self) -> Path:
        """Where its results are kept."""
        return KEPT / f"{self.name}.json"

    def experiment(self) -> Experiment:
        """Returns the experiment; computes nothing yet. Cells of one seed share a run's folder."""
        made = Experiment(PRESET, self.seed, RUNS)
        return made.change(**self.changes) if self.changes else made


def seed_cells() -> Iterator[Cell]:
    """Yields the paper's table, once per seed; each seed draws questions and weights anew."""
    for seed in SEEDS:
        yield Cell(f"{PRESET}-seed-{seed}", seed, mechanism=True)


def spread_cells() -> Iterator[Cell]:
    """Yields seed 0's main task with other questions and the same seed of training, then the other way round."""
    main = {"columns": [MAP_COLUMNS["csqa"]]}
    for seed in SPREAD_SEEDS:
        yield Cell(f"{PRESET}-data-{seed}", 0, {"data__seed": seed, **main})
        yield Cell(f"{PRESET}-weights-{seed}", seed, {"data__seed": 0, **main})


def beyond_cells() -> Iterator[Cell]:
    """Yields the preset's further methods, once per seed."""
    for seed in BEYOND_SEEDS:
        yield Cell(f"{PRESET}-beyond-seed-{seed}", seed, beyond=True)


def map_cells() -> Iterator[Cell]:
    """Yields the map of when FIRST helps: epochs by training questions, in and out of domain; short trainings first."""
    places = [
        (task, epochs, count) for task, counts in MAP_QUESTIONS.items() for epochs in MAP_EPOCHS for count in counts
    ]
    for seed in MAP_SEEDS:
        for task, epochs, count in sorted(places, key=lambda place: place[1] * place[2]):
            changes = {
                "threads": 1,
                "columns": [MAP_COLUMNS[task]],
                "methods": MAP_METHODS,
                "beyond": {},
                "training__epochs": epochs,
                "sizes": {"train": count, "validation": 500, "test": 1000},
            }
            yield Cell(f"map-{task}-{epochs}x{count}-seed-{seed}", seed, changes, mechanism=task == "csqa")


GROUPS = {"seeds": seed_cells, "spread": spread_cells, "beyond": beyond_cells, "map": map_cells}


def cell_of(name: str) -> Cell:
    """Returns a cell by its name.

    Raises:
        KeyError: There is no such cell.
    """
    return {cell.name: cell for cells in GROUPS.values() for cell in cells()}[name]


# -- computing ---------------------------------------------------------------------------------------------------


def compute(cell: Cell) -> dict[str, Any]:
    """Computes a cell and keeps it. Its stages are kept as they are finished, so a killed computation resumes."""
    experiment = cell.experiment()
    names = _names(experiment, cell)
    content = {
        "name": cell.name,
        "preset": PRESET,
        "seed": cell.seed,
        "changes": cell.changes,
        "rows": [row.flat() for row in summary.rows(experiment.run, names=names)],
        "methods": {name: experiment.settings.all_methods[name].model_dump(mode="json") for name in names[1:]},
        "coefficients": _by_task(experiment, names, students.coefficient, lambda method: method.map != "none"),
        "temperatures": _by_task(
            experiment, names, students.student_temperature, lambda method: bool(method.afterwards)
        ),
        "cost": {name: {task: asdict(cost(experiment, name, task)) for task in experiment.tasks} for name in names},
        "mechanism": [asdict(one) for one in _mechanisms(experiment, names)] if cell.mechanism else [],
    }
    if cell.name == f"{PRESET}-seed-{cell.seed}":
        content = {**summary.measured(experiment.run, PRESET), **content}
    write_json(cell.file, content)
    return content


def _names(experiment: Experiment, cell: Cell) -> tuple[str, ...]:
    if not cell.beyond:
        return experiment.methods
    return ("teacher", *experiment.settings.methods, *experiment.settings.beyond)


def _by_task(experiment: Experiment, names: tuple[str, ...], of: Any, wanted: Any) -> dict[str, dict[str, float]]:
    methods = experiment.settings.all_methods
    chosen = [name for name in names[1:] if wanted(methods[name])]
    return {name: {task: of(experiment.run, name, task) for task in experiment.tasks} for name in chosen}


def _mechanisms(experiment: Experiment, names: tuple[str, ...]) -> Iterator[Any]:
    task: Task = experiment.main_task
    for name in names[1:]:
        if experiment.settings.all_methods[name].distils:
            yield mechanism(experiment.run, name, task)


def kept(group: str) -> list[dict[str, Any]]:
    """Returns the kept cells of a group, in its order."""
    files = [cell.file for cell in GROUPS[group]()]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
