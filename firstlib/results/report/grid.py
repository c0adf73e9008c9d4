"""The explorer's numbers for a page without a kernel: what `compute` says, at every place of the slider."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from firstlib.distillation.losses import Tail
from firstlib.distillation.recalibration import Map
from firstlib.evaluation.predictions import Predictions
from firstlib.explorer import drawing
from firstlib.explorer.measures import DRAWS, Measures, gap_between, measure, targets
from firstlib.explorer.source import Source
from firstlib.explorer.state import LABELS, MAPS, READINGS, SPLITS, STARTS, State, positions
from firstlib.explorer.view import Example, compute, example, intervals
from firstlib.figures import SHARES
from firstlib.figures.style import name_of
from firstlib.metrics import NoiseFloor, Reliability, noise_floor, trust
from firstlib.settings.schema import Task

DIGITS = 6  # decimals, of which the page shows four
FINE = 9  # of the measures, so that the page finds the same optimum
KEPT = 100  # questions of each task and split that the page can list
LONGEST = 700  # characters of a question
MOST_WORKERS = 8
FINER = 20  # the number of bins that the page has beside the experiment's own
# Only label smoothing leaves anything for a tail to deal with, and a ghost's bucket is no candidate's.
TAILS = dict.fromkeys(Map, (Tail.DROP,)) | {Map.LABEL_SMOOTHING: (Tail.DROP, Tail.RENORMALISE, Tail.SMOOTH, Tail.GOLD)}


def explorer(source: Source, tasks: Sequence[Task], start: State) -> dict[str, Any]:
    """All that the page's explorer draws and lists, as plain JSON."""
    bins = sorted({start.bins, FINER})
    columns = _every_column(source, tasks, bins)
    return {
        "start": {**key(start), "coefficient": start.coefficient},
        "controls": _controls(tasks, bins),
        "maps": {kind: _map(kind) for kind in Map},
        "tails": {kind: TAILS[kind] for kind in Map},
        "figure": _figure(source, start),
        "looks": {"chosen": drawing.CHOSEN, "free": drawing.FREE, "shares": SHARES},
        "cells": {key: column.cells for key, column in columns.items()},
        "gaps": {name(one): _gap(columns, one) for one in _with_bins(settings(tasks, ("validation",)), bins)},
        "examples": {f"{task} {split}": _examples(source, State(task, split)) for task in tasks for split in SPLITS},
        "vocabulary": source.vocabulary,
    }


def key(state: State) -> dict[str, Any]:
    """What the drop-downs say."""
    return {part: getattr(state, part) for part in LABELS}


def name(state: State) -> str:
    """The drop-downs in one line, by which the page finds its numbers."""
    return " ".join(str(value) for value in key(state).values())


def settings(tasks: Sequence[Task], splits: Sequence[Any] = SPLITS) -> Iterator[State]:
    """Every state of the drop-downs that has numbers of its own, the number of bins left open."""
    for task in tasks:
        for split in splits:
            for kind in Map:
                for reading in READINGS:
                    for tail in TAILS[kind]:
                        yield State(task, split, kind, STARTS[kind], reading, tail)


def _with_bins(states: Iterator[State], bins: Sequence[int]) -> Iterator[State]:
    for state in states:
        yield from (state.change(bins=number) for number in bins)


def _controls(tasks: Sequence[Task], bins: Sequence[int]) -> list[dict[str, Any]]:
    options: dict[str, list[tuple[str, Any]]] = {
        "task": [(name_of(task), task) for task in tasks],
        "split": [(split, split) for split in SPLITS],
        "kind": list(MAPS.items()),
        "reading": [(reading, reading) for reading in READINGS],
        "tail": [(tail, tail) for tail in Tail],
        "bins": [(str(number), number) for number in bins],
    }
    return [{"name": part, "label": label, "options": options[part]} for part, label in LABELS.items()]


def _map(kind: Map) -> dict[str, Any]:
    return {"places": positions(kind).tolist(), "start": STARTS[kind], "symbol": drawing.SYMBOLS[kind]}


def _figure(source: Source, start: State) -> dict[str, Any]:
    view = compute(source, start)
    wide, narrow = (json.loads(drawing.draw(view, shape).to_json()) for shape in (drawing.WIDE, drawing.NARROW))
    return {"data": wide["data"], "wide": wide["layout"], "narrow": narrow["layout"], "clicked": drawing.CLICKED}


class Column(NamedTuple):
    """One setting of the drop-downs: the page's cells, one to a position of the slider, and ECE unrounded, `(A,)`."""

    cells: list[list[Any]]
    ece: np.ndarray


def _every_column(source: Source, tasks: Sequence[Task], bins: Sequence[int]) -> dict[str, Column]:
    """All columns by name, made on as many cores as there are: it is seconds of plain arithmetic."""
    mapped = [state for state in settings(tasks) if state.reading == READINGS[0]]
    asked = [source.answers(state.task, state.split) for state in mapped]
    with _workers() as workers:
        made = workers.map(_columns, asked, repeat(source.vocabulary), mapped, repeat(bins))
        return {name: column for part in made for name, column in part.items()}


def _workers() -> Executor:
    """Processes on Linux; elsewhere a new one would take longer to start than all of this takes."""
    if sys.platform == "linux":
        return ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), MOST_WORKERS), get_context("fork"))
    return ThreadPoolExecutor(1)


def _columns(answers: Predictions, vocabulary: int, state: State, bins: Sequence[int]) -> dict[str, Column]:
    """The columns of each reading and number of bins, which read the same targets."""
    places = positions(state.kind).tolist()
    found = [targets(answers, state.change(coefficient=place), vocabulary) for place in places]
    columns: dict[str, Column] = {}
    for read in (state.change(reading=reading) for reading in READINGS):
        measured = [measure(one, read) for one in found]
        columns |= {name(one): _column(found, measured, one) for one in (read.change(bins=number) for number in bins)}
    return columns


def _column(found: Sequence[Predictions], measured: Sequence[Measures], state: State) -> Column:
    diagrams = [one.reliability(state.reading, state.bins) for one in found]
    low, high = (ends.reshape(len(found), -1) for ends in intervals(_joined(diagrams)))
    floors = [noise_floor(one.confidence(state.reading), state.bins, DRAWS) for one in found]
    cells = [_cell(*row) for row in zip(measured, floors, diagrams, low, high, strict=True)]
    return Column(cells, np.array([one.ece for one in diagrams]))


def _joined(diagrams: Sequence[Reliability]) -> Reliability:
    """Diagrams end to end, so that their intervals are searched for together."""
    parts = ("count", "confidence", "accuracy")
    return Reliability(np.array([]), *(np.concatenate([getattr(one, part) for one in diagrams]) for part in parts))


def _cell(measured: Measures, floor: NoiseFloor, diagram: Reliability, low: np.ndarray, high: np.ndarray) -> list[Any]:
    """Measures, floor, and the bins that are not empty. ECE and Trust are those of the diagram's bins."""
    error = diagram.ece
    numbers = (measured.accuracy, error, measured.smooth_ece, measured.nll, measured.brier)
    filled = np.flatnonzero(diagram.count)
    parts = (diagram.accuracy, diagram.confidence, low, high)
    return [
        _rounded([*numbers, trust(measured.accuracy, error)], FINE),
        measured.ruled_out,
        _rounded([floor.mean, floor.percentile_95]),
        filled.tolist(),
        diagram.count[filled].tolist(),
        *(_rounded(part[filled]) for part in parts),
    ]


def _gap(columns: dict[str, Column], state: State) -> list[float | None]:
    found = gap_between(state.kind, *(columns[name(state.change(split=split))].ece for split in SPLITS))
    return _rounded([found.coefficient, found.validation, found.test, found.best])


def _examples(source: Source, state: State) -> list[dict[str, Any]]:
    answers, student = source.answers(state.task, state.split), source.student(state.task, state.split)
    found = [example(source, state, answers, row, student) for row in range(min(KEPT, len(answers)))]
    return [_example(one, answers) for one in found]


def _example(one: Example, answers: Predictions) -> dict[str, Any]:
    """A question's words and numbers; `inside` is each candidate's place among the top K, -1 outside."""
    candidates = answers.candidate_ids[one.row]
    same = candidates[candidates >= 0][:, None] == answers.top_ids[one.row]
    return {
        "name": one.name,
        "text": one.text if len(one.text) <= LONGEST else "… " + one.text[-LONGEST:],
        "choices": one.choices,
        "answer": one.answer,
        "tokens": one.tokens,
        "before": _rounded(one.before, 8),
        "teacher": _rounded(one.teacher),
        "student": None if one.student is None else _rounded(one.student),
        "inside": np.where(same.any(axis=1), same.argmax(axis=1), -1).tolist(),
    }


def _rounded(values: Sequence[float] | np.ndarray, digits: int = DIGITS) -> list[float | None]:
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]
