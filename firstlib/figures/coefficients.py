"""ECE by coefficient: the search on validation questions, and the effect on test questions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from firstlib.figures import parts
from firstlib.figures.style import GREY, Look, looks, name_of

if TYPE_CHECKING:  # it imports torch, and figures of an audit need none
    from firstlib.distillation.search import Search

_PLAIN = Look(GREY, "solid", "circle", "")  # of markers that the legend explains


def coefficient_search(searches: "Mapping[str, Search]") -> go.Figure:
    """Figure 6 of the paper, left: validation ECE by coefficient, on the coarse and the fine grid.

    Args:
        searches: One line each, by task or method.
    """
    figure, styles = _coefficients("validation ECE"), looks(searches)
    for name, found in searches.items():
        tried, its = np.concatenate([found.coarse, found.fine]), styles[name]
        tried = tried[tried[:, 0].argsort(kind="stable")]
        label = f"{name_of(name)}, best c = {found.best:.2f}"
        figure.add_scatter(**_points(tried), name=label, mode="lines", line=parts.line(its.colour, its.dash))
        best = tried[tried[:, 0] == found.best][:1]
        for points, marker in ((found.coarse, _coarse(its)), (found.fine, _fine(its)), (best, _star(its))):
            figure.add_scatter(**_points(points), mode="markers", marker=marker, showlegend=False)
    for name, marker in (("coarse grid", _coarse(_PLAIN)), ("fine grid", _fine(_PLAIN)), ("best", _star(_PLAIN))):
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)
    return figure


def coefficient_effect(curves: Mapping[str, np.ndarray], chosen: Mapping[str, float] | None = None) -> go.Figure:
    """Figure 6 of the paper, right: test ECE at several coefficients.

    Args:
        curves: `(A, 2)` coefficients and ECE as a fraction; one line each, by task, seed or method.
        chosen: The coefficient that validation chose for each line; a star marks it if the line has a point there.
    """
    figure, known, styles = _coefficients("test ECE"), chosen or {}, looks(curves)
    for name, curve in curves.items():
        points, its = np.asarray(curve), styles[name]
        label = name_of(name) + (f", chosen c = {known[name]:.2f}" if name in known else "")
        style = {"line": parts.line(its.colour, its.dash), "marker": {"symbol": its.symbol, "size": 8}}
        figure.add_scatter(**_points(points), name=label, mode="lines+markers", **style)
        best = _points(points[np.isclose(points[:, 0], known.get(name, np.nan))])
        figure.add_scatter(**best, mode="markers", marker=_star(its), showlegend=False)
    if known:
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=_star(_PLAIN), name="chosen on validation data")
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
