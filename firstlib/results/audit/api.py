"""`audit`: one call from a path, a model or arrays to everything an audit measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from firstlib.evaluation.audit import inputs, tables
from firstlib.evaluation.audit.answers import Answers, check_reading
from firstlib.evaluation.audit.differences import Difference, difference
from firstlib.evaluation.audit.measured import Measured, measure
from firstlib.evaluation.audit.options import Asked, Columns, Options
from firstlib.metrics import Interval
from firstlib.metrics.checks import as_array
from firstlib.results.audit import findings, page, terminal
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json, write_text
from firstlib.settings.limits import MOST_BINS

if TYPE_CHECKING:  # pandas takes a second to import, and the last one imports torch
    import pandas as pd
    import plotly.graph_objects as go

    from firstlib.experiment import Experiment

JSON, PAGE = "audit.json", "audit.html"
_ARRAYS = "the arrays"


@dataclass(frozen=True, eq=False)
class Audit:
    """How honest one or several models are. A notebook shows it as tables and figures, a terminal as text.

    Attributes:
        inputs: What is measured of each model, in order.
        differences: Each input minus the baseline; empty where there is one input.
    """

    inputs: tuple[Measured, ...]
    differences: tuple[Difference, ...] = ()

    @property
    def first(self) -> Measured:
        """The first input, all that most audits have."""
        return self.inputs[0]

    @property
    def n(self) -> int:
        """Number of the first input's answers."""
        return self.first.n

    @property
    def accuracy(self) -> float:
        """The first input's share of right answers."""
        return self.first.accuracy.estimate

    @property
    def ece(self) -> float:
        """The first input's expected calibration error, a fraction."""
        return self.first.ece.estimate

    @property
    def ece_interval(self) -> Interval:
        """The first input's expected calibration error with its 95 % interval."""
        return self.first.ece

    @property
    def temperature(self) -> float | None:
        """The temperature to divide the first input's logits by; None where none can be told."""
        return self.first.tempered.value if self.first.tempered else None

    @property
    def verdict(self) -> str:
        """The main finding about the first input, in one sentence."""
        return findings.verdict(self.first)

    def to_frame(self, subjects: bool = False) -> "pd.DataFrame":
        """Returns a line for each input and a column for each measure; fractions, nats for `nll`.

        With `subjects`, a line for each subject of each input.
        """
        return findings.subject_frame(self.inputs) if subjects else findings.frame(self.inputs)

    def reliability(self) -> "go.Figure":
        """Returns the reliability diagrams of all inputs, with each bin's interval and number of answers."""
        return page.figures_of(self.inputs)["reliability"].wide

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain numbers and texts, as `audit.json` holds it."""
        return {
            "bins": self.first.bins,
            "inputs": [findings.as_json(one) for one in self.inputs],
            "differences": [findings.difference_json(one) for one in self.differences],
        }

    def save(self, folder: str | Path = ".") -> tuple[Path, Path]:
        """Writes `audit.json`, and `audit.html`, which needs neither a kernel nor a network; returns both paths."""
        to = Path(folder).expanduser()
        to.mkdir(parents=True, exist_ok=True)
        return write_json(to / JSON, self.as_json()), write_text(to / PAGE, page.page(self.inputs, self.differences))

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    @cached_property
    def _text(self) -> str:
        return terminal.text(self.inputs, self.differences)

    def _repr_html_(self) -> str:
        return page.tables(self.inputs, self.differences)

    def _ipython_display_(self) -> None:
        from IPython.display import display  # here: only notebooks need it

        from firstlib import figures

        display({"text/plain": str(self), "text/html": self._repr_html_()}, raw=True)
        for name, drawn in page.figures_of(self.inputs).items():
            figures.show(drawn.wide, name)


def audit(
    *what: "str | Path | Experiment",
    confidence: Any = None,
    correct: Any = None,
    probabilities: Any = None,
    answer: Any = None,
    id: Any = None,  # noqa: A002 the option's name
    by: Any = None,
    against: "str | Path | Experiment | None" = None,
    bins: int = 10,
    reading: str | None = None,
    filter: str | None = None,  # noqa: A002 the option's name
    task: str | None = None,
    data: str | Path | None = None,
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 16,
    dtype: str = "float32",
    chat: bool = False,
    candidates: str = "letters",
    max_unusable: float | None = None,
    settings: Sequence[str] = (),
) -> Audit:
    """Returns how honest a model is: accuracy, calibration with intervals, and what a temperature would change.

    >>> found = audit(confidence=[0.9, 0.8, 0.6, 0.7], correct=[True, True, False, False])
    >>> found.n, round(found.ece, 3)
    (4, 0.4)

    Args:
        what: Logs of lm-evaluation-harness or inspect-ai, tables, models, runs; several are set side by side.
        confidence: Without `what`, `(N,)` probabilities of the chosen answers; with it, the name of a table's column.
        correct: Likewise, whether each is right.
        probabilities: Likewise, `(N, C)` probabilities of the choices, or N lists; the names of a table's columns.
        answer: Likewise, the index of each right choice.
        id: Likewise, what names the questions, by which inputs are paired.
        by: Likewise, each question's subject.
        against: The input that the others are compared with; None: the first of several.
        bins: Of the ECE, of equal width.
        reading: `candidates` (or `acc`), `acc_norm` or `vocabulary`; None: as the input suggests.
        filter: The filter of a log that has several.
        task: What a model is asked: `csqa`, `boolq`, `obqa` or `own`.
        data: The file or folder of the task's questions, or `microworld`.
        split: The split that a model is asked.
        limit: Questions that a model is asked, at most.
        batch_size: Questions in one forward pass of a model.
        dtype: Number format of a model's weights.
        chat: Ask in the model's own chat format.
        candidates: What a model is scored on: `letters` of listed choices, or the choices' own `text`.
        max_unusable: Share of an input's rows that may be left out; None: 0.01 of a log or table, 0.02 of a data set.
        settings: What the files of `data` do not tell themselves, as a preset says it: `tasks.own.answers=from-1`.

    Raises:
        UserError: An input is not readable, or too many of its rows cannot be used; names the file and the row.
    """
    _check(bins, max_unusable)
    options = Options(
        bins=bins, reading=None if reading is None else check_reading(reading), filter=filter,
        max_unusable=max_unusable, asked=Asked(task, None if data is None else str(data), split, limit, batch_size,
                                               dtype, chat, candidates, tuple(settings)),
    )  # fmt: skip
    given = {"confidence": confidence, "correct": correct, "probabilities": probabilities, "answer": answer,
             "id": id, "by": by}  # fmt: skip
    if not what:
        if against is not None:
            raise UserError("against: arrays cannot be compared with a file; write them to a table, and give both")
        return Audit((measure(_of_arrays(given, options), bins),))
    return of_inputs(what, against, replace(options, columns=_columns(given)))


def of_inputs(what: Sequence[Any], against: Any, options: Options) -> Audit:
    """Returns the audit of inputs, with their differences from `against`, or from the first of several."""
    found = _read(what, options)
    baseline = _read([against], options) if against is not None else found[:1]
    if len(baseline) > 1:
        raise UserError(f"against: {against} holds {len(baseline)} models; give one")
    whole = inputs.distinct([*found, *baseline] if against is not None else found)
    measured = tuple(measure(one, options.bins) for one in whole)
    old = whole[-1] if against is not None else whole[0]
    return Audit(measured, tuple(difference(one, old, options.bins) for one in whole if one is not old))


def _check(bins: int, max_unusable: float | None) -> None:
    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= MOST_BINS:
        raise UserError(f"bins: must be a whole number from 1 to {MOST_BINS}, not {bins!r}")
    if max_unusable is not None and not (isinstance(max_unusable, int | float) and 0 <= max_unusable <= 1):
        raise UserError(f"max_unusable: must be a share from 0 to 1, not {max_unusable!r}")


def _read(what: Sequence[Any], options: Options) -> list[Answers]:
    texts = [one for one in what if isinstance(one, str | Path)]
    if len(texts) == len(what):
        return inputs.read_all([str(one) for one in texts], options, _read_run)
    from firstlib.experiment import Experiment

    if others := [type(one).__name__ for one in what if not isinstance(one, str | Path | Experiment)]:
        raise UserError(
            f"audit: a {others[0]} is neither a path nor an experiment; give arrays by name (confidence=...)"
        )
    from firstlib.results.audit.runs import of_experiment  # here: it imports torch

    found = []
    for one in what:
        is_text = isinstance(one, str | Path)
        found.append(inputs.read(str(one), options, _read_run) if is_text else of_experiment(one, options))
    return [answers for part in found for answers in part]


def _read_run(folder: Path, options: Options) -> list[Answers]:
    from firstlib.results.audit.runs import read_run  # here: it imports torch

    return read_run(folder, options)


# -- arrays and columns ------------------------------------------------------------------------------------------


def _columns(given: dict[str, Any]) -> Columns:
    """Returns the names of columns that are given in place of arrays."""
    for name, value in given.items():
        texts = value if name == "probabilities" and isinstance(value, list | tuple) else [value]
        if value is not None and not all(isinstance(text, str) for text in texts):
            raise UserError(f"{name}: with a path it names a column; leave out the path to give arrays")
    chosen = given["probabilities"]
    several = (chosen,) if isinstance(chosen, str) else tuple(chosen or ())
    return Columns(**{**given, "probabilities": several})


def _of_arrays(given: dict[str, Any], options: Options) -> Answers:
    arrays = {name: value for name, value in given.items() if value is not None}
    pairs = ({"confidence", "correct"}, {"probabilities", "answer"})
    if not any(pair == arrays.keys() & (pairs[0] | pairs[1]) for pair in pairs):
        raise UserError("audit: give a path, or confidence and correct, or probabilities and answer")
    _check_index(arrays)
    columns = _named(arrays.pop("probabilities", None))
    if len(columns) > 1:
        options = replace(options, columns=Columns(probabilities=tuple(columns)))
    columns |= {("subject" if name == "by" else name): _array(name, value) for name, value in arrays.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"audit: the arrays have {', '.join(f'{n} rows of {name}' for name, n in lengths.items())}")
    return tables.of_table(_ARRAYS, pa.table(columns), options)


def _check_index(arrays: Mapping[str, Any]) -> None:
    """Refuses series and frames of pandas in different orders: their rows are paired by place, not by index."""
    indexed = {name: value.index for name, value in arrays.items() if hasattr(value, "iloc")}
    first = next(iter(indexed), "")
    for name, found in indexed.items():
        if len(found) == len(indexed[first]) and not found.equals(indexed[first]):
            raise UserError(f"audit: {first} and {name} have different indices; align them, or give plain arrays")


def _named(probabilities: Any) -> dict[str, pa.Array]:
    """Returns probabilities as columns: one of lists, or one for each column of a data frame, which names a choice."""
    if probabilities is None:
        return {}
    if (names := getattr(probabilities, "columns", None)) is None:
        return {"probabilities": _array("probabilities", probabilities)}
    return {f"p_{name}": _array("column", probabilities[name]) for name in names}


def _array(name: str, value: Any) -> pa.Array:
    try:
        if name == "probabilities":
            return _lists(value)
        found = as_array(value, name)
        return pa.array(found.astype(str) if name in ("id", "by") else found)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{name}: is no array of {'rows' if name == 'probabilities' else 'values'} ({error!s:.120})") \
            from error  # fmt: skip


def _lists(value: Any) -> pa.Array:
    """Returns rows of probabilities as lists, which may differ in length."""
    if not hasattr(value, "__array__"):
        if any(isinstance(row, Mapping) for row in value):
            raise TypeError("its rows are dicts; give a list of each row's probabilities, in the choices' order")
        return pa.array([list(map(float, row)) for row in value])
    table = as_array(value, "probabilities").astype(np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(f"shape {table.shape}, not (N, C)")
    offsets = np.arange(0, table.size + 1, table.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(table.ravel()))
