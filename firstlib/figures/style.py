"""The shared look of all figures: a template, a look for each series, and text from data shown as plain text."""

import html
import sys
from collections.abc import Iterable
from typing import NamedTuple

import plotly.graph_objects as go
import plotly.io

from firstlib.runtime.hashing import number_from

# Drawing imports nbformat, that jsonschema, and that builds 38 grammars for two seconds, to check what no notebook has:
# internationalised addresses. jsonschema does without, if this package is absent (python-jsonschema/jsonschema#1428).
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# The colours of Okabe and Ito, which remain distinct for colour-blind readers.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#767676", "#CBD5E1"


class Look(NamedTuple):
    """What distinguishes one series from another: colour, and without colour dash, marker symbol and hatching."""

    colour: str
    dash: str
    symbol: str
    hatch: str


LOOKS = {  # of the paper's methods
    "teacher": Look(BLACK, "10px,2px", "circle", ""),
    "fine-tune": Look(VERMILLION, "dash", "square", "/"),
    "distill": Look(ORANGE, "dot", "triangle-up", "."),
    "label-smoothing": Look(SKY, "dashdot", "diamond", "x"),
    "first": Look(BLUE, "solid", "cross", "-"),
}
_DATA_SETS = {
    "csqa": Look(BLUE, "solid", "circle", ""),
    "boolq": Look(VERMILLION, "dash", "square", "/"),
    "alpaca": Look(GREEN, "dot", "diamond", "."),
    "obqa": Look(PURPLE, "dashdot", "triangle-up", "x"),
}
# Every other name gets one of these. None shares its colour, dash or symbol with another or with the paper's methods;
# where two share a hatching, one colour is darker than the other.
OTHERS = (
    Look(GREEN, "longdash", "triangle-down", "\\"),
    Look(PURPLE, "longdashdot", "pentagon", "|"),
    Look("#332288", "2px,2px", "x", "+"),
    Look("#44AA99", "12px,3px", "hourglass", ""),
    Look("#882255", "8px,3px,2px,3px,2px,3px", "triangle-left", "/"),
    Look("#999933", "4px,6px", "hexagram", "-"),
    Look("#CC6677", "6px,2px", "bowtie", "+"),
    Look("#8A5A00", "14px,4px,4px,4px", "triangle-right", "x"),
    Look("#117733", "1px,5px", "diamond-tall", "|"),
    Look("#AA4499", "10px,3px,4px,3px", "octagon", "."),
    Look(GREY, "16px,3px,1px,3px", "star-triangle-up", "x"),
    Look("#44617B", "5px,2px,1px,2px", "diamond-wide", "/"),
)
_NAMES = {
    "base student": "Base student",
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
_LONGEST = 40  # characters; the settings allow no longer name for a method

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
        "width": 700,  # pixels: the width of a notebook's column
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


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Returns the looks of one figure's series, in the order of their names.

    The paper's methods and its data sets have fixed looks. Every other look follows from the name, so that a method
    looks the same in all figures; if another name of the figure has the same look, the later one in alphabetical
    order takes the next free look.

    >>> found = looks(["first", "mine"])
    >>> found["first"] == LOOKS["first"], found["mine"] == looks(["mine", "teacher"])["mine"]
    (True, True)
    """
    wanted = list(dict.fromkeys(names))
    fixed = LOOKS | _DATA_SETS
    found = {name: fixed[name] for name in wanted if name in fixed}
    for name in sorted(set(wanted) - fixed.keys()):
        first = number_from(name) % len(OTHERS)
        candidates = OTHERS[first:] + OTHERS[:first]
        taken = set(found.values())
        found[name] = next((one for one in candidates if one not in taken), candidates[0])
    return {name: found[name] for name in wanted}


def name_of(key: str, longest: int = _LONGEST) -> str:
    """Returns the label of a method or a data set; any other key is its own label, as plain text."""
    return _NAMES.get(key) or plain(key, longest)


def plain(text: str, longest: int) -> str:
    """Returns text in which plotly shows every character; it would read `<b>`, `&lt;` and `<a href>` as markup.

    >>> plain("<b>bold</b> & more", 11)
    '&lt;b&gt;bold&lt;/b…'
    """
    line = " ".join(text.split()) or "␣"
    return html.escape(line if len(line) <= longest else line[: longest - 1] + "…", quote=False)
