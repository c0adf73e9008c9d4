"""What every page of this library is made of: one file with style, scripts, plotly and packed data."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import plotly.offline


def packed(data: Any) -> str:
    """Returns JSON as gzip in base64, a quarter of its size and safe inside HTML; equal data give equal text."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def filled(page: str, content: Mapping[str, str], scripts: Sequence[str]) -> str:
    """Returns one of this package's pages with every `{{name}}` replaced, and with its style, scripts and plotly.

    Braces inside the contents stay as they are.
    """
    own = {"style": part("style.css"), "script": "\n".join(map(part, scripts)), "plotly": plotly.offline.get_plotlyjs()}
    parts = {**content, **own}
    pieces = "".join(map(part, ("head.html", page, "foot.html"))).split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def part(name: str) -> str:
    """Returns one of this package's files: a page, a style sheet, a script or a piece of HTML."""
    return files("firstlib.results.pages").joinpath(name).read_text(encoding="utf-8")
