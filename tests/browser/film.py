"""Records the README's animation of a report's slider, moved from end to end and back.

This is not a test: `make film` runs it on a finished run's report.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from browser.conftest import chromium_path

REPORT = "runs/microworld/seed-0/report.html"
FILM = "figures/explorer.webp"
LENGTH = 150  # milliseconds per picture
HELD = 1200  # milliseconds for the first picture
STOPS = 16  # positions of the slider, from one end to the other
MARGIN = 12  # pixels above the slider
MOST = 700_000  # bytes
WINDOW = {"width": 940, "height": 3000}  # high enough that the page does not scroll


def main(report: str = REPORT, film: str = FILM) -> None:
    """Records the report and writes the animation."""
    if not Path(report).is_file():
        raise SystemExit(f"{report} is missing; `make run` writes it, or name another: make film REPORT=...")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        pictures = record(chromium.new_page(viewport=WINDOW), Path(report).resolve().as_uri())
        chromium.close()
    lengths = [HELD] + [LENGTH] * (len(pictures) - 1)
    pictures[0].save(film, save_all=True, append_images=pictures[1:], duration=lengths, loop=0, quality=50, method=4)
    size = Path(film).stat().st_size
    print(f"{film}: {len(pictures)} pictures, {size / 1000:.0f} kB")
    if size > MOST:
        raise SystemExit(f"{film} exceeds {MOST / 1000:.0f} kB: lower STOPS")


def record(page: Page, address: str) -> list[Image.Image]:
    """Returns pictures of slider and figure: from the opening position to the right end, to the left end, and back."""
    page.goto(address)
    page.wait_for_selector("html[data-ready=true]")
    last = page.evaluate("explorer.places().length - 1")
    start = page.evaluate("explorer.place()")
    step = max(1, last // STOPS)
    way = [*range(start, last + 1, step), *range(last, -1, -step), *range(0, start, step)]
    return [picture(page, place) for place in way]


def picture(page: Page, place: int) -> Image.Image:
    """Returns a picture of slider and figure with the slider at a position."""
    page.locator("#coefficient").fill(str(place))
    page.locator("#coefficient").blur()
    top, bottom = (page.locator(name).bounding_box() for name in ("#value", "#view"))
    first, end = top["y"] - MARGIN, bottom["y"] + bottom["height"]
    clip = {"x": 0, "y": first, "width": WINDOW["width"], "height": end - first}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


if __name__ == "__main__":
    main(*sys.argv[1:])
