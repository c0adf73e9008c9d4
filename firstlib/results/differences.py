"""Paired differences between methods over seeds: one number a seed, tested by sign flips, corrected over test sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firstlib.metrics import Interval, detectable_difference, holm, mean_interval, sign_flip_p

Place = tuple[str, str]  # setting and test set
MEAN: Place = ("mean over", "test sets")
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One method's measure minus a baseline's, over S seeds.

    Attributes:
        place: Setting and test set, or `MEAN`.
        method: The method.
        mean: With its 95 % interval (Student's t over seeds).
        p: Of the sign-flip test, two-sided; for a test set corrected by Holm over the test sets.
        detectable: The smallest true difference that as many seeds would find in 80 % of studies.
        seeds: S.
    """

    place: Place
    method: str
    mean: Interval
    p: float
    detectable: float
    seeds: int

    @property
    def found(self) -> bool:
        """Whether the interval excludes 0."""
        return self.mean.low > 0 or self.mean.high < 0

    @property
    def text(self) -> str:
        """The mean with its interval, in points: `+3.1 (+2.0 to +4.2)`."""
        mean, low, high = (f"{100 * value:+.1f}" for value in (self.mean.estimate, self.mean.low, self.mean.high))
        return f"{mean} ({low} to {high})"


def differences(runs: Sequence[Results], baseline: str, measure: str = "trust") -> list[Difference]:
    """Returns every method's difference to a baseline on every test set, and in the mean over test sets.

    Args:
        runs: One content of `results.json` per seed, at least two.
        baseline: The method to compare with.
        measure: A number of each row.

    Raises:
        ValueError: There are fewer than two runs.
    """
    values = _values(runs, measure)
    methods = dict.fromkeys(method for method, _ in values if method != baseline)
    return [one for method in methods for one in _of_method(values, method, baseline)]


def _values(runs: Sequence[Results], measure: str) -> dict[tuple[str, Place], np.ndarray]:
    """One number a run, by method and place; a method without a row in every run is left out."""
    found: dict[tuple[str, Place], list[float]] = {}
    for run in runs:
        for row in run["rows"]:
            found.setdefault((row["method"], (row["setting"], row["dataset"])), []).append(row[measure])
    return {key: np.array(values) for key, values in found.items() if len(values) == len(runs)}


def _of_method(values: Mapping[tuple[str, Place], np.ndarray], method: str, baseline: str) -> Iterator[Difference]:
    places = [place for name, place in values if name == method and (baseline, place) in values]
    gaps = {place: values[method, place] - values[baseline, place] for place in places}
    found = [_difference(place, method, gap) for place, gap in gaps.items()]
    corrected = holm({one.place: one.p for one in found})
    yield from (replace(one, p=corrected[one.place]) for one in found)
    if len(gaps) > 1:
        yield _difference(MEAN, method, np.mean(list(gaps.values()), axis=0))


def _difference(place: Place, method: str, gaps: np.ndarray) -> Difference:
    return Difference(place, method, mean_interval(gaps), sign_flip_p(gaps), detectable_difference(gaps), len(gaps))


def difference_table(found: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """Returns head and lines of a table in points: a line per method, a cell per test set.

    A cell holds the mean, its interval, and the p-value: `+3.1 (+2.0 to +4.2), p = 0.008`.
    """
    places = list(dict.fromkeys(one.place for one in found))
    lines = []
    for method in dict.fromkeys(one.method for one in found):
        cells = {one.place: f"{one.text}, p = {one.p:.3f}" for one in found if one.method == method}
        lines.append([method, *(cells.get(place, "") for place in places)])
    return ["method", *(" ".join(place) for place in places)], lines


def spread_of(runs: Sequence[Results], method: str, place: Place, measure: str = "trust") -> float:
    """Returns the standard deviation of a method's measure over runs; a fraction."""
    return float(_values(runs, measure)[method, place].std(ddof=1))
