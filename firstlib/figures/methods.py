"""The methods side by side: the results table as a plane, their losses, one question put to each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from firstlib.figures import parts
from firstlib.figures.style import BLACK, BLUE, GREY, PALE, look, name_of, plain


class Scored(Protocol):
    """A row of the results table, as far as a figure needs it."""

    @property
    def method(self) -> str:
        """One of the five methods."""

    @property
    def setting(self) -> str:
        """In-domain or out-of-domain."""

    @property
    def dataset(self) -> str:
        """The test set."""

    @property
    def accuracy(self) -> float:
        """A fraction."""

    @property
    def ece(self) -> float:
        """A fraction."""


def trust_plane(rows: Iterable[Scored], most: int = 2) -> go.Figure:
    """Figure 1 of the paper: accuracy against ECE, one marker a method, one panel a test set and setting.

    Along a dotted line Trust, which is accuracy - ECE, stays the same; up and to the left is better.
    """
    columns: dict[str, list[Scored]] = {}
    for row in rows:
        columns.setdefault(f"{name_of(row.dataset)}, {plain(row.setting, 20)}", []).append(row)
    figure, cells = parts.panels(columns, 290, x="ECE (lower is better)", y="accuracy (higher is better)", most=most)
    reach = max(row.ece for found in columns.values() for row in found) * 1.15 or 0.05
    half = max(np.ptp([row.accuracy for row in found]) for found in columns.values()) / 2 + 0.03
    for cell, found in zip(cells, columns.values(), strict=True):
        scores = [row.accuracy for row in found]
        low, high = (min(scores) + max(scores)) / 2 - half, (min(scores) + max(scores)) / 2 + half
        for trace in (*_equal_trust(low, high, reach), *_methods(found)):
            parts.add(figure, cell, trace)
        figure.update_yaxes(range=[low, high], row=cell[0], col=cell[1])
    figure.update_xaxes(range=[0, reach], tickformat=parts.PERCENT, showgrid=False)
    return figure.update_yaxes(tickformat=parts.PERCENT, showgrid=False)


def losses(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Training loss of every step, in nats, one line a model. Different losses meet only in their shape."""
    figure = parts.blank()
    for index, (name, values) in enumerate(curves.items()):
        its = look(name, index)
        line = {"mode": "lines", "line": parts.line(its.colour, its.dash, 1.5)}
        figure.add_scatter(y=parts.numbers(values), x0=1, dx=1, name=name_of(name), **line)
    figure.update_xaxes(title_text="step")
    return figure.update_yaxes(title_text="training loss (nats)", rangemode="tozero")


def before_after(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> go.Figure:
    """Accuracy and ECE before and after fine-tuning, in pairs: data set -> (accuracy, ECE), fractions."""
    figure, cells = parts.panels(["Accuracy", "ECE"], 270, x="", y="", most=2)
    places = list(range(len(before)))
    for part, cell in enumerate(cells):
        for when, scores, colour, hatch in (("before", before, PALE, ""), ("after", after, BLUE, "")):
            bars = parts.bars(places, [scores[name][part] for name in before], f"{when} fine-tuning", colour, hatch)
            parts.add(figure, cell, bars.update(texttemplate="%{y:.1%}"))
    figure.update_xaxes(tickvals=places, ticktext=[name_of(name) for name in before], ticks="")
    figure.update_layout(bargap=0.12)
    return figure.update_yaxes(tickformat=parts.PERCENT, rangemode="tozero")


def case_study(models: Mapping[str, ArrayLike], choices: Sequence[str], truth: ArrayLike | None = None) -> go.Figure:
    """Compare each model's probability `(C,)` of every choice of one question, the paper's case study.

    `truth` `(C,)` is pointed at: the true distribution, or 1 / C where no choice is right. All are fractions.
    """
    rows = list(range(len(choices)))
    thick = 15 * len(models)  # pixels that a choice's bars take
    figure = parts.blank(height=110 + len(choices) * thick * 4 // 3)
    for index, (name, values) in enumerate(models.items()):
        its = look(name, index)
        bars = parts.bars(parts.numbers(values), rows, name_of(name), its.colour, its.hatch)
        figure.add_trace(bars.update(orientation="h", texttemplate="%{x:.1%}"))
    if truth is not None:
        above = [row - 0.48 for row in rows]
        figure.add_scatter(x=parts.numbers(truth), y=above, name="truth", mode="markers", **_pointer())
    figure.update_xaxes(title_text="probability", tickformat=parts.PERCENT, range=[0, 1.07])
    figure.update_yaxes(tickvals=rows, ticktext=[plain(choice, 28) for choice in choices])
    return figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)


def _methods(rows: Sequence[Scored]) -> Iterable[go.Scatter]:
    for index, method in enumerate(dict.fromkeys(row.method for row in rows)):
        its, mine = look(method, index), [row for row in rows if row.method == method]
        marker = {"symbol": its.symbol, "size": 13, "color": its.colour}
        x, y = [row.ece for row in mine], [row.accuracy for row in mine]
        yield go.Scatter(x=x, y=y, name=name_of(method), mode="markers", marker=marker)


def _equal_trust(low: float, high: float, reach: float) -> Iterable[go.Scatter]:
    """Draw accuracy = Trust + ECE every five points, within accuracy `low` to `high`, ECE 0 to `reach`."""
    for points in range(math.ceil((low - reach) * 20), math.floor(high * 20) + 1):
        trust = points / 20
        ends = [max(0, low - trust), min(reach, high - trust)]
        line = {"mode": "lines+text", "line": parts.line(GREY, "dot", 1), "hoverinfo": "skip"}
        where = "top left" if trust + reach < high else "bottom right"
        fits = ends[1] < 0.8 * reach or trust + reach < high - (high - low) / 15
        text = {"text": ["", f"Trust {trust:.0%}" if fits else ""], "textposition": where}
        font = {"size": 10, "color": GREY}
        yield go.Scatter(x=ends, y=[trust + end for end in ends], name="", textfont=font, **line, **text)


def _pointer() -> dict[str, Any]:
    """Point down at a value from above its bars, and through them."""
    across = {
        "type": "constant",
        "value": 0.88,
        "valueminus": 0,
        "symmetric": False,
        "width": 0,
        "thickness": 1,
    }
    return {
        "marker": {"symbol": "triangle-down", "size": 9, "color": BLACK},
        "error_y": {**across, "color": BLACK},
    }
