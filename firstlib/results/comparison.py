"""The results table with its intervals, beside the paper's own."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from rich.table import Table

from firstlib.experiment.experiment import Experiment
from firstlib.metrics import Interval, bootstrap_ece, clopper_pearson, trust
from firstlib.results import tables
from firstlib.settings.schema import METHODS

Numbers = tuple[float, float, float]


@dataclass(frozen=True)
class Compared:
    """One method on one test set; fractions.

    Attributes:
        accuracy: With its 95 % interval over questions (Clopper and Pearson).
        ece: With its 95 % bootstrap interval.
        paper: Accuracy, ECE and Trust in the paper's Table 1, the mean over its three families; None where it has
            no such column.
    """

    setting: str
    dataset: str
    method: str
    n: int
    accuracy: Interval
    ece: Interval
    trust: float
    paper: Numbers | None


def compare(experiment: Experiment) -> list[Compared]:
    """Every method on every test set of every column."""
    return list(_compare(experiment))


def _compare(experiment: Experiment) -> Iterator[Compared]:
    paper, measures = tables.paper() / 100, experiment.settings.measures
    for column in experiment.settings.columns:
        for test in column.test:
            known = (column.setting, test) in paper.columns.droplevel(2)
            for method in METHODS:
                found = experiment.predictions(method, column.train, test)
                correct = found.correct()
                error = bootstrap_ece(found.confidence(measures.confidence), correct, measures.bins)
                right = _share(int(correct.sum()), len(found))
                theirs = tuple(map(float, paper.loc[method, (column.setting, test)])) if known else None
                yield Compared(
                    column.setting, test, method, len(found), right, error, trust(right.estimate, error.estimate),
                    theirs,  # type: ignore[arg-type]
                )  # fmt: skip


def _share(right: int, n: int) -> Interval:
    low, high = clopper_pearson([right], [n])
    return Interval(right / n, float(low[0]), float(high[0]))


def between(interval: Interval) -> str:
    """An estimate and its ends, in percent.

    >>> between(Interval(0.681, 0.66, 0.7013))
    '68.1 (66.0 to 70.1)'
    """
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def theirs(numbers: Numbers | None) -> str:
    """The paper's accuracy, ECE and Trust, in percent."""
    return "" if numbers is None else " / ".join(f"{100 * number:.1f}" for number in numbers)


def terminal_table(compared: Iterable[Compared]) -> Table:
    """The comparison for a terminal of 80 columns, a block to each test set."""
    title = "In percent, with 95 % intervals over questions; the paper's own accuracy / ECE / Trust."
    table = Table(title=title, box=None, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("accuracy", "ECE", "Trust", "the paper"):
        table.add_column(name, justify="right", no_wrap=True)
    for (setting, dataset), rows in groupby(compared, lambda row: (row.setting, row.dataset)):
        table.add_row(f"[bold]{setting} {dataset}")
        for row in rows:
            numbers = (between(row.accuracy), between(row.ece), f"{100 * row.trust:.1f}", theirs(row.paper))
            table.add_row(row.method, *numbers)
    return table
