"""`make app` serves notebook 04 without its code, on this machine only."""

import shlex
import subprocess
import sys

import pytest

from browser.conftest import copy_notebook, served
from browser.shown import PATIENCE, SOON, WIDTHS, texts_of
from firstlib.explorer import ExperimentSource, State, compute
from firstlib.runtime.paths import PROJECT


@pytest.fixture(scope="module")
def app(experiment, tmp_path_factory):
    """Serves a copy of the notebook for the small run as `make app` does; gives its address."""
    pytest.importorskip("voila", reason="voila is not installed: pip install -e .[app]")
    root = tmp_path_factory.mktemp("app")
    copy_notebook(experiment, root / "04_temperature.ipynb")
    environment, options = made_by_make()
    command = [sys.executable, "-m", "voila", str(root / "04_temperature.ipynb"), *options, "--no-browser"]
    with served(command, environment, root / "app.log") as server:
        yield server


def made_by_make():
    """Returns the environment and the options of the command that `make app` runs."""
    command = ["make", "--no-print-directory", "-n", "app"]  # make prints its folder if make runs this test
    output = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(output.replace("\\\n", " ").splitlines()[-1])
    at = words.index("notebooks/04_temperature.ipynb")
    return dict(word.split("=", 1) for word in words[: at - 1]), words[at + 1 :]


def test_the_app_is_served_on_this_machine_only():
    _, options = made_by_make()
    assert "--Voila.ip=127.0.0.1" in options


def test_the_app_follows_its_slider_and_shows_no_code(watched, app, experiment, pictures):
    from playwright.sync_api import expect

    page = watched(WIDTHS["wide"])  # fails at the end if the page contacted another host
    page.goto(app, timeout=PATIENCE, wait_until="commit")  # the notebook runs while the page loads
    measures = page.locator("[data-measure=ece]")
    measures.wait_for(timeout=PATIENCE)
    source, start = ExperimentSource(experiment), experiment.coefficient("csqa")
    expect(measures).to_have_text(texts_of(compute(source, State("csqa", coefficient=start)))["ece"], timeout=SOON)
    page.locator("#rendered_cells").wait_for(timeout=PATIENCE)  # hidden until every cell has run
    handle = page.locator(".widget-hslider .noUi-handle")
    step = -0.02 if start > 0.9 else 0.02
    for _ in range(3):
        handle.press("ArrowRight" if step > 0 else "ArrowLeft")
    state = State("csqa", coefficient=round(start + 3 * step, 10))
    assert texts_of(compute(source, state))["ece"] != texts_of(compute(source, state.change(coefficient=start)))["ece"]
    for name, text in texts_of(compute(source, state)).items():
        expect(page.locator(f"[data-measure={name}]")).to_have_text(text, timeout=SOON)
    assert page.locator(".jupyter-widgets .js-plotly-plot").count() == 1
    assert page.locator(".jp-CodeCell .jp-InputArea").count() == 0
    assert "TemperatureExplorer(" not in page.locator("body").inner_text()
    page.locator(".widget-hslider").evaluate("one => one.scrollIntoView()")
    page.screenshot(path=pictures / "app-wide.png")
