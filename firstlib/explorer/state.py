"""Where the explorer's controls stand, and which positions they have."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.distillation.search import GRIDS, Grid
from firstlib.settings.schema import Reading, Task

Split = Literal["validation", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)
READINGS: tuple[Reading, ...] = get_args(Reading)
BINS = (5, 10, 20)
SCALES = {**GRIDS, Map.LABEL_SMOOTHING: Grid(0.1, 0.3, 0.02), Map.NONE: Grid(1.0, 1.0, 1.0)}
STARTS = {Map.TEMPERATURE: 0.3, Map.LOGIT_TEMPERATURE: 1.5, Map.LABEL_SMOOTHING: 0.1, Map.NONE: 1.0}

# The drop-down controls, and the maps that the top k alone determine, by their labels.
LABELS = {
    "task": "data set",
    "split": "questions",
    "kind": "map",
    "reading": "confidence",
    "tail": "tail",
    "bins": "bins",
}
MAPS = {
    "Eq. 4, over probabilities": Map.TEMPERATURE,
    "logit temperature": Map.LOGIT_TEMPERATURE,
    "label smoothing": Map.LABEL_SMOOTHING,
    "none": Map.NONE,
}


@dataclass(frozen=True)
class State:
    """Where the controls stand.

    Attributes:
        split: The questions that are shown; coefficients are always fitted on validation.
        kind: One of `MAPS`.
        coefficient: c, T or d, depending on the map; `none` ignores it.
        example: Row of the question whose top tokens are shown.
        bin: The bin whose questions are listed, counted from 0; None: no list.
    """

    task: Task
    split: Split = "validation"
    kind: Map = Map.TEMPERATURE
    coefficient: float = STARTS[Map.TEMPERATURE]
    reading: Reading = "candidates"
    tail: Tail = Tail.DROP
    bins: int = 10
    example: int = 0
    bin: int | None = None

    def change(self, **changes: Any) -> "State":
        """Returns another state.

        A change of map resets the coefficient; a change of task, split or number of bins resets the chosen bin.

        >>> State("csqa", bin=3).change(kind=Map.LOGIT_TEMPERATURE, bins=20)  # doctest: +ELLIPSIS
        State(task='csqa', ..., coefficient=1.5, ..., bins=20, example=0, bin=None)
        """
        if changes.get("kind", self.kind) != self.kind:
            changes = {"coefficient": STARTS[Map(changes["kind"])], **changes}
        if changes.get("bins", self.bins) != self.bins:
            changes = {"bin": None, **changes}
        if (changes.get("task", self.task), changes.get("split", self.split)) != (self.task, self.split):
            changes = {"bin": None, "example": 0, **changes}
        return replace(self, **changes)


def positions(kind: Map) -> np.ndarray:
    """Returns every position of the slider, `(A,)`: the fine grid of the paper's search, over its whole length."""
    scale = SCALES[kind]
    return (scale.fine * np.arange(1, round(scale.end / scale.fine) + 1)).round(10)
