"""How figures look: one template, one look a method, and text from data shown as plain text."""

import html
from typing import NamedTuple

import plotly.graph_objects as go
import plotly.io

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#767676", "#CBD5E1"


class Look(NamedTuple):
    """What tells one series from the others: by colour, and in grey by dash, marker and hatching."""

    colour: str
    dash: str
    symbol: str
    hatch: str


LOOKS = {
    "teacher": Look(BLACK, "10px,2px", "circle", ""),
    "fine-tune": Look(VERMILLION, "dash", "square", "/"),
    "distill": Look(ORANGE, "dot", "triangle-up", "."),
    "label-smoothing": Look(SKY, "dashdot", "diamond", "x"),
    "first": Look(BLUE, "solid", "cross", "-"),
}
_OTHERS = (
    Look(BLUE, "solid", "circle", ""),
    Look(VERMILLION, "dash", "square", "/"),
    Look(GREEN, "dot", "diamond", "."),
    Look(PURPLE, "dashdot", "triangle-up", "x"),
)
_NAMES = {
    "teacher": "Teacher",
    "fine-tune": "Fine-tune",
    "distill": "Distil",
    "label-smoothing": "Label smoothing",
    "first": "FIRST",
    "csqa": "CSQA",
    "boolq": "BoolQ",
    "obqa": "OBQA",
    "alpaca": "Alpaca",
}

_AXIS = {
    "gridcolor": "#E5E5E5",
    "linecolor": GREY,
    "showline": True,
    "ticks": "outside",
    "tickcolor": GREY,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}
_FONT = {"family": "Helvetica Neue, Arial, Liberation Sans, sans-serif", "size": 13, "color": "#222222"}
_TOP_LEFT = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"}
plotly.io.templates["first"] = go.layout.Template(
    layout={
        "width": 700,  # of a notebook's column
        "height": 360,
        "font": _FONT,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 56, "r": 16, "t": 44, "b": 48},
        "legend": {"orientation": "h", **_TOP_LEFT},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "bargap": 0.25,
    }
)


def look(key: str, index: int) -> Look:
    """Return a method's own look; for anything else that of its place in the figure."""
    return LOOKS.get(key) or _OTHERS[index % len(_OTHERS)]


def name_of(key: str, longest: int = 30) -> str:
    """Name a method or a data set as figures do; anything else is called what it is, in plain text."""
    return _NAMES.get(key) or plain(key, longest)


def plain(text: str, longest: int) -> str:
    """Make plotly show a text's characters: it would read `<b>`, `&lt;` and `<a href>` as markup.

    >>> plain("<b>bold</b> & more", 11)
    '&lt;b&gt;bold&lt;/b…'
    """
    line = " ".join(text.split()) or "␣"
    return html.escape(line if len(line) <= longest else line[: longest - 1] + "…", quote=False)
