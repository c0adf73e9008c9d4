"""The explorer's numbers for a page without a kernel: what `compute` returns, at every position of the slider."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import nll_of_possible
from firstlib.explorer import ExampleView, ExplorerSource, State, compute, drawing, positions
from firstlib.explorer.listing import shortened
from firstlib.explorer.measures import DRAWS, gap_between, targets
from firstlib.explorer.state import LABELS, MAPS, READINGS, SPLITS, STARTS
from firstlib.explorer.view import example, intervals
from firstlib.figures import SHARES
from firstlib.figures.style import name_of
from firstlib.metrics import Reliability, accuracy, brier, trust
from firstlib.results.report.cells import Calibration, Job, measure_all
from firstlib.settings.schema import Reading, Task

DIGITS = 6  # decimals in the file; the page shows four
FINE_DIGITS = 9  # of the measures, so that the page finds the same optimum
KEPT = 100  # questions of each task and split that the page can list
FINER = 20  # bins that the page offers beside the settings' own
# Only label smoothing leaves any mass to a tail. A ghost's bucket belongs to no candidate.
TAILS = dict.fromkeys(Map, (Tail.DROP,)) | {Map.LABEL_SMOOTHING: (Tail.DROP, Tail.RENORMALISE, Tail.SMOOTH, Tail.GOLD)}


def explorer(source: ExplorerSource, tasks: Sequence[Task], start: State) -> dict[str, Any]:
    """Returns all that the page's explorer draws and lists, as plain JSON."""
    bins = tuple(sorted({start.bins, FINER}))
    columns = _columns(source, tasks, bins)
    gaps = [state.change(bins=number) for state in settings(tasks, ("validation",)) for number in bins]
    return {
        "start": {**key(start), "coefficient": start.coefficient},
        "controls": _controls(tasks, bins),
        "maps": {kind: _map(kind) for kind in MAPS.values()},
        "tails": {kind: TAILS[kind] for kind in MAPS.values()},
        "figure": _figure(source, start),
        "looks": {"chosen": drawing.CHOSEN, "free": drawing.FREE, "shares": SHARES},
        "cells": {key: column.cells for key, column in columns.items()},
        "gaps": {name(state): _gap(columns, state) for state in gaps},
        "examples": {f"{task} {split}": _examples(source, State(task, split)) for task in tasks for split in SPLITS},
        "vocabulary": source.vocabulary,
    }


# -- the drop-downs ----------------------------------------------------------------------------------------------


def key(state: State) -> dict[str, Any]:
    """Returns the values of the drop-downs."""
    return {part: getattr(state, part) for part in LABELS}


def name(state: State) -> str:
    """Returns the drop-downs' values in one line, by which the page finds its numbers."""
    return " ".join(str(value) for value in key(state).values())


def settings(tasks: Sequence[Task], splits: Sequence[Any] = SPLITS) -> Iterator[State]:
    """Yields every state of the drop-downs that has its own numbers, without the number of bins."""
    for task in tasks:
        for split in splits:
            for kind in MAPS.values():
                for reading in READINGS:
                    for tail in TAILS[kind]:
                        yield State(task, split, kind, STARTS[kind], reading, tail)


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


def _figure(source: ExplorerSource, start: State) -> dict[str, Any]:
    view = compute(source, start)
    wide, narrow = (json.loads(drawing.draw(view, shape).to_json()) for shape in (drawing.WIDE, drawing.NARROW))
    return {"data": wide["data"], "wide": wide["layout"], "narrow": narrow["layout"], "clicked": drawing.CLICKED}


# -- the cells ---------------------------------------------------------------------------------------------------


Ends = tuple[np.ndarray, np.ndarray]  # low and high, of each bin's accuracy


class GridColumn(NamedTuple):
    """One state of the drop-downs: a cell for each position of the slider, as JSON, and ECE unrounded, `(A,)`."""

    cells: list[list[Any]]
    ece: np.ndarray


def _columns(source: ExplorerSource, tasks: Sequence[Task], bins: tuple[int, ...]) -> dict[str, GridColumn]:
    """Returns all columns by name."""
    states, scores = list(settings(tasks)), []

    def jobs() -> Iterator[Job]:  # the first are measured while the next are made
        for state in states:
            of_state, job = _at_every_place(source, state, bins)
            scores.append(of_state)
            yield job

    found = list(measure_all(jobs()))
    measured = {
        name(state.change(bins=number)): (of_state, calibration)
        for state, of_state, columns in zip(states, scores, found, strict=True)
        for number, calibration in columns.items()
    }
    ends = _intervals([one.diagram for _, column in measured.values() for one in column])
    return {one: _column(*of_column, ends) for one, of_column in measured.items()}


class CellScores(NamedTuple):
    """Measures without bins at one position of the slider."""

    accuracy: float
    nll: float
    brier: float
    ruled_out: int


def _at_every_place(source: ExplorerSource, state: State, bins: tuple[int, ...]) -> tuple[list[CellScores], Job]:
    """Returns the measures that are quick to compute, and the job of computing the others."""
    answers, vocabulary = source.answers(state.task, state.split), source.vocabulary
    places = (state.change(coefficient=place) for place in positions(state.kind).tolist())
    found = [targets(answers, one, vocabulary) for one in places]
    confidence = np.stack([one.confidence(state.reading) for one in found])
    correct = np.stack([one.correct() for one in found])
    return [_scores(one, state.reading) for one in found], Job(confidence, correct, bins, DRAWS)


def _scores(found: Predictions, reading: Reading) -> CellScores:
    likelihood, ruled_out = nll_of_possible(found, reading)
    return CellScores(accuracy(found.correct()), likelihood, brier(found.shares(), found.answer), ruled_out)


def _intervals(diagrams: Sequence[Reliability]) -> Iterator[Ends]:
    """Yields the ends of each diagram's intervals, all found by one search: many bins are equal."""
    parts = (np.concatenate([getattr(one, part) for one in diagrams]) for part in ("count", "confidence", "accuracy"))
    sizes = np.cumsum([len(one.count) for one in diagrams])[:-1]
    low, high = intervals(Reliability(np.array([]), *parts))
    yield from zip(np.split(low, sizes), np.split(high, sizes), strict=True)


def _column(scores: Sequence[CellScores], calibration: Sequence[Calibration], ends: Iterator[Ends]) -> GridColumn:
    cells = [_cell(*row, *next(ends)) for row in zip(scores, calibration, strict=True)]
    return GridColumn(cells, np.array([one.diagram.ece for one in calibration]))


def _cell(scores: CellScores, calibration: Calibration, low: np.ndarray, high: np.ndarray) -> list[Any]:
    """Returns measures, noise floor, and the bins that are not empty."""
    smooth, floor, diagram = calibration
    error = diagram.ece
    numbers = (scores.accuracy, error, smooth, scores.nll, scores.brier, trust(scores.accuracy, error))
    filled = np.flatnonzero(diagram.count)
    parts = (diagram.accuracy, diagram.confidence, low, high)
    return [
        _rounded(numbers, FINE_DIGITS),
        scores.ruled_out,
        _rounded([floor.mean, floor.percentile_95]),
        filled.tolist(),
        diagram.count[filled].tolist(),
        *(_rounded(part[filled]) for part in parts),
    ]


def _gap(columns: dict[str, GridColumn], state: State) -> list[float | None]:
    found = gap_between(state.kind, *(columns[name(state.change(split=split))].ece for split in SPLITS))
    return _rounded([found.coefficient, found.validation, found.test, found.best])


# -- the questions -----------------------------------------------------------------------------------------------


def _examples(source: ExplorerSource, state: State) -> list[dict[str, Any]]:
    answers, student = source.answers(state.task, state.split), source.student(state.task, state.split)
    found = [example(source, state, answers, row, student) for row in range(min(KEPT, len(answers)))]
    return [_example(one, answers) for one in found]


def _example(one: ExampleView, answers: Predictions) -> dict[str, Any]:
    """Returns a question's text and numbers; `inside` is each candidate's place among the top K, -1 outside."""
    candidates = answers.candidate_ids[one.row]
    same = candidates[candidates >= 0][:, None] == answers.top_ids[one.row]
    return {
        "name": one.name,
        "text": shortened(one.text),
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
