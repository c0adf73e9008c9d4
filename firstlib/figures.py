"""The figures: numbers in, plotly figure out, nothing computed beyond the layout.

Each is made for a column 700 pixels wide, and can be read in grey. `show` is for a notebook's cell, `write`
for files; the look that all share is in `display`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from firstlib.display import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE,
    VERMILLION,
    Look,
    look,
    name_of,
    plain,
    show,
    write,
)
from firstlib.metrics import Reliability
from firstlib.recalibration import Search

__all__ = [
    "Scored",
    "before_after",
    "case_study",
    "coefficient_effect",
    "coefficient_search",
    "coverage",
    "disk_use",
    "kept_mass",
    "losses",
    "rank_probabilities",
    "reliability_diagrams",
    "show",
    "temperature_view",
    "top_tokens",
    "trust_plane",
    "write",
]

PERCENT = ".1~%"  # 0.05 is 5%, 0.025 is 2.5%
FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]
SHARES = 0.22  # how far the bins' shares hang below a reliability diagram


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


# -- one function a figure -----------------------------------------------------------------------------------


def coverage(probabilities: ArrayLike, marked: int = 5) -> go.Figure:
    """Figure 2 of the paper: the share of a distribution that its top 1..K tokens hold, mean and range.

    Takes probabilities `(positions, K)`, most probable first; `marked` is the number of tokens pointed at,
    the 5 that FIRST stores.
    """
    mass = np.cumsum(np.asarray(probabilities, dtype=np.float64), axis=1)
    least, low, high, most = np.percentile(mass, [0, 5, 95, 100], axis=0)
    mean, top = mass.mean(axis=0), list(range(1, mass.shape[1] + 1))
    figure = _figure(
        *_band(top, least, most, "all positions", "rgba(86,180,233,0.3)"),
        *_band(top, low, high, "5th to 95th percentile", "rgba(0,114,178,0.4)"),
        go.Scatter(x=top, y=_list(mean), name="mean", mode="lines", line=_line(BLACK, "solid", 2.5)),
    )
    figure.update_traces(hovertemplate="top %{x}: %{y:.1%}")
    figure.update_xaxes(title_text="most probable tokens kept", type="log", tickvals=[1, 2, 5, 10, 20, 50, 100])
    figure.update_yaxes(title_text="probability mass", tickformat=PERCENT, range=[0, 1.02])
    if 1 <= marked <= len(top):
        figure.add_vline(marked, line=_line(VERMILLION, "dash", 1.5))
        text = f"top {marked} hold {mean[marked - 1]:.1%} on average"
        figure.add_annotation(x=math.log10(marked), y=0.06, text=text, showarrow=False, xanchor="left", xshift=6)
    return figure


def disk_use(
    k: Sequence[int], bytes_per_position: Sequence[float], vocabulary: int, bytes_per_token: float = 12
) -> go.Figure:
    """Figure 2 of the paper, disk use: bytes a position `(A,)` by tokens kept `(A,)`, both axes logarithmic.

    A dashed line beside what was measured is the paper's arithmetic, `bytes_per_token` for each token kept;
    it ends at the full distribution over the `vocabulary`.
    """
    sizes, reach = [float(size) for size in bytes_per_position], [*k, vocabulary]
    counted = [bytes_per_token * kept for kept in reach]
    figure = _figure(margin={"r": 44})
    for name, x, y, its in (
        ("measured", list(k), sizes, Look(BLUE, "solid", "circle", "")),
        (f"{bytes_per_token:g} B a token", reach, counted, Look(VERMILLION, "dash", "square-open", "")),
    ):
        line = {"mode": "lines+markers", "line": _line(its.colour, its.dash)}
        figure.add_scatter(x=x, y=y, name=name, marker={"symbol": its.symbol, "size": 8}, **line)
    figure.update_traces(cliponaxis=False, hovertemplate="top %{x}: %{y:.3s}B")
    full = {
        "x": math.log10(vocabulary),
        "y": math.log10(counted[-1]),
        "xanchor": "right",
        "xshift": -8,
        "yshift": 10,
    }
    figure.add_annotation(**full, text=f"full distribution: {_size(counted[-1])}", showarrow=False)
    powers = [10.0**power for power in range(16)]
    figure.update_xaxes(title_text="tokens kept, k", type="log", tickvals=reach)
    figure.update_yaxes(title_text="bytes a position", type="log")
    return figure.update_yaxes(tickvals=powers, ticktext=[_size(power) for power in powers])


def kept_mass(masses: Mapping[str, np.ndarray]) -> go.Figure:
    """Spread of the mass that the top k hold over positions `(positions,)`, one box a task; fractions.

    A box is the middle half of the positions, with the median in it; its arms reach from the 5th to the 95th
    percentile, and the dotted line is the mean.
    """
    figure = _figure(height=80 + 60 * len(masses), margin={"t": 16})
    for index, (task, mass) in enumerate(masses.items()):
        names = ("lowerfence", "q1", "median", "q3", "upperfence")
        fractions = np.percentile(mass, [[5], [25], [50], [75], [95]]).tolist()
        box = {**dict(zip(names, fractions, strict=True)), "mean": [float(np.mean(mass))]}
        colour = {"line": {"color": look(task, index).colour, "width": 1.5}, "showlegend": False}
        figure.add_box(**box, y=[index], name=name_of(task), orientation="h", boxmean=True, **colour)
    figure.update_xaxes(title_text="mass that the stored tokens hold", tickformat=PERCENT)
    figure.update_yaxes(tickvals=list(range(len(masses))), ticktext=[name_of(task) for task in masses])
    return figure.update_yaxes(autorange="reversed", ticks="")


def rank_probabilities(panels: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> go.Figure:
    """Figure 3 of the paper: what a model gives its tokens of rank 1..K, against how often each is right.

    Each panel is a model: mean predicted probability `(K,)` and observed frequency `(K,)`, fractions.
    """
    figure, cells = _panels(map(name_of, panels), 250, x="rank", y="probability", shared_yaxes="all")
    series = (("mean predicted probability", BLUE, ""), ("how often it is right", ORANGE, "/"))
    for cell, pair in zip(cells, panels.values(), strict=True):
        for (name, colour, hatch), values in zip(series, pair, strict=True):
            heights = _list(values)
            bars = _bars(list(range(1, len(heights) + 1)), heights, name, colour, hatch)
            _add(figure, cell, bars.update(texttemplate="%{y:.1~%}", textangle=-90))
    figure.update_yaxes(tickformat=PERCENT, range=[0, 1.15], tickvals=FIFTHS)
    return figure.update_xaxes(dtick=1)


def reliability_diagrams(panels: Mapping[str, Reliability]) -> go.Figure:
    """Figure 5 of the paper: accuracy by confidence, one panel a method, with the gaps that make up its ECE.

    Below each diagram hang the bins' shares of the answers, to the scale of the largest.
    """
    figure, cells = _panels(map(name_of, panels), 240, x="confidence", y="accuracy", shared_yaxes="all")
    for cell, found in zip(cells, panels.values(), strict=True):
        _add_reliability(figure, cell, found)
    return figure.update_layout(barmode="overlay", hovermode="x")


def temperature_view(found: Reliability, curve: np.ndarray, coefficient: float, best: float) -> go.Figure:
    """Show what the temperature explorer does: the targets' reliability at one coefficient, and ECE over all.

    `curve` is `(A, 2)`, coefficient and ECE, fractions; `best`, which gets a star, is what validation chose.
    """
    titles = [f"targets at c = {coefficient:.2f}", f"ECE by c; the best, {best:.2f}, has a star"]
    figure, (left, right) = _panels(titles, 300, x="confidence", y="accuracy")
    _add_reliability(figure, left, found)
    _add(figure, right, go.Scatter(**_points(curve), name="", mode="lines", line=_line(BLUE)))
    for at, marker in (
        (best, _star(Look(BLACK, "", "", ""))),
        (coefficient, {"symbol": "circle", "size": 11, "color": VERMILLION}),
    ):
        ece = float(np.interp(at, curve[:, 0], curve[:, 1]))
        _add(figure, right, go.Scatter(x=[at], y=[ece], name="", mode="markers", marker=marker))
    figure.update_xaxes(title_text="coefficient c", rangemode="tozero", row=right[0], col=right[1])
    figure.update_yaxes(tickformat=PERCENT, rangemode="tozero", row=right[0], col=right[1])
    return figure.update_layout(barmode="overlay", hovermode="x")


def coefficient_search(searches: Mapping[str, Search]) -> go.Figure:
    """Figure 6 of the paper, left: validation ECE by coefficient, coarse and fine grid, one line a task."""
    figure = _coefficients("validation ECE")
    for index, (task, found) in enumerate(searches.items()):
        tried, its = np.concatenate([found.coarse, found.fine]), look(task, index)
        tried = tried[tried[:, 0].argsort(kind="stable")]
        name = f"{name_of(task)}, best c = {found.best:.2f}"
        figure.add_scatter(**_points(tried), name=name, mode="lines", line=_line(its.colour, its.dash))
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
        style = {"line": _line(its.colour, its.dash), "marker": {"symbol": its.symbol, "size": 8}}
        figure.add_scatter(**_points(points), name=name, mode="lines+markers", **style)
        best = _points(points[np.isclose(points[:, 0], known.get(task, np.nan))])
        figure.add_scatter(**best, mode="markers", marker=_star(its), showlegend=False)
    if known:
        star = _star(Look(GREY, "solid", "circle", ""))
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=star, name="chosen on validation data")
    return figure


def trust_plane(rows: Iterable[Scored]) -> go.Figure:
    """Figure 1 of the paper: accuracy against ECE, one marker a method, one panel a test set and setting.

    Along a dotted line Trust, which is accuracy - ECE, stays the same; up and to the left is better.
    """
    columns: dict[str, list[Scored]] = {}
    for row in rows:
        columns.setdefault(f"{name_of(row.dataset)}, {plain(row.setting, 20)}", []).append(row)
    figure, cells = _panels(columns, 290, x="ECE (lower is better)", y="accuracy (higher is better)", most=2)
    reach = max(row.ece for found in columns.values() for row in found) * 1.15 or 0.05
    half = max(np.ptp([row.accuracy for row in found]) for found in columns.values()) / 2 + 0.03
    for cell, found in zip(cells, columns.values(), strict=True):
        scores = [row.accuracy for row in found]
        low, high = (min(scores) + max(scores)) / 2 - half, (min(scores) + max(scores)) / 2 + half
        for trace in (*_equal_trust(low, high, reach), *_methods(found)):
            _add(figure, cell, trace)
        figure.update_yaxes(range=[low, high], row=cell[0], col=cell[1])
    figure.update_xaxes(range=[0, reach], tickformat=PERCENT, showgrid=False)
    return figure.update_yaxes(tickformat=PERCENT, showgrid=False)


def losses(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Training loss of every step, in nats, one line a model. Different losses meet only in their shape."""
    figure = _figure()
    for index, (name, values) in enumerate(curves.items()):
        its = look(name, index)
        line = {"mode": "lines", "line": _line(its.colour, its.dash, 1.5)}
        figure.add_scatter(y=_list(values), x0=1, dx=1, name=name_of(name), **line)
    figure.update_xaxes(title_text="step")
    return figure.update_yaxes(title_text="training loss (nats)", rangemode="tozero")


def before_after(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> go.Figure:
    """Accuracy and ECE before and after fine-tuning, in pairs: data set -> (accuracy, ECE), fractions."""
    figure, cells = _panels(["Accuracy", "ECE"], 270, x="", y="", most=2)
    places = list(range(len(before)))
    for part, cell in enumerate(cells):
        for when, scores, colour, hatch in (("before", before, PALE, ""), ("after", after, BLUE, "")):
            bars = _bars(places, [scores[name][part] for name in before], f"{when} fine-tuning", colour, hatch)
            _add(figure, cell, bars.update(texttemplate="%{y:.1%}"))
    figure.update_xaxes(tickvals=places, ticktext=[name_of(name) for name in before], ticks="")
    figure.update_layout(bargap=0.12)
    return figure.update_yaxes(tickformat=PERCENT, rangemode="tozero")


def case_study(models: Mapping[str, ArrayLike], choices: Sequence[str], truth: ArrayLike | None = None) -> go.Figure:
    """Compare each model's probability `(C,)` of every choice of one question, the paper's case study.

    `truth` `(C,)` is pointed at: the true distribution, or 1 / C where no choice is right. All are fractions.
    """
    rows = list(range(len(choices)))
    thick = 15 * len(models)  # pixels that a choice's bars take
    figure = _figure(height=110 + len(choices) * thick * 4 // 3)
    for index, (name, values) in enumerate(models.items()):
        its = look(name, index)
        bars = _bars(_list(values), rows, name_of(name), its.colour, its.hatch)
        figure.add_trace(bars.update(orientation="h", texttemplate="%{x:.1%}"))
    if truth is not None:
        above = [row - 0.48 for row in rows]
        figure.add_scatter(x=_list(truth), y=above, name="truth", mode="markers", **_pointer())
    figure.update_xaxes(title_text="probability", tickformat=PERCENT, range=[0, 1.07])
    figure.update_yaxes(tickvals=rows, ticktext=[plain(choice, 28) for choice in choices])
    return figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)


def top_tokens(before: ArrayLike, after: ArrayLike, labels: Sequence[str]) -> go.Figure:
    """Compare one position's top K tokens before and after recalibration; probabilities `(K,)`, fractions."""
    figure = _figure(height=320)
    places = list(range(len(labels)))
    for name, values, colour, hatch in (("teacher", before, BLACK, ""), ("recalibrated", after, BLUE, "")):
        bars = _bars(places, _list(values), name, colour, hatch)
        figure.add_trace(bars.update(texttemplate="%{y:.1%}"))
    figure.update_xaxes(tickvals=places, ticktext=[plain(label, 14) for label in labels], ticks="")
    return figure.update_yaxes(title_text="probability", tickformat=PERCENT, rangemode="tozero")


# -- what they are made of -----------------------------------------------------------------------------------


def _figure(*traces: BaseTraceType, **layout: object) -> go.Figure:
    return go.Figure(list(traces), {"template": "first", **layout})


def _panels(
    titles: Iterable[str], height: int, x: str, y: str, most: int = 3, shared_yaxes: str | bool = False
) -> tuple[go.Figure, list[tuple[int, int]]]:
    """Make a figure of one empty panel a title, rows of `height` pixels; return it with the panels' cells."""
    names = list(titles)
    columns = 2 if len(names) == 4 else min(most, len(names))
    rows = math.ceil(len(names) / columns)
    cells = [(index // columns + 1, index % columns + 1) for index in range(len(names))]
    figure = make_subplots(
        rows,
        columns,
        figure=_figure(height=rows * (height if len(names) > 1 else 330) + 60, margin={"t": 66}),
        subplot_titles=names,
        specs=[[{} if (row, column) in cells else None for column in _upto(columns)] for row in _upto(rows)],
        horizontal_spacing=0.16 / columns,
        vertical_spacing=80 / (rows * height) if rows > 1 else 0,
        shared_yaxes=shared_yaxes,
    )
    figure.update_annotations(font_size=13)
    for index, (row, column) in enumerate(cells):
        figure.update_yaxes(title_text=y if column == 1 else "", row=row, col=column)
        figure.update_xaxes(title_text=x if index + columns >= len(cells) else "", row=row, col=column)
    return figure, cells


def _add(figure: go.Figure, cell: tuple[int, int], trace: BaseTraceType) -> None:
    """Put a trace into a panel; the legend names equal series once, and switches all of them."""
    known = trace.name in {other.name for other in figure.data}
    trace.update(legendgroup=trace.name, showlegend=bool(trace.name) and not known)
    figure.add_trace(trace, row=cell[0], col=cell[1])


def _note(figure: go.Figure, cell: tuple[int, int], text: str) -> None:
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


def _bars(x: Sequence[float | None], y: Sequence[float | None], name: str, colour: str, hatch: str) -> go.Bar:
    pattern = {"shape": hatch, "fillmode": "overlay", "fgcolor": "white", "size": 5, "solidity": 0.35}
    marker = {"color": colour, "pattern": pattern, "line": {"width": 0.5, "color": GREY}}
    text = {"textposition": "outside", "textfont": {"size": 10}, "constraintext": "none", "cliponaxis": False}
    return go.Bar(x=x, y=y, name=name, marker=marker, **text)


def _band(x: Sequence[int], low: ArrayLike, high: ArrayLike, name: str, colour: str) -> tuple[go.Scatter, go.Scatter]:
    edge = {"x": x, "mode": "lines", "line": {"width": 0}, "legendgroup": name}
    lower = go.Scatter(y=_list(low), name=f"{name}, least", showlegend=False, **edge)
    return lower, go.Scatter(y=_list(high), name=name, fill="tonexty", fillcolor=colour, **edge)


def _add_reliability(figure: go.Figure, cell: tuple[int, int], found: Reliability) -> None:
    for trace in _reliability(found):
        _add(figure, cell, trace)
    _note(figure, cell, f"<b>ECE {found.ece:.1%}</b>")
    row, column = cell
    ticks = {"tickformat": PERCENT, "tickvals": FIFTHS, "tickfont": {"size": 11}, "showgrid": False}
    figure.update_xaxes(range=[0, 1], **ticks, row=row, col=column)
    ticks |= {"zeroline": True, "zerolinecolor": GREY}
    figure.update_yaxes(range=[-SHARES, 1.005], **ticks, row=row, col=column)


def _reliability(found: Reliability) -> Iterable[BaseTraceType]:
    """Make one diagram's traces: accuracy, the gaps between it and confidence, the shares, the diagonal."""
    middle, width = _list((found.edges[:-1] + found.edges[1:]) / 2), _list(np.diff(found.edges))
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
        bars = _bars(middle, _list(heights), name, colour, hatch)
        told = {"hoverinfo": "skip"} if name != "accuracy" else {"hovertext": texts, "hoverinfo": "text"}
        yield bars.update(base=None if bottom is None else _list(bottom), width=width, **told)
    yield go.Scatter(
        x=[0, 1], y=[0, 1], name="calibrated", mode="lines", line=_line(BLACK, "dash", 1), hoverinfo="skip"
    )


def _coefficients(ece: str) -> go.Figure:
    figure = _figure(margin={"t": 60})
    figure.update_xaxes(title_text="coefficient c", rangemode="tozero")
    return figure.update_yaxes(title_text=ece, tickformat=PERCENT, rangemode="tozero")


def _points(points: np.ndarray) -> dict[str, list[float | None]]:
    return {"x": _list(points[:, 0]), "y": _list(points[:, 1])}


def _coarse(its: Look) -> dict[str, Any]:
    return {"symbol": f"{its.symbol}-open", "size": 10, "color": its.colour, "line": {"width": 2}}


def _fine(its: Look) -> dict[str, Any]:
    return {"symbol": its.symbol, "size": 5, "color": its.colour}


def _star(its: Look) -> dict[str, Any]:
    return {"symbol": "star", "size": 16, "color": "white", "line": {"width": 2, "color": its.colour}}


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
        line = {"mode": "lines+text", "line": _line(GREY, "dot", 1), "hoverinfo": "skip"}
        where = "top left" if trust + reach < high else "bottom right"
        fits = ends[1] < 0.8 * reach or trust + reach < high - (high - low) / 15
        text = {"text": ["", f"Trust {trust:.0%}" if fits else ""], "textposition": where}
        font = {"size": 10, "color": GREY}
        yield go.Scatter(x=ends, y=[trust + end for end in ends], name="", textfont=font, **line, **text)


def _line(colour: str, dash: str = "solid", width: float = 2) -> dict[str, Any]:
    return {"color": colour, "dash": dash, "width": width}


def _list(values: ArrayLike) -> list[float | None]:
    """Turn numbers into plain floats, nan into None; of an array plotly writes base64 nobody can read."""
    return [None if math.isnan(value) else value for value in np.asarray(values, dtype=np.float64).tolist()]


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


def _upto(number: int) -> range:
    return range(1, number + 1)


def _size(number: float) -> str:
    """Write bytes for people.

    >>> _size(60), _size(600_000), _size(1.23e12)
    ('60 B', '600 kB', '1.23 TB')
    """
    power = min(max(math.floor(math.log10(number) / 3), 0), 5) if number > 0 else 0
    return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
