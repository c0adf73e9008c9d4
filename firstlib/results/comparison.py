"""Every method on every test set, with intervals over questions, beside the paper's numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import evaluate
from firstlib.experiment import Experiment
from firstlib.metrics import Interval, bootstrap_ece, paired_bootstrap_difference, share_interval
from firstlib.results.paper import paper_numbers
from firstlib.settings.schema import Measures

Numbers = tuple[float, float, float]
BASELINE = "fine-tune"  # what differences are taken to
BASE_STUDENT = "base student"


@dataclass(frozen=True)
class Compared:
    """One method on one test set; fractions.

    Attributes:
        accuracy: With its 95 % interval over questions (Clopper and Pearson).
        ece: With its 95 % bootstrap interval.
        difference: ECE minus that of fine-tuning on the same questions, with its paired 95 % interval; None for
            fine-tuning itself, and where there is none.
        paper: Accuracy, ECE and Trust in the paper's Table 1, the mean over its three families; None where it has none.
    """

    setting: str
    dataset: str
    method: str
    n: int
    accuracy: Interval
    ece: Interval
    trust: float
    difference: Interval | None
    paper: Numbers | None

    def flat(self) -> dict[str, Any]:
        """Returns what kept results hold of it: numbers, the ECE's interval as `low` and `high`, and the difference."""
        named = {name: getattr(self, name) for name in ("setting", "dataset", "method", "n", "trust")}
        ece = {"ece": self.ece.estimate, "low": self.ece.low, "high": self.ece.high}
        difference = {"difference": asdict(self.difference)} if self.difference else {}
        return {**named, "accuracy": self.accuracy.estimate, **ece, **difference}


def compare(experiment: Experiment, base: bool = False, names: Sequence[str] | None = None) -> list[Compared]:
    """Returns methods on every test set of every column; with `base`, the untuned student before them.

    Args:
        experiment: Of which methods are asked.
        base: Whether the untuned student comes first.
        names: `teacher` and methods, those of `beyond` among them; None: the experiment's own.
    """
    return list(_compare(experiment, base, experiment.methods if names is None else names))


def _compare(experiment: Experiment, base: bool, names: Sequence[str]) -> Iterator[Compared]:
    paper, measures = paper_numbers(), experiment.settings.measures
    for column in experiment.settings.columns:
        for test in column.test:
            found = {BASE_STUDENT: experiment.base_predictions("student", test)} if base else {}
            found |= {name: experiment.predictions(name, column.train, test) for name in names}
            for name, answers in found.items():
                baseline = found.get(BASELINE) if name != BASELINE else None
                theirs = paper.get((column.setting, test, name))
                yield _compared(column.setting, test, name, answers, baseline, measures, theirs)


def _compared(
    setting: str,
    test: str,
    name: str,
    found: Predictions,
    baseline: Predictions | None,
    measures: Measures,
    paper: Numbers | None,
) -> Compared:
    scores = evaluate(found, measures)
    confidence, correct = found.confidence(measures.confidence), found.correct()
    return Compared(
        setting, test, name, scores.n, share_interval(int(correct.sum()), scores.n),
        bootstrap_ece(confidence, correct, measures.bins), scores.trust, _difference(found, baseline, measures), paper,
    )  # fmt: skip


def _difference(found: Predictions, baseline: Predictions | None, measures: Measures) -> Interval | None:
    if baseline is None or len(baseline) != len(found):
        return None
    pairs = [(one.confidence(measures.confidence), one.correct()) for one in (found, baseline)]
    return paired_bootstrap_difference(*pairs[0], *pairs[1], bins=measures.bins)
