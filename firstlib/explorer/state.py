"""Where the explorer's controls stand, and where they can."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from firstlib.distillation.losses import Tail
from firstlib.distillation.recalibration import GRIDS, Grid, Map
from firstlib.evaluation.predictions import Reading
from firstlib.settings.schema import Task

Split = Literal["validation", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)
READINGS: tuple[Reading, ...] = get_args(Reading)
BINS = (5, 10, 20)
SCALES = {**GRIDS, Map.LABEL_SMOOTHING: Grid(0.1, 0.3, 0.02), Map.NONE: Grid(1.0, 1.0, 1.0)}
STARTS = {Map.TEMPERATURE: 0.3, Map.LOGIT_TEMPERATURE: 1.5, Map.LABEL_SMOOTHING: 0.1, Map.NONE: 1.0}

# The controls that choose among few, and the maps, as a reader knows them.
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
        coefficient: c, T or d, whichever the map takes; `none` takes none.
        example: Row of the question whose top five tokens are shown.
        bin: The bin whose questions are listed, from 0; None: no list.
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
        """Another state. Another map has another scale, and another number of bins other bins.

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
    """Every place where the slider can stand, `(A,)`: the fine grid of the paper's search, over its whole length."""
    scale = SCALES[kind]
    return (scale.fine * np.arange(1, round(scale.end / scale.fine) + 1)).round(10)
