"""A page's figures: their places in the HTML, and the data from which its script draws them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

WIDE, NARROW = 3, 1  # panels in a row


@dataclass(frozen=True, eq=False)
class PageFigure:
    """A figure with its words; without `narrow`, the wide one is shown on narrow screens too."""

    title: str
    caption: str
    wide: go.Figure
    narrow: go.Figure | None = None


def in_both(title: str, caption: str, draw: Callable[[int], go.Figure], most: int = WIDE) -> PageFigure:
    """Returns a figure of panels side by side, at most so many in a row, and one below the other for narrow screens."""
    return PageFigure(title, caption, draw(most), draw(NARROW))


def figure(name: str, one: PageFigure) -> str:
    """Returns the place of a figure, into which the page's script draws it."""
    place = f'<div class="plot" id="figure-{name}"></div>'
    return f"<figure><h3>{one.title}</h3>{place}<figcaption>{one.caption}</figcaption></figure>"


def figures_json(drawn: Mapping[str, PageFigure]) -> dict[str, dict[str, object]]:
    """Returns the figures as the page's script reads them: by the id of their place."""
    return {f"figure-{name}": _both_json(one) for name, one in drawn.items()}


def _both_json(one: PageFigure) -> dict[str, object]:
    shapes = {"wide": one.wide, "narrow": one.narrow}
    return {shape: json.loads(figure.to_json()) for shape, figure in shapes.items() if figure is not None}
