"""Notebook 04 in JupyterLab: its explorer shows what `compute` returns, after every change of its controls."""

import re

import pytest

from browser.shown import SOON, WIDTHS, click_bin, nulls, redraw, run_all, texts_of
from firstlib import Experiment
from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.explorer import ExperimentSource, State, compute
from firstlib.explorer.state import LABELS, MAPS


@pytest.fixture(scope="module")
def source(experiment):
    return ExperimentSource(experiment)


def test_what_is_shown_depends_on_every_control(source):
    """Otherwise the tests below could not distinguish one state from another."""
    state = State("alpaca", coefficient=0.3)
    for name, value in (
        ("task", "csqa"), ("split", "test"), ("kind", Map.LOGIT_TEMPERATURE), ("coefficient", 0.5),
        ("reading", "vocabulary"), ("bins", 20),
    ):  # fmt: skip
        assert texts_of(compute(source, state)) != texts_of(compute(source, state.change(**{name: value}))), name
    smoothed = state.change(kind=Map.LABEL_SMOOTHING, reading="vocabulary")
    assert texts_of(compute(source, smoothed)) != texts_of(compute(source, smoothed.change(tail=Tail.GOLD)))


def check(page, source, state):
    """Waits until the page shows the numbers of a state, as text and in the figure."""
    from playwright.sync_api import expect

    view = compute(source, state)
    for name, text in texts_of(view).items():
        expect(page.locator(f"[data-measure={name}]")).to_have_text(text, timeout=SOON)
    here = {"ECE here": [[state.coefficient], [view.measures.ece]], "recalibrated": [None, view.example.after.tolist()]}
    heights = nulls(view.reliability.accuracy)
    for name, (x, y) in {**here, "accuracy": (None, heights)}.items():
        wait_until_drawn(page, name, x, y)


def wait_until_drawn(page, name, x, y):
    from playwright.sync_api import TimeoutError as TooLate

    try:
        page.wait_for_function(DRAWN, arg=[name, x, y], timeout=SOON)
    except TooLate:
        pytest.fail(f"{name} should be {x}, {y}; the figure has {page.evaluate(FOUND, name)}")


# Whether a trace of the widget's figure has these numbers; null stands for an empty bin.
DRAWN = """([name, x, y]) => {
  const plot = [...document.querySelectorAll('.js-plotly-plot')].find((one) => one.closest('.jupyter-widgets'));
  const trace = plot && plot.data.find((one) => one.name === name);
  const near = (found, wanted) => wanted === null || (found && found.length === wanted.length && wanted.every(
    (value, i) => (value === null ? found[i] === null || Number.isNaN(found[i]) : Math.abs(value - found[i]) < 1e-6)));
  return Boolean(trace) && near(trace.x && [...trace.x], x) && near(trace.y && [...trace.y], y);
}"""
# What a trace has instead, and how many figures there are.
FOUND = """(name) => {
  const plots = [...document.querySelectorAll('.js-plotly-plot')].map((one) => [
    Boolean(one.closest('.jupyter-widgets')),
    (one.data || []).filter((trace) => trace.name === name)
      .map((trace) => [trace.x && [...trace.x], trace.y && [...trace.y]]),
  ]);
  return JSON.stringify(plots);
}"""


def menu(page, name):
    label = re.compile(rf"^{LABELS.get(name, name)}$")
    return page.locator(".widget-dropdown").filter(has=page.locator("label", has_text=label)).locator("select")


def readout(page):
    return float(page.locator(".widget-hslider .widget-readout").inner_text())


def test_the_explorer_in_jupyterlab(watched, lab, source, experiment, pictures):
    page = watched(WIDTHS["wide"])
    run_all(page, lab(experiment, "04_temperature.ipynb"))
    state = State("csqa", coefficient=experiment.coefficient("csqa"))
    page.locator(".widget-hslider").scroll_into_view_if_needed()
    check(page, source, state)
    print("JupyterLab:", redraw(page, ".jupyter-widgets .js-plotly-plot", ".widget-hslider .noUi-handle"))
    state = drag_and_press(page, source, state)
    state = turn_every_menu(page, source, state)
    state = click_a_bin(page, source, state)
    page.screenshot(path=pictures / "lab-wide.png")
    page.get_by_role("button", name="Use this coefficient").click()
    page.get_by_text(f"notebook 05 distils with {state.coefficient:g}").wait_for(timeout=SOON)
    assert Experiment(experiment.preset, 0, str(experiment.folder.parents[1])).coefficient("csqa") == state.coefficient
    experiment.choose("csqa", None)  # the report's tests expect the search's coefficient
    page.keyboard.press("Control+b")  # hides the list of files, which would fill a narrow window
    page.locator("#jp-left-stack").wait_for(state="hidden", timeout=SOON)
    page.set_viewport_size({"width": WIDTHS["narrow"], "height": 1000})
    page.wait_for_timeout(500)
    page.screenshot(path=pictures / "lab-narrow.png")


def drag_and_press(page, source, state):
    """Moves the slider by mouse, and then with the arrow keys."""
    handle, rail = page.locator(".widget-hslider .noUi-handle"), page.locator(".widget-hslider .noUi-base")
    box, from_ = rail.bounding_box(), handle.bounding_box()
    height = from_["y"] + from_["height"] / 2
    page.mouse.move(from_["x"] + from_["width"] / 2, height)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], height, steps=10)
    page.mouse.up()
    dragged = readout(page)
    assert 0.5 < dragged < 0.7
    check(page, source, state.change(coefficient=dragged))
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert readout(page) == pytest.approx(dragged + 0.02)
    state = state.change(coefficient=readout(page))
    check(page, source, state)
    return state


def turn_every_menu(page, source, state):
    maps = {kind: label for label, kind in MAPS.items()}
    for name, value in (
        ("split", "test"), ("reading", "vocabulary"), ("task", "alpaca"), ("kind", Map.LABEL_SMOOTHING),
        ("tail", Tail.GOLD), ("bins", 20), ("kind", Map.LOGIT_TEMPERATURE), ("kind", Map.NONE), ("task", "csqa"),
        ("kind", Map.TEMPERATURE), ("reading", "candidates"), ("bins", 10),
    ):  # fmt: skip
        menu(page, name).select_option(label=maps.get(value, str(value)))
        state = state.change(**{name: value})
        check(page, source, state)
    return state


def click_a_bin(page, source, state):
    fullest = int(compute(source, state).reliability.count.argmax())
    click_bin(page, ".jupyter-widgets", (fullest + 0.5) / 10)
    state = state.change(bin=fullest)
    view = compute(source, state)
    page.locator(f'[data-row="{view.listed[0].row}"]').wait_for(timeout=SOON)
    rows = [int(found.get_attribute("data-row")) for found in page.locator("[data-row]").all()]
    assert rows == [one.row for one in view.listed]
    check(page, source, state)
    return state
