"""What blocks of several kinds share: which rows they show, and frames as tables."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from firstlib.results import study
from firstlib.results.comparison import BASE_STUDENT
from firstlib.results.markup import markdown_table

Results = dict[str, Any]
SHOWN = (
    BASE_STUDENT, "teacher", "fine-tune", "distill", "label-smoothing", "first", *study.TEMPERED[:2],
    "distill-base-weights",
)  # fmt: skip


def only(runs: Sequence[Results], methods: Sequence[str]) -> list[Results]:
    """The runs with the rows of these methods alone, and with their intervals where a run has any."""
    tables = ("rows", "intervals")
    return [
        {**run, **{name: [row for row in run[name] if row["method"] in methods] for name in tables if name in run}}
        for run in runs
    ]


def over(runs: Sequence[Results]) -> str:
    """Which seeds a table's figures are the mean of."""
    return "one seed" if len(runs) == 1 else f"mean over {len(runs)} seeds"


def frame_table(frame: pd.DataFrame, *names: str) -> str:
    """Returns a frame of numbers, its index under these names; where there is no number, nothing."""
    lines = [
        [*map(str, place if isinstance(place, tuple) else (place,)), *("" if v != v else f"{v:g}" for v in line)]
        for place, line in frame.iterrows()
    ]
    return markdown_table([*names, *frame.columns], lines)
