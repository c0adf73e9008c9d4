"""Every method on every test set, with intervals over questions, beside the paper's numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import evaluate
from firstlib.experiment import Experiment
from firstlib.metrics import Interval, ResampledEce, resampled_ece, share_intervals
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


def compare(experiment: Experiment, names: Sequence[str] | None = None) -> list[Compared]:
    """Returns the untuned student and methods on every test set of every column.

    Args:
        experiment: Of which methods are asked.
        names: `teacher` and methods, those of `beyond` among them; None: the experiment's own.
    """
    return list(_compare(experiment, experiment.methods if names is None else names))


def with_base_student(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's `results.json` whose rows have the untuned student before the methods, on every test set."""
    base = {one["dataset"]: one for one in results["base"] if one["role"] == "student"}
    sizes = {(row["setting"], row["dataset"]): row["n"] for row in results["rows"]}
    added = [
        {**base[dataset], "method": BASE_STUDENT, "setting": setting, "n": n} for (setting, dataset), n in sizes.items()
    ]
    return {**results, "rows": [*added, *results["rows"]]}


def _compare(experiment: Experiment, names: Sequence[str]) -> Iterator[Compared]:
    paper = paper_numbers()
    for column in experiment.settings.columns:
        for test in column.test:
            found = {BASE_STUDENT: experiment.base_predictions("student", test)}
            found |= {name: experiment.predictions(name, column.train, test) for name in names}
            yield from _compared((column.setting, test), found, experiment.settings.measures, paper)


def _compared(
    place: tuple[str, str],
    found: Mapping[str, Predictions],
    measures: Measures,
    paper: Mapping[tuple[str, str, str], Numbers],
) -> Iterator[Compared]:
    resampled = _resampled(found, measures)
    right = [answers.correct().sum() for answers in found.values()]
    shares = share_intervals(right, [len(answers) for answers in found.values()])
    for (name, answers), share in zip(found.items(), shares, strict=True):
        scores = evaluate(answers, measures)
        yield Compared(
            *place, name, scores.n, share, resampled[name].interval(), scores.trust,
            _difference(name, found, resampled), paper.get((*place, name)),
        )  # fmt: skip


def _resampled(found: Mapping[str, Predictions], measures: Measures) -> dict[str, ResampledEce]:
    """The ECE of each method, resampled with the same questions where methods answer equally many."""
    by_count: dict[int, list[str]] = {}
    for name, answers in found.items():
        by_count.setdefault(len(answers), []).append(name)
    resampled: dict[str, ResampledEce] = {}
    for names in by_count.values():
        pairs = [(found[name].confidence(measures.confidence), found[name].correct()) for name in names]
        resampled |= zip(names, resampled_ece(pairs, measures.bins), strict=True)
    return resampled


def _difference(name: str, found: Mapping[str, Predictions], resampled: Mapping[str, ResampledEce]) -> Interval | None:
    if name == BASELINE or BASELINE not in found or len(found[BASELINE]) != len(found[name]):
        return None
    return resampled[name].minus(resampled[BASELINE])
