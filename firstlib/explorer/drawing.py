"""A view as a figure, in a layout for a notebook's column and one for a phone.

`traces` gives every trace a fixed look, and `numbers` gives its numbers in the same order. The widget and the report's
page write new numbers into an existing figure.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from firstlib.distillation.recalibration import Map
from firstlib.explorer.view import View
from firstlib.figures import SHARES, parts
from firstlib.figures.style import BLACK, BLUE, GREY, ORANGE, PALE, SKY, VERMILLION, Look, plain

NAMES = {"ece": "ECE", "smooth_ece": "smooth ECE", "nll": "NLL", "brier": "Brier", "trust": "Trust"}
SYMBOLS = {Map.TEMPERATURE: "c", Map.LOGIT_TEMPERATURE: "T", Map.LABEL_SMOOTHING: "d", Map.NONE: "1"}
STRIPS = (("ece", "smooth_ece"), ("nll",), ("brier",), ("trust",))
LOOKS = {"smooth_ece": Look(VERMILLION, "dash", "square", "")}
OWN_LOOK = Look(BLUE, "solid", "circle", "")
CLICKED = "bin"  # the trace that takes clicks: it covers the whole height of each bin
SHARE, BROWN = "#BDBDBD", "#8A5A00"  # text in orange would be hard to read, so it is brown
FREE, CHOSEN = "rgba(0,0,0,0)", "rgba(0,0,0,0.12)"
TWO_COLUMNS = {"entrywidth": 0.45, "entrywidthmode": "fraction"}


class Shape(NamedTuple):
    """Where the panels are, and how large the figure is.

    Attributes:
        height: Pixels.
        top: Pixels above the panels, for the legend.
        panels: Left, right, bottom and top of the diagram, of the tokens and of each strip, as fractions of the figure.
    """

    height: int
    top: int
    legend: dict[str, Any]
    panels: tuple[tuple[float, float, float, float], ...]


WIDE = Shape(
    706, 60, {},
    (
        (0, 0.47, 0.44, 0.965), (0, 0.47, 0, 0.275),
        (0.6, 1, 0.785, 0.965), (0.6, 1, 0.523, 0.703), (0.6, 1, 0.262, 0.442), (0.6, 1, 0, 0.18),
    ),
)  # fmt: skip
NARROW = Shape(
    1348, 88, TWO_COLUMNS,
    (
        (0, 1, 0.73, 0.98), (0, 1, 0, 0.115),
        (0, 1, 0.575, 0.665), (0, 1, 0.45, 0.53), (0, 1, 0.325, 0.405), (0, 1, 0.2, 0.28),
    ),
)  # fmt: skip


def draw(view: View, shape: Shape = WIDE) -> go.Figure:
    """Returns the whole view as a figure."""
    made = [trace.update(change) for trace, change in zip(traces(), numbers(view), strict=True)]
    figure = parts.blank(*made).update_layout(layout(view, shape))
    for axis in (figure.layout.template.layout.xaxis, figure.layout.template.layout.yaxis):
        axis.title.standoff = None  # plotly.js logs an error if it has to compute it while the figure is hidden
    return figure


def traces() -> Iterator[BaseTraceType]:
    """Yields every trace with its look, without numbers."""
    first = {"xaxis": "x", "yaxis": "y", "hoverinfo": "skip"}
    for name, colour, hatch in (
        ("accuracy", PALE, ""),
        ("over-confident", VERMILLION, "/"),
        ("under-confident", BLUE, "x"),
        ("answers", SHARE, ""),
    ):
        counts = {"textposition": "inside", "insidetextanchor": "end", "textfont": {"size": 9, "color": BLACK}}
        yield parts.bars([], [], name, colour, hatch).update(showlegend=name != "answers", **counts, **first)
    diagonal = {"mode": "lines", "line": parts.line(BLACK, "dash", 1), "showlegend": False}
    yield go.Scatter(name="calibrated", **diagonal, **first)
    ends = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": BLACK}
    yield go.Scatter(name="95 % interval", mode="markers", marker={"size": 4, "color": BLACK}, error_y=ends, **first)
    clicked = {"marker": {"color": FREE, "line": {"width": 0}}, "hoverinfo": "text", "showlegend": False}
    yield go.Bar(name=CLICKED, **{**first, **clicked})
    for name, colour in (("stored", GREY), ("recalibrated", ORANGE)):
        bars = parts.bars([], [], name, colour, "" if name == "stored" else "/")
        bars.update(width=0.4, textfont_size=9)
        yield bars.update(xaxis="x2", yaxis="y2", showlegend=False, texttemplate="%{y:.1%}", hoverinfo="skip")
    yield from _strip_traces()


def _strip_traces() -> Iterator[BaseTraceType]:
    for place, names in enumerate(STRIPS, 3):
        unit = ".2%" if names[0] in ("ece", "trust") else ".4f"
        common = {"xaxis": f"x{place}", "yaxis": f"y{place}", "hovertemplate": f"%{{x:.2f}}: %{{y:{unit}}}"}
        if names[0] == "ece":
            yield from _beside_ece(common)
        for name in names:
            yield from _curve(name, {**common, "showlegend": False})


def _beside_ece(common: dict[str, Any]) -> Iterator[go.Scatter]:
    chance = {"fill": "tozeroy", "fillcolor": "rgba(118,118,118,0.25)", "line": parts.line(GREY, "dot", 1)}
    yield go.Scatter(name="ECE by chance", mode="lines", **chance, **common)
    yield go.Scatter(name="ECE, other split", mode="lines", line=parts.line(SKY, "dashdot", 1.5), **common)


def _curve(name: str, common: dict[str, Any]) -> Iterator[go.Scatter]:
    its = LOOKS.get(name, OWN_LOOK)
    star = {"symbol": "star", "size": 13, "color": "white", "line": {"width": 1.5, "color": its.colour}}
    yield go.Scatter(name=NAMES[name], mode="lines", line=parts.line(its.colour, its.dash), **common)
    yield go.Scatter(name=f"best {NAMES[name]}", mode="markers", marker=star, **common)
    here = {"symbol": its.symbol, "size": 8, "color": BLACK}
    yield go.Scatter(name=f"{NAMES[name]} here", mode="markers", marker=here, **common)


def numbers(view: View) -> list[dict[str, Any]]:
    """Returns every trace's numbers, in the order of `traces`."""
    return [*_diagram(view), *_tokens(view), *_strips(view)]


def _diagram(view: View) -> Iterator[dict[str, Any]]:
    found = view.reliability
    middle, width = parts.numbers((found.edges[:-1] + found.edges[1:]) / 2), parts.numbers(np.diff(found.edges))
    at = {"x": middle, "width": width}
    yield {**at, "y": parts.numbers(found.accuracy)}
    yield {**at, "y": parts.numbers(found.over_confidence), "base": parts.numbers(found.accuracy)}
    yield {**at, "y": parts.numbers(found.under_confidence), "base": parts.numbers(found.confidence)}
    counts = [str(count) if count else "" for count in found.count.tolist()]
    # Dividing first makes the largest exactly 1: plotly hides the count of a bar that ends outside its axis.
    shares = parts.numbers(-SHARES * (found.weight / found.weight.max()))
    yield {**at, "y": shares, "text": counts, "textangle": 0 if len(middle) <= 10 else -90}
    yield {"x": [0, 1], "y": [0, 1]}
    filled = np.where(found.count > 0, found.accuracy, np.nan)
    error = {"array": parts.numbers(view.high - filled), "arrayminus": parts.numbers(filled - view.low)}
    yield {"x": middle, "y": parts.numbers(filled), "error_y": error}
    colours = [CHOSEN if number == view.state.bin else FREE for number in range(len(middle))]
    whole = {"y": [1 + SHARES] * len(middle), "base": [-SHARES] * len(middle)}
    yield {**at, **whole, "hovertext": bin_texts(view), "marker": {"color": colours}}


def bin_texts(view: View) -> list[str]:
    """Returns the hover text of each bin."""
    found = view.reliability
    rows = zip(found.count, found.accuracy, view.low, view.high, found.confidence, strict=True)
    return [
        f"{count} answers<br>right {accuracy:.1%} (95 %: {low:.1%} to {high:.1%})<br>confidence {confidence:.1%}"
        if count
        else "no answers"
        for count, accuracy, low, high, confidence in rows
    ]


def _tokens(view: View) -> Iterator[dict[str, Any]]:
    for values, aside in ((view.example.before, -0.2), (view.example.after, 0.2)):
        yield {"x": [place + aside for place in range(len(values))], "y": parts.numbers(values)}


def _strips(view: View) -> Iterator[dict[str, Any]]:
    curves, state = view.curves, view.state
    x = parts.numbers(curves.coefficients)
    for names in STRIPS:
        if names[0] == "ece":
            yield {"x": x, "y": parts.numbers(curves.floor)}
            yield {"x": x, "y": parts.numbers(view.other)}
        for name in names:
            yield {"x": x, "y": parts.numbers(getattr(curves, name))}
            best = curves.best(name)
            yield {"x": parts.numbers([best]), "y": parts.numbers([curves.at(name, best)])}
            yield {"x": [state.coefficient], "y": parts.numbers([getattr(view.measures, name)])}


def titles(view: View) -> list[str]:
    """Returns the titles of the panels: the diagram, the tokens, each strip."""
    symbol, curves = SYMBOLS[view.state.kind], view.curves
    places = {name: curves.best(name) for names in STRIPS for name in names}
    texts = {name: f"{place:.2f}" if np.isfinite(place) else "none" for name, place in places.items()}
    best = {name: f"{NAMES[name]}: best {symbol} = {place}" for name, place in texts.items()}
    ece = f"{coloured(best['ece'], BLUE)}, {coloured('smooth ' + texts['smooth_ece'], VERMILLION)}"
    return [
        f"{view.state.split} answers by confidence",
        f"{coloured('stored', GREY)} and {coloured('recalibrated', BROWN)}: {plain(view.example.name, 24)}",
        *(ece if names[0] == "ece" else best[names[0]] for names in STRIPS),
    ]


def coloured(text: str, colour: str) -> str:
    """Returns text in a trace's colour, so that the trace needs no legend."""
    return f'<span style="color:{colour}"><b>{text}</b></span>'


def token_names(view: View) -> list[str]:
    """Returns the stored tokens as tick labels."""
    return [plain(token, 12) for token in view.example.tokens]


def layout(view: View, shape: Shape) -> dict[str, Any]:
    """Returns the figure's layout: axes, titles and size."""
    made: dict[str, Any] = {
        "height": shape.height, "barmode": "overlay", "bargap": 0, "hovermode": "closest",
        "margin": {"l": 52, "r": 16, "t": shape.top, "b": 46}, "clickmode": "event", "dragmode": False,
        "legend": {"font": {"size": 12}, **shape.legend},
    }  # fmt: skip
    for place, (left, right, bottom, top) in enumerate(shape.panels, 1):
        number = "" if place == 1 else str(place)
        fixed = {"fixedrange": True, "automargin": False}  # automatic margins would draw everything twice
        made[f"xaxis{number}"] = {"domain": [left, right], "anchor": f"y{number}", **fixed}
        made[f"yaxis{number}"] = {"domain": [bottom, top], "anchor": f"x{number}", **fixed}
    _style_axes(made, view)
    made["yaxis4"]["range"] = nll_range(view)
    corners = zip(titles(view), shape.panels, strict=True)
    made["annotations"] = [
        {"text": text, "x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
         "showarrow": False, "font": {"size": 12}}
        for text, (left, _, _, top) in corners
    ]  # fmt: skip
    return made


def nll_range(view: View) -> list[float] | None:
    """Returns the range of the NLL axis; None if there is no NLL.

    It covers the neighbourhood of the optimum, because NLL is very large at small coefficients.
    """
    least, here = float(np.nanmin([*view.curves.nll, np.inf])), view.measures.nll
    if not np.isfinite(least):
        return None
    return [0.9 * least, max(min(2 * least, float(np.nanmax(view.curves.nll))), here) * 1.05]


def _style_axes(made: dict[str, Any], view: View) -> None:
    ticks = {"tickformat": parts.PERCENT, "tickvals": parts.FIFTHS, "tickfont": {"size": 11}, "showgrid": False}
    made["xaxis"] |= {"range": [0, 1], "title": {"text": "confidence"}, **ticks}
    made["yaxis"] |= {"range": [-SHARES, 1.005], "title": {"text": "accuracy"}, "zeroline": True, **ticks}
    made["xaxis2"] |= {"tickvals": list(range(len(view.example.tokens))), "ticktext": token_names(view), "ticks": ""}
    made["yaxis2"] |= {"range": [0, 1.12], "tickformat": parts.PERCENT, "title": {"text": "probability"}}
    for place, names in enumerate(STRIPS, 3):
        percent = names[0] in ("ece", "trust")
        unit = {"ece": "ECE", "nll": "NLL (nats)", "brier": "Brier", "trust": "Trust"}[names[0]]
        made[f"yaxis{place}"] |= {"nticks": 4, "tickfont": {"size": 11}, "title": {"text": unit, "font": {"size": 12}}}
        made[f"yaxis{place}"] |= {"tickformat": parts.PERCENT if percent else ".3~f"}
        made[f"yaxis{place}"] |= {"rangemode": "tozero"} if names[0] == "ece" else {}
        made[f"xaxis{place}"] |= {"tickfont": {"size": 11}, "rangemode": "tozero"}
    made["xaxis6"] |= {"title": {"text": "coefficient"}}
