"""How figures look, and how they get out: into a notebook's cell and into files.

One template and one look a method; text that comes from data is shown as it is, never read as markup. What is
shown stays readable where no JavaScript runs (GitHub, nbviewer); what is written needs no network.
"""

import asyncio
import atexit
import hashlib
import html
import json
import logging
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import plotly.graph_objects as go
import plotly.io
import plotly.offline
from choreographer.browsers.chromium import Chromium
from IPython.display import display
from kaleido import Kaleido
from PIL import Image

from firstlib.artefacts import write_json

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)

# -- how they look -----------------------------------------------------------------------------------------

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


# -- how they get out --------------------------------------------------------------------------------------

SCALE = 1.5  # pixels of a PNG to one of the figure: sharp on most screens, and still small
PATIENCE = 60.0  # seconds for Chrome to start, and for one picture
CONFIG = {"displayModeBar": False, "plotlyServerURL": ""}  # the bar would lie on the legend
NO_CHROME = (
    "figures are interactive only and GitHub will not show them; for pictures install Chrome or Chromium, "
    "run `kaleido_get_chrome`, or set BROWSER_PATH to where one is"
)
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
{figure}
</body>
</html>
"""


def show(figure: go.Figure, name: str = "figure", folder: str | Path | None = None) -> None:
    """Show a figure as a notebook cell's output: interactive, and as a picture for GitHub and nbviewer.

    The picture, a PNG of some 30 kB, needs a Chrome or Chromium; without one a line says so, once. With a
    folder the figure is also written there under its name, as `write` does.
    """
    bundle: dict[str, Any] = {
        "application/vnd.plotly.v1+json": {**_as_json(figure), "config": CONFIG},
        "text/plain": f"<{name}>",
    }
    metadata = {}
    if png := picture(figure, "png"):  # a second's work, so it is drawn once
        bundle["image/png"] = png
        metadata["image/png"] = {side: _pixels(figure, side) for side in ("width", "height")}
    display(bundle, raw=True, metadata=metadata)
    if folder is not None:
        _write(figure, folder, name, png)


def write(figure: go.Figure, folder: str | Path, name: str) -> list[Path]:
    """Write a figure as `name.json`, `name.html` and, where there is a Chrome, `name.png` and `name.svg`.

    The JSON is the figure with its numbers, for `plotly.io.read_json`. The pages of a folder share one
    `plotly.min.js` and load nothing from elsewhere. Equal figures give equal bytes; pictures only where fonts
    and Chrome are the same. Returns the figure's own files.
    """
    return _write(figure, folder, name, picture(figure, "png"))


def _write(figure: go.Figure, folder: str | Path, name: str, png: bytes | None) -> list[Path]:
    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    script, data = to / "plotly.min.js", to / f"{name}.json"
    library = plotly.offline.get_plotlyjs().encode()
    if not script.is_file() or script.stat().st_size != len(library):
        _put(script, library)
    write_json(data, _as_json(figure))
    found = {"html": _page(figure, name), "png": png, "svg": picture(figure, "svg")}
    return [data, *(_put(to / f"{name}.{kind}", content) for kind, content in found.items() if content)]


def picture(figure: go.Figure, kind: str) -> bytes | None:
    """Draw a figure as `png` or `svg`; None where no Chrome is found, or where it fails."""
    chrome = _chrome(find_chrome())
    if chrome is None:
        return None
    try:
        found = chrome.draw(figure, kind)
    except Exception as error:  # whatever a browser does, a notebook goes on without its picture
        _log.warning("no picture of this figure, Chrome failed: %s %s", type(error).__name__, error)
        _chrome.cache_clear()
        return None
    return _with_fixed_ids(found) if kind == "svg" else _with_palette(found)


def find_chrome() -> str | None:
    """Return the path of a Chrome or Chromium: BROWSER_PATH, kaleido's own download, or one on PATH."""
    found = os.environ.get("BROWSER_PATH") or Chromium.find_browser(skip_local=False)
    return str(found) if found and Path(found).is_file() else None


class _Chrome:
    """One browser for all figures of a session, for it takes seconds to start and a fifth of one to draw.

    Not `kaleido.start_sync_server`, which waits for ever for a browser that could not start.
    """

    def __init__(self, path: str) -> None:
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()
        self._kaleido = self._wait(self._open(path))
        atexit.register(self.close)

    @staticmethod
    async def _open(path: str) -> Kaleido:
        browser = Kaleido(path=path, mathjax=False, timeout=PATIENCE)  # MathJax would come from the network
        await browser.open()
        return browser

    def draw(self, figure: go.Figure, kind: str) -> bytes:
        options = {"format": kind, "scale": SCALE if kind == "png" else 1}
        return self._wait(self._kaleido.calc_fig(figure, opts=options))

    def close(self) -> None:
        with suppress(Exception):
            self._wait(self._kaleido.close())

    def _wait(self, task: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(PATIENCE)


@cache
def _chrome(path: str | None) -> _Chrome | None:
    if path is None:
        _log.warning(NO_CHROME)
        return None
    try:
        return _Chrome(path)
    except Exception:
        _log.warning("%s does not start: %s", path, NO_CHROME)
        return None


def _as_json(figure: go.Figure) -> dict[str, Any]:
    return json.loads(figure.to_json())


def _pixels(figure: go.Figure, side: str) -> int:
    return int(figure.layout[side] or figure.layout.template.layout[side])


def _page(figure: go.Figure, name: str) -> bytes:
    title = html.escape(name)
    inner = figure.to_html(config=CONFIG, include_plotlyjs="directory", full_html=False, div_id=title)
    return PAGE.format(title=title, figure=inner).encode()


def _with_fixed_ids(svg: bytes) -> bytes:
    """Give an SVG ids that follow from its content, for plotly.js draws six hex digits by chance."""
    drawn = re.search(rb'id="defs-([0-9a-f]{6})"', svg)
    if drawn is None:
        return svg
    ids = re.compile(rb"(?<=[a-z-])" + drawn[1])
    same = ids.sub(b"000000", svg)
    return ids.sub(hashlib.sha256(same).hexdigest()[:6].encode(), svg)


def _with_palette(png: bytes) -> bytes:
    """Write a PNG again with 256 colours at most: less than half of Chrome's size, and no eye sees it."""
    packed = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(256).save(packed, "png")
    return packed.getvalue()


def _put(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path
