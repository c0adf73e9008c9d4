"""Pictures of figures, drawn by one Chrome or Chromium per session."""

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
from threading import Lock, Thread
from typing import Any, TypeVar

import plotly.graph_objects as go
from choreographer.browsers.chromium import Chromium
from kaleido import Kaleido
from PIL import Image

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)
_starting = Lock()

SCALE = 1.5  # PNG pixels per figure pixel: sharp on most screens, and still a small file
PATIENCE = 120.0  # seconds for Chrome to start, and for each picture
NO_CHROME = (
    "figures are interactive only and GitHub will not show them; for pictures install Chrome or Chromium, "
    "run `kaleido_get_chrome`, or set BROWSER_PATH to the program"
)


def start() -> None:
    """Starts Chrome in the background, for a caller that has seconds of other work before its first picture."""
    Thread(target=_session_chrome).start()  # no daemon: a process that ends early waits, and closes what it started


def picture(figure: go.Figure, kind: str) -> bytes | None:
    """Returns a figure as `png` or `svg`; None, with a warning, if there is no Chrome or it fails."""
    chrome = _session_chrome()
    if chrome is None:
        return None
    try:
        found = chrome.draw(figure, kind)
    except Exception as error:  # whatever happens in a browser, a notebook goes on without the picture
        _log.warning("no picture of this figure: Chrome failed (%s)", _reason(error))
        _chrome.cache_clear()
        return None
    return _with_fixed_ids(found) if kind == "svg" else _with_palette(found)


def find_chrome() -> str | None:
    """Returns the path of Chrome or Chromium: BROWSER_PATH, kaleido's own download, or a program on PATH."""
    found = os.environ.get("BROWSER_PATH") or Chromium.find_browser(skip_local=False)
    return str(found) if found and Path(found).is_file() else None


class _Chrome:
    """A browser that draws all figures of a session: it takes seconds to start, and 0.2 s to draw.

    `kaleido.start_sync_server` is not used because it waits forever for a browser that cannot start.
    """

    def __init__(self, path: str) -> None:
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()
        self._kaleido = self._wait(self._open(path))
        atexit.register(self.close)

    @staticmethod
    async def _open(path: str) -> Kaleido:
        browser = Kaleido(path=path, mathjax=False, timeout=PATIENCE)  # MathJax would be loaded from the network
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


def _session_chrome() -> _Chrome | None:
    with _starting:
        return _chrome(find_chrome())


@cache
def _chrome(path: str | None) -> _Chrome | None:
    """Returns the session's browser. Cached, so that a missing browser causes one warning only."""
    if path is None:
        wrong = os.environ.get("BROWSER_PATH")
        _log.warning("%s%s", f"BROWSER_PATH: {wrong} is not a file; " if wrong else "", NO_CHROME)
        return None
    try:
        return _Chrome(path)
    except Exception as error:
        _log.warning("%s does not start (%s): %s", path, _reason(error), NO_CHROME)
        return None


def _reason(error: Exception) -> str:
    r"""Returns an error's type and the first line of its message; choreographer passes each line as an argument.

    >>> _reason(ValueError("tab crashed\nstack")), _reason(RuntimeError("no display", "set DISPLAY"))
    ('ValueError: tab crashed', 'RuntimeError: no display')
    """
    message = str(error.args[0]) if str(error) == str(error.args) else str(error)
    return ": ".join([type(error).__name__, *message.strip().splitlines()[:1]])


def _with_fixed_ids(svg: bytes) -> bytes:
    """Returns an SVG whose ids depend on its content only; plotly.js draws six random hex digits."""
    drawn = re.search(rb'id="defs-([0-9a-f]{6})"', svg)
    if drawn is None:
        return svg
    ids = re.compile(rb"(?<=[a-z-])" + drawn[1])
    same = ids.sub(b"000000", svg)
    return ids.sub(hashlib.sha256(same).hexdigest()[:6].encode(), svg)


def _with_palette(png: bytes) -> bytes:
    """Returns a PNG with at most 256 colours: half the size of Chrome's, with no visible difference."""
    packed = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(256).save(packed, "png")
    return packed.getvalue()
