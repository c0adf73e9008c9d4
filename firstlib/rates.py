"""Which learning rate? `make rates`: the one at which *fine-tuning* is most accurate on validation questions.

It is chosen for the baseline, before any method is compared, and then used by all of them.
"""

from collections.abc import Sequence
from statistics import mean

from rich.console import Console
from rich.table import Table

from firstlib.experiment import Experiment
from firstlib.settings import Method, Task

CANDIDATES = (5e-4, 1e-3, 2e-3)


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
    methods: tuple[Method, ...] = ("teacher", "fine-tune")
    for method in methods:
        for rate in candidates:
            found = accuracies(experiment, rate, method)
            cells = [f"{100 * value:.1f}" for value in (*found.values(), mean(found.values()))]
            lines.add_row("teacher" if method == "teacher" else "student", f"{rate:g}", *cells)
    return lines


if __name__ == "__main__":
    Console().print(table(Experiment()))
