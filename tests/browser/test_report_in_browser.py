"""The report, opened from disk without a network: its explorer shows the numbers of `compute`."""

import pytest

from browser.shown import WIDTHS, click_bin, nulls, redraw, texts_of
from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.explorer import ExperimentSource, State, compute, positions
from firstlib.explorer.measures import MEASURES
from firstlib.results.report.findings import collect
from firstlib.results.report.page import whole


@pytest.fixture
def opened(watched, experiment):
    def open_report(width=WIDTHS["wide"], **options):
        page = watched(width, offline=True, **options)
        page.goto((experiment.folder / "report.html").as_uri())
        page.wait_for_selector("html[data-ready=true]")
        return page

    return open_report


@pytest.fixture(scope="module")
def source(experiment):
    return ExperimentSource(experiment, ask=False)


# The visible counts of answers below the diagram's bars.
COUNTS = """() => [...document.querySelectorAll('#view .subplot.xy .bartext')]
  .filter((one) => one.getBoundingClientRect().width > 0).map((one) => one.textContent)"""


def check(page, source, state):
    """Compares the page's texts and its figure with a state's view."""
    view = compute(source, state)
    shown = {name: page.locator(f"[data-measure={name}]").inner_text() for name in texts_of(view)}
    assert shown == texts_of(view)
    drawn = page.evaluate("document.getElementById('view').data.map(({name, x, y}) => [name, x, y])")
    by_name = {name: (x, y) for name, x, y in drawn}
    assert page.evaluate(COUNTS) == [str(count) for count in view.reliability.count if count]
    heights = nulls(view.reliability.accuracy)
    assert by_name["accuracy"][1] == pytest.approx(heights, abs=1e-5)
    assert by_name["recalibrated"][1] == pytest.approx(view.example.after.tolist(), abs=1e-5)
    for name in MEASURES:
        label = {"ece": "ECE", "smooth_ece": "smooth ECE", "nll": "NLL", "brier": "Brier", "trust": "Trust"}[name]
        assert by_name[f"best {label}"][0] == nulls([view.curves.best(name)])
        assert by_name[f"{label} here"][1] == pytest.approx(nulls([getattr(view.measures, name)]), abs=1e-5)


def test_other_measures_and_stages_are_listed(opened, experiment):
    page = opened()
    assert page.locator("#others tbody tr").count() == 2 * len(experiment.methods)
    assert page.locator("#others caption, #others h3").all_inner_texts() == ["ECE by other libraries' conventions"]
    stages = page.locator("#pipeline tbody tr td:first-child").all_inner_texts()
    assert f"student on CSQA: Eq. 4, c = {experiment.coefficient('csqa'):g} (FIRST)" in stages


def test_a_report_without_a_temperature_has_no_explorer(watched, experiment, tmp_path):
    plain = experiment.change(methods={"fine-tune": {"learns": "answers"}})
    path = tmp_path / "report.html"
    path.write_text(whole(*collect(plain)), encoding="utf-8")
    page = watched(offline=True)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    assert "nothing to explore" in page.locator("#explorer").inner_text()
    assert page.locator(".plot svg.main-svg").count() >= 5


def test_the_reports_explorer_follows_its_controls(opened, source):
    page = opened()
    state = State("csqa", coefficient=source.experiment.coefficient("csqa"))
    check(page, source, state)
    for name, value in (
        ("split", "test"), ("reading", "vocabulary"), ("task", "alpaca"), ("kind", Map.LABEL_SMOOTHING),
        ("tail", Tail.GOLD), ("bins", 20), ("kind", Map.LOGIT_TEMPERATURE), ("kind", Map.NONE),
        ("kind", Map.TEMPERATURE), ("bins", 10), ("task", "csqa"),
    ):  # fmt: skip
        options = page.evaluate("name => explorer.controls[name].options.map(([text, value]) => [text, value])", name)
        page.select_option(f"#{name}", label=next(text for text, own in options if own == value))
        state = state.change(**{name: value})
        check(page, source, state)


def test_the_slider_moves_by_keyboard_and_mouse(opened, source):
    page = opened()
    start = source.experiment.coefficient("csqa")
    places = positions(Map.TEMPERATURE).tolist()
    slider = page.locator("#coefficient")
    slider.focus()
    step = -1 if start == places[-1] else 1
    page.keyboard.press("ArrowRight" if step > 0 else "ArrowLeft")
    here = places[places.index(start) + step]
    check(page, source, State("csqa", coefficient=here))
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * places.index(here) / (len(places) - 1), box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    dragged = places[int(slider.input_value())]
    assert 0.6 < dragged < 0.8
    assert page.locator("#value").inner_text() == f"c = {dragged:.2f}"
    check(page, source, State("csqa", coefficient=dragged))


def test_a_click_on_a_bin_lists_its_questions(opened, source):
    page = opened()
    state = State("csqa", coefficient=source.experiment.coefficient("csqa"))
    fullest = int(compute(source, state).reliability.count.argmax())
    click_bin(page, "#view", (fullest + 0.5) / 10)
    view = compute(source, state.change(bin=fullest))
    assert page.locator("[data-total]").get_attribute("data-total") == str(view.in_bin)
    titles = page.locator(".asked h3").all_inner_texts()
    assert titles == [
        f"{one.name}: {'right' if one.correct else 'wrong'} with {100 * one.confidence:.1f}%" for one in view.listed
    ]
    rows = page.locator(".asked").first.locator("tr").all_inner_texts()[1:]
    one = view.listed[0]
    for place, row in enumerate(rows):
        mark = " ✓" if place == one.answer else ""
        shares = (one.teacher, one.target)
        assert row.split("\t")[:3] == [one.choices[place] + mark, *(f"{100 * share[place]:.1f}%" for share in shares)]


def test_the_figure_follows_the_slider_at_once(opened):
    print("report:", redraw(opened(), "#view", "#coefficient"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_fits_narrow_and_wide_windows(opened, pictures, width, scheme):
    page = opened(WIDTHS[width], color_scheme=scheme)
    page.select_option("#bin", index=5)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]
    assert page.locator(".plot svg.main-svg").count() >= 7
    page.screenshot(path=pictures / f"report-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_prints_on_white(opened, pictures, scheme):
    page = opened(color_scheme=scheme)
    page.select_option("#bin", index=5)
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.getElementById('view')).filter") == "none"
    pdf = page.pdf(
        path=pictures / f"report-{scheme}.pdf", format="A4", print_background=True, prefer_css_page_size=True
    )
    assert pdf.startswith(b"%PDF")
