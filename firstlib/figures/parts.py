"""Building blocks of figures: an empty figure, panels, bars, lines, and numbers in a readable form."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from firstlib.figures.style import GREY, name_of

PERCENT = ".1~%"  # shows 0.05 as 5% and 0.025 as 2.5%
FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]
_LONGEST_TITLE = 30  # characters that fit above one of three panels


def blank(*traces: BaseTraceType, **layout: object) -> go.Figure:
    """Returns a figure in the shared look."""
    return go.Figure(list(traces), {"template": "first", **layout})


def panel_titles(names: Iterable[str]) -> list[str]:
    """Returns the labels of methods or data sets, shortened to a panel's width."""
    return [name_of(name, _LONGEST_TITLE) for name in names]


def panels(
    titles: Iterable[str], height: int, x: str, y: str, most: int = 3, shared_yaxes: str | bool = False
) -> tuple[go.Figure, list[tuple[int, int]]]:
    """Returns a figure with one empty panel for each title, and the panels' cells.

    Args:
        titles: What stands above each panel.
        height: Pixels of a row.
        x: Title of the horizontal axes.
        y: Title of the vertical axes.
        most: Panels side by side, at most.
        shared_yaxes: As in `make_subplots`.
    """
    names = list(titles)
    columns = min(most, 2 if len(names) == 4 else len(names))
    rows = math.ceil(len(names) / columns)
    cells = [(index // columns + 1, index % columns + 1) for index in range(len(names))]
    figure = make_subplots(
        rows,
        columns,
        figure=blank(height=rows * (height if len(names) > 1 else 330) + 60, margin={"t": 66}),
        subplot_titles=names,
        specs=[[{} if (row, column) in cells else None for column in upto(columns)] for row in upto(rows)],
        horizontal_spacing=0.16 / columns,
        vertical_spacing=80 / (rows * height) if rows > 1 else 0,
        shared_yaxes=shared_yaxes,
    )
    figure.update_annotations(font_size=13)
    for index, (row, column) in enumerate(cells):
        figure.update_yaxes(title_text=y if column == 1 else "", row=row, col=column)
        figure.update_xaxes(title_text=x if index + columns >= len(cells) else "", row=row, col=column)
    return figure, cells


def add(figure: go.Figure, cell: tuple[int, int], trace: BaseTraceType) -> None:
    """Adds a trace to a panel; the legend lists traces of equal name once and switches them together."""
    known = trace.name in {other.name for other in figure.data}
    trace.update(legendgroup=trace.name, showlegend=bool(trace.name) and not known)
    figure.add_trace(trace, row=cell[0], col=cell[1])


def note(figure: go.Figure, cell: tuple[int, int], text: str) -> None:
    """Writes text into a panel's upper left corner."""
    corner = {
        "x": 0.03,
        "xanchor": "left",
        "xref": "x domain",
        "y": 0.99,
        "yanchor": "top",
        "yref": "y domain",
    }
    white = "rgba(255,255,255,0.8)"
    figure.add_annotation(text=text, showarrow=False, bgcolor=white, **corner, row=cell[0], col=cell[1])


def make_room(figure: go.Figure, labels: Iterable[str]) -> go.Figure:
    """Makes a figure higher if its legend needs more than two rows, which the default margin holds; returns it."""
    widths = [45 + 7 * len(label) for label in labels]  # pixels; plotly makes all columns as wide as the widest label
    rows = math.ceil(len(widths) / max(1, 690 // max(widths)))
    more = 19 * max(0, rows - 2)
    layout, default = figure.layout, figure.layout.template.layout
    top = layout.margin.t or default.margin.t
    return figure.update_layout(height=(layout.height or default.height) + more, margin_t=top + more)


def bars(x: Sequence[float | None], y: Sequence[float | None], name: str, colour: str, hatch: str) -> go.Bar:
    """Returns bars in one colour and hatching, with their text above them."""
    pattern = {"shape": hatch, "fillmode": "overlay", "fgcolor": "white", "size": 5, "solidity": 0.35}
    marker = {"color": colour, "pattern": pattern, "line": {"width": 0.5, "color": GREY}}
    text = {"textposition": "outside", "textfont": {"size": 10}, "constraintext": "none", "cliponaxis": False}
    return go.Bar(x=x, y=y, name=name, marker=marker, **text)


def line(colour: str, dash: str = "solid", width: float = 2) -> dict[str, Any]:
    """Returns plotly's description of a line; the width is in pixels."""
    return {"color": colour, "dash": dash, "width": width}


def numbers(values: ArrayLike) -> list[float | None]:
    """Returns plain floats, with None for nan; plotly would write an array as base64."""
    return [None if math.isnan(value) else value for value in np.asarray(values, dtype=np.float64).tolist()]


def upto(number: int) -> range:
    """Returns the range from 1 to a number."""
    return range(1, number + 1)
