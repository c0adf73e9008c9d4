"""Which learning rate? `make rates`: the one at which *fine-tuning* is most accurate on validation questions.

As in the paper there is one for teacher and student: the one with the highest mean over both. It is chosen for the
baselines, before any method is compared, and then used by all of them.
"""

from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table

from firstlib.experiment.experiment import Experiment
from firstlib.settings.schema import Method, Task

CANDIDATES = (5e-4, 1e-3, 2e-3)
ROLES: dict[str, Method] = {"teacher": "teacher", "student": "fine-tune"}


def accuracies(experiment: Experiment, rate: float, method: Method) -> dict[Task, float]:
    """Validation accuracy of a model fine-tuned at one rate, on each of its own tasks."""
    role = "teacher" if method == "teacher" else "student"
    other = experiment.change(**{f"training__{role}_learning_rate": rate})
    return {
        task: float(other.predictions(method, task, task, "validation").correct().mean())
        for task in experiment.training_tasks()
    }


def table(experiment: Experiment, candidates: Sequence[float] = CANDIDATES) -> Table:
    """A line a model and rate, validation accuracy in percent."""
    lines = Table(title="validation accuracy after fine-tuning, in percent")
    for heading in ("model", "learning rate", *experiment.training_tasks(), "mean"):
        lines.add_column(heading, justify="right")
    for rate in candidates:
        found = {role: accuracies(experiment, rate, method) for role, method in ROLES.items()}
        found["both"] = {task: mean(of[task] for of in found.values()) for task in experiment.training_tasks()}
        for role, of in found.items():
            cells = [f"{100 * value:.1f}" for value in (*of.values(), mean(of.values()))]
            lines.add_row(role, f"{rate:g}", *cells, end_section=role == "both")
    return lines


if __name__ == "__main__":
    Console().print(table(Experiment()))
