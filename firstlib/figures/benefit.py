"""When a method helps: its gain over a baseline against how over-confident the teacher is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from firstlib.figures import parts
from firstlib.figures.style import BLACK, Look, looks, name_of
from firstlib.metrics import Interval

SIDE_BY_SIDE = 0.012  # of a panel's width, between two methods of one setting


@dataclass(frozen=True)
class Gain:
    """One setting of the map: where it lies, what a method gains there, and what the setting is called."""

    at: float
    gain: Interval
    label: str


def benefit_map(panels: Mapping[str, Mapping[str, Sequence[Gain]]], x: str, y: str) -> go.Figure:
    """Draws one panel for each test set, with one series of settings for each method; 0 is the baseline.

    The methods of one setting stand side by side, so that their intervals can be told apart.

    Args:
        panels: Test set -> method -> its gains; fractions.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
    """
    figure, cells = parts.panels(panels, 330, x=x, y=y, most=2)
    styles = looks(method for methods in panels.values() for method in methods)
    for cell, methods in zip(cells, panels.values(), strict=True):
        step = SIDE_BY_SIDE * _width(methods)
        for place, (method, gains) in enumerate(methods.items()):
            moved = [replace(one, at=one.at + (place - (len(methods) - 1) / 2) * step) for one in gains]
            parts.add(figure, cell, _series(method, sorted(moved, key=lambda one: one.at), styles[method]))
        figure.add_hline(y=0, line=parts.line(BLACK, "dot", 1), row=cell[0], col=cell[1])
    figure.update_xaxes(tickformat=parts.PERCENT)
    figure.update_yaxes(tickformat=parts.PERCENT)
    return parts.make_room(figure, map(name_of, styles))


def gain_by_size(kinds: Mapping[str, Sequence[Gain]], x: str, y: str) -> go.Figure:
    """Draws gains against a size on a logarithmic axis, one series for each kind, each point with its label.

    Args:
        kinds: Kind -> its gains, fractions, with the size as `at`.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
    """
    figure, (cell,) = parts.panels([""], 330, x=x, y=y, most=1)
    styles = looks(kinds)
    for kind, gains in kinds.items():
        drawn = _series(kind, sorted(gains, key=lambda one: one.at), styles[kind])
        parts.add(figure, cell, drawn.update(mode="markers+text", textposition="top center"))
    figure.add_hline(y=0, line=parts.line(BLACK, "dot", 1))
    figure.update_xaxes(type="log")
    figure.update_yaxes(tickformat=parts.PERCENT)
    return parts.make_room(figure, map(name_of, styles))


def _width(methods: Mapping[str, Sequence[Gain]]) -> float:
    places = [one.at for gains in methods.values() for one in gains]
    return max(places) - min(places)


def _series(method: str, gains: Sequence[Gain], its: Look) -> go.Scatter:
    estimates = [one.gain.estimate for one in gains]
    return go.Scatter(
        x=parts.numbers([one.at for one in gains]),
        y=parts.numbers(estimates),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": parts.numbers([one.gain.high - one.gain.estimate for one in gains]),
            "arrayminus": parts.numbers([one.gain.estimate - one.gain.low for one in gains]),
            "thickness": 1,
            "width": 0,
        },
        mode="markers",
        marker={"symbol": its.symbol, "color": its.colour, "size": 7},
        name=name_of(method),
        text=[one.label for one in gains],
    )
