"""The study: cells that can be computed anywhere, in any order, each kept as one JSON file.

A cell is a preset with some settings changed, under one seed. `make seeds`, `make map` and `make pretrained` compute
those that are not kept yet; `scripts/Snakefile` and `scripts/submit.py` compute the same ones on a cluster.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firstlib.experiment import Experiment, summary
from firstlib.results.comparison import compare
from firstlib.results.cost import cost
from firstlib.results.mechanism import mechanism
from firstlib.results.prediction import predicted
from firstlib.runtime.files import write_json
from firstlib.runtime.paths import PROJECT
from firstlib.settings.loading import load_preset
from firstlib.settings.schema import Task

KEPT = PROJECT / "data" / "results"
RUNS = "runs/study"
PRESET = "microworld"
THREADS = 1  # of a cell: two cells of one thread each finish sooner than one after the other on two (1.2x)

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
# Of the preset's `beyond`: what is done to the students of its own methods, which are trained anyway.
TEMPERED = ("fine-tune+T", "distill+T", "label-smoothing+T", "first+T")
AVERAGED = ("fine-tune-base-weights", "distill-base-weights", "first-base-weights")
# Cures for out of domain, and what they are compared with.
OUT_OF_DOMAIN = (
    *AVERAGED, "fine-tune-agreement-T", "first-logit", "first-answers", "first-uncertain",
    "first-logit-uncertain", "first-lora", "distill-lora", "fine-tune-lora",
)  # fmt: skip
EXACT_TEMPERATURES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.25, 2.5, 3.0, 4.0)
EXACT_METHODS: dict[str, dict[str, Any]] = {
    "fine-tune": {"learns": "answers"},
    "first-logit": {"learns": "top-k", "map": "logit-temperature"},
    "first-exact": {"learns": "top-k", "map": "exact-temperature"},
}
PAIR, HALF = "qwen2.5-coder-1.5b-0.5b", "qwen2.5-coder-0.5b-half"
PRETRAINED_TASKS = ("csqa", "obqa", "boolq", "alpaca")
PRETRAINED_SEEDS = (1, 2)  # of the pair's first column, beside seed 0
SMALLER, LARGER = "$FIRST_PRETRAINED/qwen2.5-coder-0.5b.gguf", "$FIRST_PRETRAINED/qwen2.5-coder-1.5b.gguf"
PRETRAINED: dict[str, dict[str, Any]] = {  # the hub's models, as local files
    PAIR: {"teacher__base": LARGER, "student__base": SMALLER},
    HALF: {"teacher__base": SMALLER},
}
PRETRAINED_LONG: dict[str, dict[str, Any]] = {  # where examples are long: docs/protocol.md says why
    "boolq": {"sizes__validation": 100, "sizes__test": 300, "training__mixed_precision": "bf16"},
    "alpaca": {"sizes__validation": 100, "training__mixed_precision": "bf16"},
}
BASELINES = ("teacher", "fine-tune", "distill", "first")
MAP_COLUMNS: dict[str, dict[str, Any]] = {
    "csqa": {"setting": "in-domain", "train": "csqa", "test": ["csqa"]},
    "alpaca": {"setting": "out-of-domain", "train": "alpaca", "test": ["csqa", "obqa"]},
}


@dataclass(frozen=True)
class Cell:
    """One computation of the study; outside the microworld its results also have intervals over questions.

    Attributes:
        name: Of its file in `data/results`, without the ending.
        seed: Of weights and order, and of the questions unless `changes` says otherwise.
        changes: Settings changed in the preset, as `Experiment.change` takes them.
        methods: Measured beside the preset's own methods.
        beside: What they are measured beside instead.
        mechanism: Whether confidence is followed from teacher to student on the first training task.
        preset: Whose settings are changed.
        predicts: Whether it is noted, before a student is trained, what the microworld's map says of its teacher.
    """

    name: str
    seed: int
    changes: dict[str, Any] = field(default_factory=dict, hash=False)
    methods: tuple[str, ...] = ()
    beside: tuple[str, ...] | None = None
    mechanism: bool = False
    preset: str = PRESET
    predicts: bool = False

    @property
    def file(self) -> Path:
        """Where its results are kept."""
        return KEPT / f"{self.name}.json"

    def experiment(self, folder: str | None = None) -> Experiment:
        """Returns the experiment, by default in the study's folder; computes nothing yet.

        Cells of one seed share a run's folder.
        """
        return Experiment(self.preset, self.seed, folder or RUNS).change(threads=THREADS, **self.changes)


def seed_cells() -> Iterator[Cell]:
    """Yields the paper's table with tempered students, once per seed; each seed draws questions and weights anew."""
    for seed in SEEDS:
        yield Cell(f"{PRESET}-seed-{seed}", seed, methods=TEMPERED + AVERAGED, mechanism=True)


def spread_cells() -> Iterator[Cell]:
    """Yields seed 0's main task with other questions and the same seed of training, then the other way round."""
    main = {"columns": [_column("csqa")]}
    for seed in SPREAD_SEEDS:
        yield Cell(f"{PRESET}-data-{seed}", 0, {"data__seed": seed, **main})
        yield Cell(f"{PRESET}-weights-{seed}", seed, {"data__seed": 0, **main})


def beyond_cells() -> Iterator[Cell]:
    """Yields the preset's further methods on the main task, once per seed."""
    rest = tuple(name for name in load_preset(PRESET).beyond if name not in TEMPERED)
    for seed in BEYOND_SEEDS:
        yield Cell(f"{PRESET}-beyond-seed-{seed}", seed, {"columns": [_column("csqa")]}, rest, BASELINES)


def out_of_domain_cells() -> Iterator[Cell]:
    """Yields some of the preset's further methods out of domain, once per seed."""
    for seed in BEYOND_SEEDS:
        changes = {"columns": [_column("alpaca")]}
        yield Cell(f"{PRESET}-beyond-out-seed-{seed}", seed, changes, OUT_OF_DOMAIN, BASELINES)


def exact_cells() -> Iterator[Cell]:
    """Yields exact temperatures on the main task, once per seed; their stores also hold the teacher's normalisers."""
    changes = {"knowledge__temperatures": EXACT_TEMPERATURES, "methods": EXACT_METHODS, "beyond": {}}
    for seed in BEYOND_SEEDS:
        yield Cell(f"{PRESET}-exact-seed-{seed}", seed, {"columns": [_column("csqa")], **changes})


def pretrained_cells() -> Iterator[Cell]:
    """Yields the paper's table on real pretrained weights: a column a cell, hours on two cores each.

    The half is fine-tuned alone: docs/protocol.md says why. `FIRST_PRETRAINED` names the folder with the GGUF files,
    and `FIRST_REAL_DATA` that with the data sets.
    """
    beyond = load_preset(PAIR).beyond
    for task in PRETRAINED_TASKS:
        further = tuple(one for one in beyond if task not in PRETRAINED_LONG or one in TEMPERED)
        changes = {**_pretrained(PAIR, task), **PRETRAINED_LONG.get(task, {})}
        name = f"pretrained-{PAIR}-{task}-seed-0"
        yield Cell(name, 0, changes, further, mechanism=True, preset=PAIR, predicts=True)
    yield Cell(f"pretrained-{HALF}-csqa-seed-0", 0, _pretrained(HALF, "csqa"), ("fine-tune",), (), preset=HALF)


def pretrained_seed_cells() -> Iterator[Cell]:
    """Yields the pair's first column with other seeds, each with questions and weights of its own."""
    further = tuple(one for one in load_preset(PAIR).beyond if one not in AVERAGED)
    changes = {**_pretrained(PAIR, PRETRAINED_TASKS[0]), "training__mixed_precision": "bf16"}
    for seed in PRETRAINED_SEEDS:
        name = f"pretrained-{PAIR}-{PRETRAINED_TASKS[0]}-seed-{seed}"
        yield Cell(name, seed, changes, further, preset=PAIR, predicts=True)


def _pretrained(preset: str, task: str) -> dict[str, Any]:
    """The changes that train a preset of the hub's models on a task, from local files."""
    return {**PRETRAINED[preset], "data__folder": "$FIRST_REAL_DATA", "columns": [_column(task, preset)]}


def _column(train: str, preset: str = PRESET) -> dict[str, Any]:
    """A preset's column that trains on a task."""
    columns = load_preset(preset).columns
    return next(column.model_dump(mode="json") for column in columns if column.train == train)


def map_cells() -> Iterator[Cell]:
    """Yields the map of when FIRST helps: epochs by training questions, in and out of domain; short trainings first."""
    places = [
        (task, epochs, count) for task, counts in MAP_QUESTIONS.items() for epochs in MAP_EPOCHS for count in counts
    ]
    for task, epochs, count in sorted(places, key=lambda place: place[1] * place[2]):
        for seed in MAP_SEEDS:
            changes = {
                "columns": [MAP_COLUMNS[task]],
                "methods": MAP_METHODS,
                "beyond": {},
                "training__epochs": epochs,
                "sizes": {"train": count, "validation": 500, "test": 1000},
            }
            yield Cell(f"map-{task}-{epochs}x{count}-seed-{seed}", seed, changes, mechanism=True)


GROUPS = {
    "seeds": seed_cells,
    "spread": spread_cells,
    "beyond": beyond_cells,
    "out-of-domain": out_of_domain_cells,
    "exact": exact_cells,
    "map": map_cells,
    "pretrained": pretrained_cells,
    "pretrained-seeds": pretrained_seed_cells,
}


def cell_of(name: str) -> Cell:
    """Returns a cell by its name.

    Raises:
        KeyError: There is no such cell.
    """
    return {cell.name: cell for cells in GROUPS.values() for cell in cells()}[name]


# -- computing ---------------------------------------------------------------------------------------------------


def compute(cell: Cell) -> dict[str, Any]:
    """Computes a cell and keeps it."""
    content = measure(cell)
    write_json(cell.file, content)
    return content


def measure(cell: Cell) -> dict[str, Any]:
    """Computes a cell. Its stages are kept in `runs/study` as they are finished, so a killed computation resumes."""
    experiment = cell.experiment()
    noted = _noted(cell, experiment)
    names = _names(experiment, cell)
    run, tasks = experiment.run, experiment.tasks
    content = {
        "name": cell.name,
        "preset": cell.preset,
        "seed": cell.seed,
        "changes": cell.changes,
        "rows": [row.flat() for row in summary.rows(run, names=names)],
        "methods": {name: summary.made(run, name) for name in _students(names)},
        "cost": {name: {task: asdict(cost(experiment, name, task)) for task in tasks} for name in names},
        "mechanism": [asdict(one) for one in _mechanisms(experiment, names)] if cell.mechanism else [],
    }
    if cell.preset != PRESET:
        content |= {
            "prediction": noted,
            "trained_on": len(run.data.items(experiment.main_task, "train")),
            "intervals": [one.flat() for one in compare(experiment, names)],
        }
    if not cell.changes:  # the preset itself: also what its `results.json` holds
        content = {**summary.measured(run, cell.preset), **content}
    return content


def is_complete(cell: Cell) -> bool:
    """Whether a cell is kept with all its methods: one that was kept earlier lacks those that were added since."""
    if not cell.file.is_file():
        return False
    measured = {row["method"] for row in json.loads(cell.file.read_text(encoding="utf-8"))["rows"]}
    return measured.issuperset(_names(cell.experiment(), cell))


def _noted(cell: Cell, experiment: Experiment) -> dict[str, Any] | None:
    """Returns what the map says of a cell's teacher, as it was noted before a student was trained."""
    if not cell.predicts:
        return None
    note = cell.file.with_name(f"{cell.name}-prediction.json")
    if not note.is_file():
        write_json(note, asdict(predicted(experiment, kept("map"))))
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return found


def _names(experiment: Experiment, cell: Cell) -> tuple[str, ...]:
    own = experiment.methods if cell.beside is None else cell.beside
    return tuple(dict.fromkeys([*own, *cell.methods]))


def _students(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != "teacher")


def _mechanisms(experiment: Experiment, names: tuple[str, ...]) -> Iterator[Any]:
    task: Task = experiment.main_task
    for name in _students(names):
        method = experiment.settings.all_methods[name]
        if method.distils and not method.afterwards:
            yield mechanism(experiment.run, name, task)


def kept(group: str) -> list[dict[str, Any]]:
    """Returns the kept cells of a group, in its order."""
    files = [cell.file for cell in GROUPS[group]()]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def coefficient_effects(runs: Sequence[dict[str, Any]] | None = None) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Returns Figure 6, right: for each seed the test ECE by coefficient `(A, 2)`, and the chosen coefficient.

    The points are the methods on the main task that differ from `first` in the coefficient alone.

    Args:
        runs: Cells of the group `beyond`; None: those that are kept.
    """
    curves, chosen = {}, {}
    for run in kept("beyond") if runs is None else runs:
        if "first" not in run["methods"]:
            continue
        points = dict(_coefficient_points(run))
        label = f"seed {run['seed']}"
        curves[label], chosen[label] = np.array(sorted(points.values())), points["first"][0]
    return curves, chosen


def _coefficient_points(run: dict[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    first = _without_coefficient(run["methods"]["first"])
    errors = {row["method"]: row["ece"] for row in run["rows"]}
    for name, made in run["methods"].items():
        if "coefficients" in made and _without_coefficient(made) == first:
            (coefficient,) = made["coefficients"].values()
            yield name, (coefficient, errors[name])


def _without_coefficient(made: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made["settings"].items() if key != "coefficient"}
