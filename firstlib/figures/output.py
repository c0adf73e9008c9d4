"""Figures in notebook cells and in files; the files need no network."""

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

CONFIG = {"displayModeBar": False, "responsive": True}  # the mode bar would cover the legend
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
{figure}
</body>
</html>
"""


def show(figure: go.Figure, name: str = "figure", folder: str | Path | None = None) -> None:
    """Shows a figure in a notebook cell: interactive, and as a picture for GitHub and nbviewer.

    The picture, a PNG of about 30 kB, needs Chrome or Chromium; without one, a warning says so once.

    Args:
        figure: Any plotly figure.
        name: What the text output, and the files, are called.
        folder: Where to write the figure too, as `write` does.
    """
    bundle: dict[str, Any] = {
        "application/vnd.plotly.v1+json": {**_as_json(figure), "config": CONFIG},
        "text/plain": f"<{name}>",
    }
    metadata = {}
    if png := picture(figure, "png"):  # takes about a second, so the same one goes to the folder
        bundle["image/png"] = png
        metadata["image/png"] = {side: _pixels(figure, side) for side in ("width", "height")}
    display(bundle, raw=True, metadata=metadata)
    if folder is not None:
        _write(figure, folder, name, png)


def write(figure: go.Figure, folder: str | Path, name: str) -> list[Path]:
    """Writes a figure as `name.json`, `name.html` and, if Chrome is available, `name.png` and `name.svg`.

    The JSON holds the figure with its numbers, for `plotly.io.read_json`. The pages in a folder share one
    `plotly.min.js` and load nothing from the network. Equal figures give equal bytes; pictures also depend on Chrome
    and the fonts. Returns the paths of the figure's own files.
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
    inner = figure.to_html(config={**CONFIG}, include_plotlyjs="directory", full_html=False, div_id=title)
    return PAGE.format(title=title, figure=inner).encode()
