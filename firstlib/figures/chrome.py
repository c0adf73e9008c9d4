"""Pictures of figures, drawn by one Chrome or Chromium for a whole session."""

import asyncio
import atexit
import hashlib
import logging
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import plotly.graph_objects as go
from choreographer.browsers.chromium import Chromium
from kaleido import Kaleido
from PIL import Image

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


SCALE = 1.5  # pixels of a PNG to one of the figure: sharp on most screens, and still small
PATIENCE = 60.0  # seconds for Chrome to start, and for one picture
NO_CHROME = (
    "figures are interactive only and GitHub will not show them; for pictures install Chrome or Chromium, "
    "run `kaleido_get_chrome`, or set BROWSER_PATH to where one is"
)


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
