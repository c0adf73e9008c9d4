"""Figures show the numbers that they are given, and their files and outputs need no network."""

import functools
import itertools
import json
import logging
import struct
import subprocess
import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
from PIL import Image
from plotly.colors import hex_to_rgb

from firstlib import figures
from firstlib.distillation.search import search
from firstlib.figures import chrome, output, style
from firstlib.metrics import reliability, selective_accuracy
from firstlib.settings.methods import PAPER_METHODS

CONFIDENCE = [0.15, 0.65, 0.65, 0.95, 0.95, 0.95, 0.95]
CORRECT = [1, 1, 1, 1, 1, 0, 0]
DIAGRAM = reliability(CONFIDENCE, CORRECT)
SELECTIVE = selective_accuracy(CONFIDENCE, CORRECT)
METHODS = ("teacher", *PAPER_METHODS)
SEARCHES = {"csqa": search(lambda c: abs(c - 0.34)), "boolq": search(lambda c: abs(c - 0.5) / 2)}
MARKUP = "<script>alert(1)</script> & <b>x</b>"
ROWS = [
    SimpleNamespace(method=method, setting=setting, dataset="csqa", accuracy=0.7 - place / 50, ece=0.1 + place / 90)
    for setting in ("in-domain", "out-of-domain")
    for place, method in enumerate(METHODS)
]

MADE = {
    "coverage": figures.coverage([[0.5, 0.25, 0.125], [0.25, 0.25, 0.25]], marked=2),
    "disk_use": figures.disk_use([1, 5, 100], [13.0, 61.0, 1203.0], 50_000),
    "kept_mass": figures.kept_mass({"csqa": np.linspace(0.9, 1, 101), "alpaca": [0.5, 0.7, 0.9]}),
    "rank_probabilities": figures.rank_probabilities({"teacher": ([0.9, 0.1], [0.8, 0.15])}),
    "reliability_diagrams": figures.reliability_diagrams({"teacher": DIAGRAM, "first": DIAGRAM}),
    "coefficient_search": figures.coefficient_search(SEARCHES),
    "coefficient_effect": figures.coefficient_effect({"csqa": np.array([[0.1, 0.08], [0.34, 0.03]])}, {"csqa": 0.34}),
    "trust_plane": figures.trust_plane(ROWS),
    "losses": figures.losses({"teacher": [3.0, 2.0, 1.5]}),
    "before_after": figures.before_after({"csqa": (0.2, 0.03)}, {"csqa": (0.69, 0.09)}),
    "case_study": figures.case_study({"teacher": [0.9, 0.1], "first": [0.6, 0.4]}, ["10", "10"], [0.5, 0.5]),
    "selective_accuracy": figures.selective_accuracy({"teacher": SELECTIVE, "first": SELECTIVE}),
    "top_tokens": figures.top_tokens(["(a)", "(b)"], [0.9, 0.1], [0.7, 0.3]),
}
needs_chrome = pytest.mark.skipif(
    chrome.find_chrome() is None, reason="no Chrome or Chromium here: set BROWSER_PATH, or put one on PATH"
)


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def all_of(figures_):
    return pytest.mark.parametrize("figure", figures_.values(), ids=figures_.keys())


# -- every figure --------------------------------------------------------------------------------------------


@all_of(MADE)
def test_every_figure_fits_the_column_and_round_trips_as_readable_json(figure):
    text = figure.to_json()
    assert plotly.io.from_json(text) == figure
    assert "bdata" not in text
    assert "NaN" not in text
    assert "uid" not in text
    template = figure.layout.template.layout
    assert (template.width, template.paper_bgcolor) == (700, "white")
    assert figure.layout.width is None


@all_of(MADE)
def test_axes_have_titles(figure):
    shown = [axis.title.text for axis in [*figure.select_xaxes(), *figure.select_yaxes()]]
    titles = [note.text for note in figure.layout.annotations]
    assert any(shown) or titles == ["Accuracy", "ECE"]
    assert figure.layout.title.text is None


def test_importing_the_figures_does_not_change_plotly():
    code = "from plotly.io import templates as t; d = t.default; import firstlib.figures; print(d == t.default)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "True"


def test_methods_differ_without_colour():
    looks = list(style.LOOKS.values())
    assert list(style.LOOKS) == list(METHODS)
    for part in ("colour", "dash", "symbol", "hatch"):
        assert len({getattr(its, part) for its in looks}) == len(looks)


def grey(colour):
    return np.dot(hex_to_rgb(colour), [0.299, 0.587, 0.114])


def test_other_names_have_their_own_looks():
    looks = [*style.LOOKS.values(), *style.OTHERS]
    assert len(style.OTHERS) >= 12
    for part in ("colour", "dash", "symbol"):
        assert len({getattr(its, part) for its in looks}) == len(looks)
    for one, other in itertools.combinations(looks, 2):
        assert one.hatch != other.hatch or abs(grey(one.colour) - grey(other.colour)) >= 20


def test_a_name_keeps_its_look():
    names = [f"method-{number}" for number in range(12)]
    together = style.looks([*METHODS, *names])
    assert [together[name] for name in METHODS] == list(style.LOOKS.values())
    assert set(together.values()) == {*style.LOOKS.values(), *style.OTHERS}
    assert style.looks(reversed(names)) == {name: together[name] for name in names}
    for name in ("first-logit", "student-temperature"):
        assert style.looks([name, *METHODS])[name] == style.looks([name])[name]
    assert style.looks(["first-logit"])["first-logit"].symbol == "octagon"  # in every process
    many = [f"method-{number}" for number in range(40)]
    assert list(style.looks(many)) == many


def test_gaps_differ_in_grey():
    over, under = (traces(MADE["reliability_diagrams"], f"{side}-confident")[0] for side in ("over", "under"))
    assert over.marker.pattern.shape != under.marker.pattern.shape
    assert abs(grey(over.marker.color) - grey(under.marker.color)) > 20


NAME = "my-method.2"


@pytest.mark.parametrize(
    "figure",
    [
        figures.reliability_diagrams({"first": DIAGRAM, NAME: DIAGRAM}),
        figures.rank_probabilities({"first": ([1.0], [1.0]), NAME: ([1.0], [1.0])}),
        figures.coefficient_search({"first": SEARCHES["csqa"], NAME: SEARCHES["csqa"]}),
        figures.coefficient_effect({"first": np.array([[0.1, 0.1]]), NAME: np.array([[0.1, 0.1]])}),
        figures.kept_mass({"first": [1.0], NAME: [1.0]}),
        figures.losses({"first": [1.0], NAME: [1.0]}),
        figures.case_study({"first": [1.0], NAME: [1.0]}, ["a"]),
        figures.selective_accuracy({"first": SELECTIVE, NAME: SELECTIVE}),
        figures.trust_plane(
            [SimpleNamespace(method=m, setting="", dataset="csqa", accuracy=0.5, ece=0.1) for m in ("first", NAME)]
        ),
    ],
)
def test_every_figure_takes_any_method(figure):
    labels = [trace.name for trace in figure.data if trace.name] + [note.text for note in figure.layout.annotations]
    assert any(label.startswith("FIRST") for label in labels)
    assert any(label.startswith(NAME) for label in labels)
    own = style.looks([NAME])[NAME]
    for trace in figure.data:
        if (trace.name or "").startswith(NAME):
            line, marker = getattr(trace, "line", None), getattr(trace, "marker", None)
            assert own.colour in (line and line.color, marker and marker.color)


def test_a_long_name_is_not_shortened():
    longest = "a" * 40  # the longest name that the settings allow
    assert figures.losses({longest: [1.0]}).data[0].name == longest


def test_a_legend_of_many_methods_gets_enough_room():
    rows = [
        SimpleNamespace(method=f"method-{number}", setting="", dataset="csqa", accuracy=0.5, ece=0.1)
        for number in range(20)
    ]
    few, many = figures.trust_plane(rows[:5]).layout, figures.trust_plane(rows).layout
    assert many.height - few.height == many.margin.t - few.margin.t > 0


# -- text from data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "figure",
    [
        figures.case_study({MARKUP: [1.0]}, [MARKUP]),
        figures.top_tokens([MARKUP], [1.0], [1.0]),
        figures.reliability_diagrams({MARKUP: DIAGRAM}),
        figures.rank_probabilities({MARKUP: ([1.0], [1.0])}),
        figures.coefficient_search({MARKUP: SEARCHES["csqa"]}),
        figures.coefficient_effect({MARKUP: np.array([[0.1, 0.1]])}),
        figures.kept_mass({MARKUP: [1.0]}),
        figures.losses({MARKUP: [1.0]}),
        figures.selective_accuracy({MARKUP: SELECTIVE}),
        figures.before_after({MARKUP: (0.1, 0.1)}, {MARKUP: (0.1, 0.1)}),
        figures.trust_plane([SimpleNamespace(method=MARKUP, setting=MARKUP, dataset=MARKUP, accuracy=1.0, ece=0.0)]),
    ],
)
def test_text_from_data_is_escaped(figure):
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "<b>x" not in text
    assert "&amp;lt;" not in text


def test_long_text_is_shortened_and_blank_text_is_visible():
    assert style.plain("a" * 40, 10) == "a" * 9 + "…"
    assert style.plain(" two\nlines ", 20) == "two lines"
    assert style.plain("\n", 20) == "␣"
    assert style.plain("&" * 10, 10) == "&amp;" * 10


def test_equal_choices_keep_separate_bars():
    figure = MADE["case_study"]
    assert list(figure.data[0].y) == [0, 1]
    assert list(figure.layout.yaxis.ticktext) == ["10", "10"]


# -- each figure ---------------------------------------------------------------------------------------------


def test_coverage_adds_up_and_marks_the_top():
    figure = MADE["coverage"]
    assert list(traces(figure, "mean")[0].y) == [0.375, 0.625, 0.8125]
    assert list(traces(figure, "all positions")[0].y) == [0.5, 0.75, 0.875]
    assert list(traces(figure, "all positions, least")[0].y) == [0.25, 0.5, 0.75]
    assert traces(figure, "5th to 95th percentile")[0].y[0] == pytest.approx(0.4875)
    assert traces(figure, "5th to 95th percentile, least")[0].y[0] == pytest.approx(0.2625)
    assert (figure.layout.xaxis.type, figure.layout.shapes[0].x0) == ("log", 2)
    assert figure.layout.annotations[0].text == "top 2 hold 62.5% on average"
    assert not figures.coverage([[0.5, 0.25, 0.125]], marked=5).layout.shapes


def test_disk_use_compares_measured_with_computed_sizes():
    figure = MADE["disk_use"]
    measured, counted = figure.data
    assert (list(measured.x), list(measured.y)) == ([1, 5, 100], [13, 61, 1203])
    assert (list(counted.x), list(counted.y)) == ([1, 5, 100, 50_000], [12, 60, 1200, 600_000])
    assert figure.layout.annotations[0].text == "full distribution: 600 kB"
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert counted.name == "12 B a token"


def test_kept_mass_draws_boxes_of_percentiles():
    box, other = MADE["kept_mass"].data
    assert [box[name][0] for name in ("lowerfence", "q1", "median", "q3", "upperfence", "mean")] == pytest.approx(
        [0.905, 0.925, 0.95, 0.975, 0.995, 0.95]
    )
    assert other.mean[0] == pytest.approx(0.7)
    assert list(MADE["kept_mass"].layout.yaxis.ticktext) == ["CSQA", "Alpaca"]


def test_rank_probabilities_pairs_bars():
    predicted, observed = MADE["rank_probabilities"].data
    assert (list(predicted.x), list(predicted.y), list(observed.y)) == ([1, 2], [0.9, 0.1], [0.8, 0.15])


def test_reliability_diagram_shows_every_bin():
    figure = figures.reliability_diagrams({"teacher": DIAGRAM})
    accuracy, over, under, share, diagonal = figure.data
    filled = DIAGRAM.count > 0
    assert np.allclose(np.array(accuracy.y)[filled].astype(float), [1, 1, 0.5])
    assert set(np.array(accuracy.y)[~filled]) == {None}
    assert np.allclose(np.array(over.y)[filled].astype(float), [0, 0, 0.45])
    assert np.allclose(np.array(under.y)[filled].astype(float), [0.85, 0.35, 0])
    assert np.allclose(np.array(over.base)[filled].astype(float), [1, 1, 0.5])  # from accuracy up to confidence
    assert np.allclose(np.array(under.base)[filled].astype(float), [0.15, 0.65, 0.95])  # from confidence up to accuracy
    assert np.allclose(-np.array(share.y) / figures.SHARES, DIAGRAM.count / DIAGRAM.count.max())
    assert np.allclose(accuracy.x, np.arange(0.05, 1, 0.1))
    assert np.allclose(accuracy.width, 0.1)
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert f"ECE {DIAGRAM.ece:.1%}" in figure.layout.annotations[-1].text
    assert accuracy.hovertext[9] == "4 answers<br>accuracy 50.0%<br>confidence 95.0%"
    assert figure.layout.barmode == "overlay"


@pytest.mark.parametrize(("panels", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))])
def test_panels_lie_in_a_grid_with_one_legend(panels, grid):
    figure = figures.reliability_diagrams({f"model {place}": DIAGRAM for place in range(panels)})
    lefts = {axis.domain[0] for axis in figure.select_xaxes()}
    floors = {axis.domain[0] for axis in figure.select_yaxes()}
    assert (len(floors), len(lefts)) == grid
    assert len(list(figure.select_xaxes())) == panels
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["accuracy", "over-confident", "under-confident", "share of answers", "calibrated"]
    titles = [note.text for note in figure.layout.annotations if note.text.startswith("model")]
    assert titles == [f"model {place}" for place in range(panels)]


def test_panels_form_one_column_on_a_phone():
    panels = {f"model {place}": DIAGRAM for place in range(4)}
    ranks = dict.fromkeys(panels, ([0.9, 0.1], [0.8, 0.15]))
    for figure in (
        figures.reliability_diagrams(panels, most=1),
        figures.rank_probabilities(ranks, most=1),
        figures.trust_plane(ROWS, most=1),
    ):
        assert {axis.domain[0] for axis in figure.select_xaxes()} == {0}


def test_coefficient_search_distinguishes_coarse_from_fine_and_marks_the_best():
    figure = MADE["coefficient_search"]
    line, coarse, fine, best = figure.data[:4]
    found = SEARCHES["csqa"]
    assert line.name == "CSQA, best c = 0.34"
    assert list(line.x) == sorted([*found.coarse[:, 0], *found.fine[:, 0]])
    assert (list(coarse.x), list(coarse.y)) == (found.coarse[:, 0].tolist(), found.coarse[:, 1].tolist())
    assert (list(fine.x), list(fine.y)) == (found.fine[:, 0].tolist(), found.fine[:, 1].tolist())
    assert list(best.x) == [found.best]
    assert len({coarse.marker.symbol, fine.marker.symbol, best.marker.symbol}) == 3
    legend = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert legend == ["CSQA, best c = 0.34", "BoolQ, best c = 0.50", "coarse grid", "fine grid", "best"]


def test_coefficient_effect_marks_only_the_chosen_coefficient():
    line, star, _ = MADE["coefficient_effect"].data
    assert (list(line.x), list(line.y)) == ([0.1, 0.34], [0.08, 0.03])
    assert (list(star.x), list(star.y)) == ([0.34], [0.03])
    plain = figures.coefficient_effect({"csqa": np.array([[0.1, 0.08], [0.34, 0.03]])})
    assert [len(trace.x) for trace in plain.data] == [2, 0]


def test_trust_plane_places_methods_and_lines_of_equal_trust():
    figure = MADE["trust_plane"]
    assert [note.text for note in figure.layout.annotations] == ["CSQA, in-domain", "CSQA, out-of-domain"]
    for panel in ("x", "x2"):
        markers = [trace for trace in figure.data if trace.mode == "markers" and trace.xaxis == panel]
        assert [(trace.x[0], trace.y[0]) for trace in markers] == [(row.ece, row.accuracy) for row in ROWS[:5]]
    assert [trace.name for trace in figure.data if trace.showlegend] == [
        "Teacher", "Fine-tune", "Distil", "Label smoothing", "FIRST",
    ]  # fmt: skip
    low, high = figure.layout.yaxis.range
    for line in (trace for trace in figure.data if trace.mode == "lines+text"):
        assert np.diff(np.array(line.y) - np.array(line.x)) == pytest.approx(0)
        assert low - 1e-9 <= min(line.y) <= max(line.y) <= high + 1e-9


def test_losses_count_steps_from_one():
    (line,) = MADE["losses"].data
    assert (line.x0, line.dx, list(line.y), line.name) == (1, 1, [3, 2, 1.5], "Teacher")


def test_selective_accuracy_draws_every_share_and_ends_with_all_questions():
    line, other = MADE["selective_accuracy"].data
    assert list(line.x) == SELECTIVE.share.tolist()
    assert list(line.y) == SELECTIVE.accuracy.tolist()
    assert list(line.customdata) == SELECTIVE.threshold.tolist()
    assert (line.x[-1], line.y[-1]) == (1, pytest.approx(np.mean(CORRECT)))
    assert (line.name, other.name) == (f"Teacher, area {SELECTIVE.area:.3f}", f"FIRST, area {SELECTIVE.area:.3f}")
    assert line.line.dash != other.line.dash
    axis = MADE["selective_accuracy"].layout.xaxis
    assert axis.title.text == "share of questions answered"
    assert 1 <= axis.range[1] < 1.01


def test_selective_accuracy_of_many_questions_is_thinned():
    random = np.random.default_rng(0)
    found = selective_accuracy(random.random(5000), random.random(5000) < 0.7)
    (line,) = figures.selective_accuracy({"first": found}).data
    assert len(line.x) == 200
    assert (line.x[0], line.x[-1], line.y[-1]) == (found.share[0], 1, found.accuracy[-1])


def test_before_after_pairs_accuracy_and_ece():
    heights = [(bars.name, bars.xaxis, bars.y[0]) for bars in MADE["before_after"].data]
    assert heights == [
        ("before fine-tuning", "x", 0.2), ("after fine-tuning", "x", 0.69),
        ("before fine-tuning", "x2", 0.03), ("after fine-tuning", "x2", 0.09),
    ]  # fmt: skip


def test_case_study_shows_the_truth():
    teacher, first, truth = MADE["case_study"].data
    assert (list(teacher.x), list(first.x), list(truth.x)) == ([0.9, 0.1], [0.6, 0.4], [0.5, 0.5])
    assert teacher.orientation == "h"
    assert MADE["case_study"].layout.yaxis.autorange == "reversed"
    assert len(figures.case_study({"teacher": [1.0]}, ["a"]).data) == 1


def test_top_tokens_pairs_before_and_after():
    before, after = MADE["top_tokens"].data
    assert (list(before.y), list(after.y)) == ([0.9, 0.1], [0.7, 0.3])
    assert list(MADE["top_tokens"].layout.xaxis.ticktext) == ["(a)", "(b)"]


# -- output --------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(output, "display", lambda bundle, **rest: outputs.append((bundle, rest)))
    return outputs


@pytest.fixture
def no_chrome(monkeypatch):
    monkeypatch.setattr(chrome, "find_chrome", lambda: None)
    chrome._chrome.cache_clear()
    yield
    chrome._chrome.cache_clear()


def test_show_without_chrome_is_interactive_and_warns_once(shown, no_chrome, caplog):
    with caplog.at_level(logging.WARNING):
        figures.show(MADE["losses"], "losses")
        figures.show(MADE["coverage"])
    assert [record.message for record in caplog.records] == [chrome.NO_CHROME]
    (bundle, rest), _ = shown
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/plain"}
    assert bundle["text/plain"] == "<losses>"
    assert bundle["application/vnd.plotly.v1+json"]["data"][0]["y"] == [3, 2, 1.5]
    assert rest == {"raw": True, "metadata": {}}
    assert len(json.dumps(bundle)) < 5_000


def test_write_without_chrome_needs_no_network_and_is_reproducible(tmp_path, no_chrome):
    written = figures.write(MADE["reliability_diagrams"], tmp_path, "reliability")
    assert [path.name for path in written] == ["reliability.json", "reliability.html"]
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in written), "plotly.min.js"}
    before = [path.read_bytes() for path in written]
    page = before[1].decode()
    assert '<script charset="utf-8" src="plotly.min.js">' in page
    assert "http" not in page
    assert len(page) < 50_000
    assert plotly.io.read_json(written[0]) == MADE["reliability_diagrams"]
    figures.write(MADE["reliability_diagrams"], tmp_path, "reliability")
    assert [path.read_bytes() for path in written] == before


def test_text_cannot_close_a_pages_script(tmp_path, no_chrome):
    figures.write(figures.top_tokens(["</script><script>"], [1.0], [1.0]), tmp_path, "top")
    assert (tmp_path / "top.html").read_text().count("<script") == 3


def test_a_damaged_plotly_file_is_replaced(tmp_path, no_chrome):
    (tmp_path / "plotly.min.js").write_text("half")
    figures.write(MADE["losses"], tmp_path, "losses")
    assert (tmp_path / "plotly.min.js").stat().st_size > 1_000_000


def test_a_browser_that_does_not_start_affects_only_the_picture(tmp_path, monkeypatch, caplog):
    fake = tmp_path / "chrome"
    fake.write_text("no program")
    monkeypatch.setenv("BROWSER_PATH", str(fake))
    with caplog.at_level(logging.WARNING, chrome.__name__):
        assert chrome.picture(MADE["losses"], "png") is None
        assert chrome.picture(MADE["losses"], "png") is None
    (warning,) = [record.message for record in caplog.records if record.name == chrome.__name__]
    assert f"{fake} does not start (BrowserFailedError: The browser seemed to close" in warning
    assert warning.endswith(chrome.NO_CHROME)
    assert "\n" not in warning


def test_a_browser_path_without_a_file_is_ignored(monkeypatch, caplog):
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chrome")
    chrome._chrome.cache_clear()
    assert chrome.find_chrome() is None
    assert chrome.picture(MADE["losses"], "png") is None
    assert f"BROWSER_PATH: /nowhere/chrome is not a file; {chrome.NO_CHROME}" in caplog.text
    chrome._chrome.cache_clear()


def test_a_picture_that_fails_is_left_out(monkeypatch, caplog):
    class Broken:
        def draw(self, figure, kind):
            raise RuntimeError("tab crashed\nstack of the page")

    monkeypatch.setattr(chrome, "_chrome", functools.cache(lambda _: Broken()))
    assert chrome.picture(MADE["losses"], "png") is None
    assert "Chrome failed (RuntimeError: tab crashed)" in caplog.text


@needs_chrome
def test_show_adds_a_small_picture_of_the_right_size(shown):
    figures.show(MADE["reliability_diagrams"], "reliability")
    (bundle, rest), *_ = shown
    width, height, _, colours = struct.unpack(">IIBB", bundle["image/png"][16:26])
    inches = {"width": 700, "height": MADE["reliability_diagrams"].layout.height}
    assert rest["metadata"] == {"image/png": inches}
    assert (width, height) == tuple(side * chrome.SCALE for side in inches.values())
    assert colours == 3  # a palette
    assert len(bundle["image/png"]) < 60_000


@needs_chrome
def test_pages_do_not_change_the_configuration_of_later_figures(tmp_path):
    """plotly's `to_html` writes into the dictionary that it gets."""
    before = dict(output.CONFIG)
    figures.write(MADE["top_tokens"], tmp_path, "top")
    assert before == output.CONFIG


def test_show_with_a_folder_writes_reproducible_pictures(tmp_path, shown):
    figures.show(MADE["top_tokens"], "top", tmp_path)
    files = [tmp_path / f"top.{kind}" for kind in ("json", "html", "png", "svg")]
    before = [path.read_bytes() for path in files]
    assert before[2] == shown[0][0]["image/png"]
    assert before[3].startswith(b"<svg")
    assert figures.write(MADE["top_tokens"], tmp_path, "top") == files
    assert [path.read_bytes() for path in files] == before


def test_svg_ids_depend_only_on_the_content():
    drawn = [
        b'<svg><defs id="defs-%b"/><path clip-path="clip%bxy" d="M%b"/></svg>' % (3 * (x,))
        for x in (b"12ab34", b"fe0987")
    ]
    first, second = (chrome._with_fixed_ids(svg.replace(b"M12ab34", b"M1").replace(b"Mfe0987", b"M1")) for svg in drawn)
    assert first == second
    assert b"12ab34" not in first


def as_png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def pixels_of(png):
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def test_few_colours_are_kept_exactly():
    pixels = np.random.default_rng(0).choice(np.array([0, 119, 255], np.uint8), (30, 40, 3))
    assert (pixels_of(chrome._with_palette(as_png(pixels))) == pixels).all()


def test_many_colours_become_similar_ones():
    ramp = np.arange(900, dtype=np.int64).reshape(30, 30)
    pixels = np.stack([ramp % 256, ramp // 4 % 256, ramp // 256], axis=2).astype(np.uint8)
    near = pixels_of(chrome._with_palette(as_png(pixels)))
    assert len(np.unique(near.reshape(-1, 3), axis=0)) <= 256
    assert np.abs(near.astype(int) - pixels).mean() < 8


def test_figures_are_plain_plotly():
    assert all(type(figure) is go.Figure for figure in MADE.values())


def test_drawing_builds_no_grammars():
    code = (
        "import sys; from firstlib import figures; import plotly.graph_objects as go; "
        "go.FigureWidget(); print('nbformat' in sys.modules, 'lark' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "False"]
