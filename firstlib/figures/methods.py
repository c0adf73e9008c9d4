"""Methods side by side: the results table in one plane, training losses, and one question put to every model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from firstlib.figures import parts
from firstlib.figures.style import BLACK, BLUE, GREY, PALE, Look, looks, name_of, plain


class Scored(Protocol):
    """What a figure needs of one row of the results table."""

    @property
    def method(self) -> str:
        """The method's name."""

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
    """Figure 1 of the paper: accuracy against ECE, with a panel for each test set and setting.

    Trust, accuracy minus ECE, is constant along each dotted line; up and to the left is better.

    Args:
        rows: One marker each.
        most: Panels side by side, at most.
    """
    columns: dict[str, list[Scored]] = {}
    for row in rows:
        columns.setdefault(f"{name_of(row.dataset, 30)}, {plain(row.setting, 20)}", []).append(row)
    figure, cells = parts.panels(columns, 290, x="ECE (lower is better)", y="accuracy (higher is better)", most=most)
    reach = max(row.ece for found in columns.values() for row in found) * 1.15 or 0.05
    half = max(np.ptp([row.accuracy for row in found]) for found in columns.values()) / 2 + 0.03
    styles = looks(row.method for found in columns.values() for row in found)
    for cell, found in zip(cells, columns.values(), strict=True):
        scores = [row.accuracy for row in found]
        low, high = (min(scores) + max(scores)) / 2 - half, (min(scores) + max(scores)) / 2 + half
        for trace in (*_equal_trust(low, high, reach), *_methods(found, styles)):
            parts.add(figure, cell, trace)
        figure.update_yaxes(range=[low, high], row=cell[0], col=cell[1])
    figure.update_xaxes(range=[0, reach], tickformat=parts.PERCENT, showgrid=False)
    figure.update_yaxes(tickformat=parts.PERCENT, showgrid=False)
    return parts.make_room(figure, map(name_of, styles))


def losses(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Training loss of every step; only the shapes of different loss functions compare.

    Args:
        curves: Losses in nats; one line each, by task or method.
    """
    figure, styles = parts.blank(), looks(curves)
    for name, values in curves.items():
        line = {"mode": "lines", "line": parts.line(styles[name].colour, styles[name].dash, 1.5)}
        figure.add_scatter(y=parts.numbers(values), x0=1, dx=1, name=name_of(name), **line)
    figure.update_xaxes(title_text="step")
    return figure.update_yaxes(title_text="training loss (nats)", rangemode="tozero")


def before_after(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> go.Figure:
    """Accuracy and ECE before and after fine-tuning.

    Args:
        before: Accuracy and ECE of each data set, fractions.
        after: Likewise, of the same data sets.
    """
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
    """The paper's case study: every model's probability for each choice of one question.

    Args:
        models: `(C,)` fractions, by method.
        choices: `(C,)` the choices' text.
        truth: `(C,)` the true distribution, or 1 / C where no choice is right; a triangle marks it.
    """
    rows = list(range(len(choices)))
    thick = 15 * len(models)  # pixels of one choice's bars
    figure, styles = parts.blank(height=110 + len(choices) * thick * 4 // 3), looks(models)
    for name, values in models.items():
        bars = parts.bars(parts.numbers(values), rows, name_of(name), styles[name].colour, styles[name].hatch)
        figure.add_trace(bars.update(orientation="h", texttemplate="%{x:.1%}"))
    if truth is not None:
        above = [row - 0.48 for row in rows]
        figure.add_scatter(x=parts.numbers(truth), y=above, name="truth", mode="markers", **_pointer())
    figure.update_xaxes(title_text="probability", tickformat=parts.PERCENT, range=[0, 1.07])
    figure.update_yaxes(tickvals=rows, ticktext=[plain(choice, 28) for choice in choices])
    return figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)


def _methods(rows: Sequence[Scored], styles: Mapping[str, Look]) -> Iterable[go.Scatter]:
    for method in dict.fromkeys(row.method for row in rows):
        its, mine = styles[method], [row for row in rows if row.method == method]
        marker = {"symbol": its.symbol, "size": 13, "color": its.colour}
        x, y = [row.ece for row in mine], [row.accuracy for row in mine]
        yield go.Scatter(x=x, y=y, name=name_of(method), mode="markers", marker=marker)


def _equal_trust(low: float, high: float, reach: float) -> Iterable[go.Scatter]:
    """Yields lines of equal Trust, five points apart, for accuracies from `low` to `high` and ECE up to `reach`."""
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
    """Returns the look of a triangle above the bars, with a line through them."""
    across = {"type": "constant", "value": 0.88, "valueminus": 0, "symmetric": False, "width": 0, "thickness": 1}
    return {
        "marker": {"symbol": "triangle-down", "size": 9, "color": BLACK},
        "error_y": {**across, "color": BLACK},
    }
