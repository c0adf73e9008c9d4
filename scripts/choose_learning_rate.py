"""Chooses the learning rate: `make rates` shows the validation accuracy of *fine-tuned* models at several rates.

As in the paper, teacher and student share one rate: the one with the highest mean over both. It is chosen for the
baselines, before any method is compared, and then used by all methods.
"""

from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table

from firstlib import Experiment
from firstlib.settings.schema import Role, Task

CANDIDATES = (5e-4, 1e-3, 2e-3)
METHODS: dict[Role, str] = {"teacher": "teacher", "student": "fine-tune"}


def accuracies(experiment: Experiment, rate: float, role: Role) -> dict[Task, float]:
    """Returns the validation accuracy of a model fine-tuned at one rate, on each of its own tasks."""
    other, method = experiment.change(**{f"training__{role}_learning_rate": rate}), METHODS[role]
    return {
        task: float(other.predictions(method, task, task, "validation").correct().mean()) for task in experiment.tasks
    }


def table(experiment: Experiment, candidates: Sequence[float] = CANDIDATES) -> Table:
    """Returns a line per model and rate: validation accuracy in percent."""
    lines = Table(title="validation accuracy after fine-tuning, in percent")
    for heading in ("model", "learning rate", *experiment.tasks, "mean"):
        lines.add_column(heading, justify="right")
    for rate in candidates:
        found: dict[str, dict[Task, float]] = {role: accuracies(experiment, rate, role) for role in METHODS}
        found["both"] = {task: mean(of[task] for of in found.values()) for task in experiment.tasks}
        for role, of in found.items():
            cells = [f"{100 * value:.1f}" for value in (*of.values(), mean(of.values()))]
            lines.add_row(role, f"{rate:g}", *cells, end_section=role == "both")
    return lines


if __name__ == "__main__":
    Console().print(table(Experiment()))
