"""Selective accuracy: how often a model is right if it leaves out the questions that it is unsure about."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from firstlib.figures import parts
from firstlib.figures.style import looks, name_of
from firstlib.metrics import Selective

_MOST_POINTS = 200  # of a line; a figure 700 pixels wide shows no more
_FEW = 0.05  # below this share of the questions accuracy varies by chance; the axis does not follow it
_HOVER = "%{x:.1%} answered, confidence ≥ %{customdata:.1%}<br>%{y:.1%} right"


def selective_accuracy(panels: Mapping[str, Selective]) -> go.Figure:
    """Accuracy among the questions that a model answers, by the share that it answers: the most confident first.

    FIRST (arXiv 2408.12168) calls a model trustworthy if it is accurate and its confidence tells how likely an answer
    is right. Such a confidence lets a user leave out the answers that the model is unsure about. The legend gives the
    area under the risk-coverage curve (AURC); a smaller one is better.

    Args:
        panels: One line each, by method.
    """
    figure, styles = parts.blank(), looks(panels)
    for name, found in panels.items():
        its, kept = styles[name], _thinned(len(found.share))
        label = f"{name_of(name)}, area {found.area:.3f}"
        line = {"mode": "lines", "line": parts.line(its.colour, its.dash)}
        hover = {"customdata": parts.numbers(found.threshold[kept]), "hovertemplate": _HOVER}
        figure.add_scatter(
            x=parts.numbers(found.share[kept]), y=parts.numbers(found.accuracy[kept]), name=label, **line, **hover
        )
    ticks = {"tickformat": parts.PERCENT, "tickvals": parts.FIFTHS}
    figure.update_xaxes(title_text="share of questions answered", range=[0, 1.003], **ticks)
    figure.update_yaxes(title_text="accuracy among them", tickformat=parts.PERCENT, range=_accuracies(panels))
    return parts.make_room(figure, [trace.name for trace in figure.data])


def _thinned(count: int) -> np.ndarray:
    """Returns at most `_MOST_POINTS` rows at equal distances, the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(np.intp))


def _accuracies(panels: Mapping[str, Selective]) -> list[float]:
    """Returns the range of the axis of accuracy."""
    shown = np.concatenate([found.accuracy[found.share >= _FEW] for found in panels.values()])
    low, high = float(shown.min()), float(shown.max())
    margin = max(0.05 * (high - low), 0.01)
    return [low - margin, high + margin]
