"""Figures in notebook cells and in files; what is written needs no network."""

import html
import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
import plotly.offline
from IPython.display import display

from firstlib.figures.chrome import picture
from firstlib.runtime.files import write_bytes, write_json

CONFIG = {"displayModeBar": False, "plotlyServerURL": ""}  # the bar would lie on the legend
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
        write_bytes(script, library)
    write_json(data, _as_json(figure))
    found = {"html": _page(figure, name), "png": png, "svg": picture(figure, "svg")}
    return [data, *(write_bytes(to / f"{name}.{kind}", content) for kind, content in found.items() if content)]


def _as_json(figure: go.Figure) -> dict[str, Any]:
    return json.loads(figure.to_json())


def _pixels(figure: go.Figure, side: str) -> int:
    return int(figure.layout[side] or figure.layout.template.layout[side])


def _page(figure: go.Figure, name: str) -> bytes:
    title = html.escape(name)
    inner = figure.to_html(config=CONFIG, include_plotlyjs="directory", full_html=False, div_id=title)
    return PAGE.format(title=title, figure=inner).encode()
