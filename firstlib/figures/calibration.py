"""Reliability diagrams: accuracy by confidence."""

from collections.abc import Iterable, Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from firstlib.figures import parts
from firstlib.figures.style import BLACK, BLUE, GREY, PALE, VERMILLION
from firstlib.metrics import Reliability

SHARES = 0.22  # height, on the axis of accuracy, of the largest bar of answers below a reliability diagram


Ends = tuple[np.ndarray, np.ndarray]  # low and high of each bin, `(B,)`


def reliability_diagrams(
    panels: Mapping[str, Reliability], most: int = 3, intervals: Mapping[str, Ends] | None = None
) -> go.Figure:
    """Figure 5 of the paper: accuracy by confidence, and the gaps between them that make up the ECE.

    Bars below each diagram show the bins' shares of the answers, relative to the largest share.

    Args:
        panels: A reliability diagram for each method.
        most: Panels side by side, at most.
        intervals: The ends of each bin's interval of accuracy, by panel.
    """
    titles = parts.panel_titles(panels)
    figure, cells = parts.panels(titles, 240, x="confidence", y="accuracy", most=most, shared_yaxes="all")
    for cell, (name, found) in zip(cells, panels.items(), strict=True):
        add_reliability(figure, cell, found)
        if intervals:
            parts.add(figure, cell, _whiskers(found, *intervals[name]))
    return figure.update_layout(barmode="overlay", hovermode="x")


def _whiskers(found: Reliability, low: np.ndarray, high: np.ndarray) -> go.Scatter:
    """Returns the intervals of the bins that hold answers."""
    filled = found.count > 0
    middle, accuracy = ((found.edges[:-1] + found.edges[1:]) / 2)[filled], found.accuracy[filled]
    ends = {"array": parts.numbers(high[filled] - accuracy), "arrayminus": parts.numbers(accuracy - low[filled])}
    return go.Scatter(
        x=parts.numbers(middle), y=parts.numbers(accuracy), name="95 % interval", mode="markers", hoverinfo="skip",
        marker={"size": 3, "color": BLACK}, error_y={"color": BLACK, "thickness": 1, "width": 3, **ends},
    )  # fmt: skip


def add_reliability(figure: go.Figure, cell: tuple[int, int], found: Reliability) -> None:
    """Draws one diagram into a panel, with its axes, and its ECE in the corner."""
    for trace in reliability_traces(found):
        parts.add(figure, cell, trace)
    parts.note(figure, cell, f"<b>ECE {found.ece:.1%}</b>")
    row, column = cell
    ticks = {"tickformat": parts.PERCENT, "tickvals": parts.FIFTHS, "tickfont": {"size": 11}, "showgrid": False}
    figure.update_xaxes(range=[0, 1], **ticks, row=row, col=column)
    ticks |= {"zeroline": True, "zerolinecolor": GREY}
    figure.update_yaxes(range=[-SHARES, 1.005], **ticks, row=row, col=column)


def reliability_traces(found: Reliability) -> Iterable[BaseTraceType]:
    """Yields one diagram's traces: accuracy, its gaps to confidence, the shares of answers, the diagonal."""
    middle, width = parts.numbers((found.edges[:-1] + found.edges[1:]) / 2), parts.numbers(np.diff(found.edges))
    texts = [
        f"{count} answers"
        if count == 0
        else f"{count} answers<br>accuracy {accuracy:.1%}<br>confidence {confidence:.1%}"
        for count, accuracy, confidence in zip(found.count, found.accuracy, found.confidence, strict=True)
    ]
    for name, heights, bottom, colour, hatch in (
        ("accuracy", found.accuracy, None, PALE, ""),
        ("over-confident", found.over_confidence, found.accuracy, VERMILLION, "/"),
        ("under-confident", found.under_confidence, found.confidence, BLUE, "x"),
        ("share of answers", -SHARES * found.weight / found.weight.max(), None, GREY, ""),
    ):
        bars = parts.bars(middle, parts.numbers(heights), name, colour, hatch)
        hover = {"hoverinfo": "skip"} if name != "accuracy" else {"hovertext": texts, "hoverinfo": "text"}
        yield bars.update(base=None if bottom is None else parts.numbers(bottom), width=width, **hover)
    yield go.Scatter(
        x=[0, 1], y=[0, 1], name="calibrated", mode="lines", line=parts.line(BLACK, "dash", 1), hoverinfo="skip"
    )
