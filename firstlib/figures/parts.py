"""What figures are made of: an empty figure, panels, bars, lines, and numbers as plotly writes them best."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from firstlib.figures.style import GREY

PERCENT = ".1~%"  # 0.05 is 5%, 0.025 is 2.5%
FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def blank(*traces: BaseTraceType, **layout: object) -> go.Figure:
    """Make a figure in the shared look."""
    return go.Figure(list(traces), {"template": "first", **layout})


def panels(
    titles: Iterable[str], height: int, x: str, y: str, most: int = 3, shared_yaxes: str | bool = False
) -> tuple[go.Figure, list[tuple[int, int]]]:
    """Make a figure of one empty panel a title, rows of `height` pixels; return it with the panels' cells."""
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
    """Put a trace into a panel; the legend names equal series once, and switches all of them."""
    known = trace.name in {other.name for other in figure.data}
    trace.update(legendgroup=trace.name, showlegend=bool(trace.name) and not known)
    figure.add_trace(trace, row=cell[0], col=cell[1])


def note(figure: go.Figure, cell: tuple[int, int], text: str) -> None:
    """Write into a panel's upper left corner."""
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


def bars(x: Sequence[float | None], y: Sequence[float | None], name: str, colour: str, hatch: str) -> go.Bar:
    """Make bars in one colour and hatching, their text above them."""
    pattern = {"shape": hatch, "fillmode": "overlay", "fgcolor": "white", "size": 5, "solidity": 0.35}
    marker = {"color": colour, "pattern": pattern, "line": {"width": 0.5, "color": GREY}}
    text = {"textposition": "outside", "textfont": {"size": 10}, "constraintext": "none", "cliponaxis": False}
    return go.Bar(x=x, y=y, name=name, marker=marker, **text)


def line(colour: str, dash: str = "solid", width: float = 2) -> dict[str, Any]:
    """Describe a line; width in pixels."""
    return {"color": colour, "dash": dash, "width": width}


def numbers(values: ArrayLike) -> list[float | None]:
    """Turn numbers into plain floats, nan into None; of an array plotly writes base64 nobody can read."""
    return [None if math.isnan(value) else value for value in np.asarray(values, dtype=np.float64).tolist()]


def upto(number: int) -> range:
    """Count from 1 to a number."""
    return range(1, number + 1)
