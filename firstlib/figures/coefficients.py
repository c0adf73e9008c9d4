"""ECE by coefficient: the search on validation, and what it is worth on test."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from firstlib.distillation.recalibration import Search
from firstlib.figures import parts
from firstlib.figures.style import GREY, Look, look, name_of


def coefficient_search(searches: Mapping[str, Search]) -> go.Figure:
    """Figure 6 of the paper, left: validation ECE by coefficient, coarse and fine grid, one line a task."""
    figure = _coefficients("validation ECE")
    for index, (task, found) in enumerate(searches.items()):
        tried, its = np.concatenate([found.coarse, found.fine]), look(task, index)
        tried = tried[tried[:, 0].argsort(kind="stable")]
        name = f"{name_of(task)}, best c = {found.best:.2f}"
        figure.add_scatter(**_points(tried), name=name, mode="lines", line=parts.line(its.colour, its.dash))
        best = tried[tried[:, 0] == found.best][:1]
        for points, marker in ((found.coarse, _coarse(its)), (found.fine, _fine(its)), (best, _star(its))):
            figure.add_scatter(**_points(points), mode="markers", marker=marker, showlegend=False)
    grey = Look(GREY, "solid", "circle", "")
    for name, marker in (("coarse grid", _coarse(grey)), ("fine grid", _fine(grey)), ("best", _star(grey))):
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)
    return figure


def coefficient_effect(curves: Mapping[str, np.ndarray], chosen: Mapping[str, float] | None = None) -> go.Figure:
    """Figure 6 of the paper, right: test ECE at several coefficients, one line a task.

    Each curve is `(A, 2)`, coefficient and ECE, fractions. `chosen` is the coefficient that validation chose;
    it gets a star where it is among them.
    """
    figure, known = _coefficients("test ECE"), chosen or {}
    for index, (task, curve) in enumerate(curves.items()):
        points, its = np.asarray(curve), look(task, index)
        name = name_of(task) + (f", chosen c = {known[task]:.2f}" if task in known else "")
        style = {"line": parts.line(its.colour, its.dash), "marker": {"symbol": its.symbol, "size": 8}}
        figure.add_scatter(**_points(points), name=name, mode="lines+markers", **style)
        best = _points(points[np.isclose(points[:, 0], known.get(task, np.nan))])
        figure.add_scatter(**best, mode="markers", marker=_star(its), showlegend=False)
    if known:
        star = _star(Look(GREY, "solid", "circle", ""))
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=star, name="chosen on validation data")
    return figure


def _coefficients(ece: str) -> go.Figure:
    figure = parts.blank(margin={"t": 60})
    figure.update_xaxes(title_text="coefficient c", rangemode="tozero")
    return figure.update_yaxes(title_text=ece, tickformat=parts.PERCENT, rangemode="tozero")


def _points(points: np.ndarray) -> dict[str, list[float | None]]:
    return {"x": parts.numbers(points[:, 0]), "y": parts.numbers(points[:, 1])}


def _coarse(its: Look) -> dict[str, Any]:
    return {"symbol": f"{its.symbol}-open", "size": 10, "color": its.colour, "line": {"width": 2}}


def _fine(its: Look) -> dict[str, Any]:
    return {"symbol": its.symbol, "size": 5, "color": its.colour}


def _star(its: Look) -> dict[str, Any]:
    return {"symbol": "star", "size": 16, "color": "white", "line": {"width": 2, "color": its.colour}}
