"""The report is one file that needs no network, says what `compute` says, and shows every text as text."""

import base64
import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from firstlib.distillation.losses import Tail
from firstlib.distillation.recalibration import Map
from firstlib.experiment.experiment import Experiment
from firstlib.explorer import ExperimentSource, State, compute, positions
from firstlib.metrics import Interval, bootstrap_ece, clopper_pearson
from firstlib.results.comparison import Compared
from firstlib.results.report import compare, grid, page, sections, terminal_table, write_report
from firstlib.settings.schema import METHODS

SCRIPT = "<script>alert(1)</script>"
MEGABYTES = 1_000_000


@pytest.fixture(scope="module")
def experiment(tiny_preset_file, tmp_path_factory):
    return Experiment(str(tiny_preset_file), 0, str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def report(experiment):
    """The report of a run in whose questions and choices somebody wrote a script."""
    questions = Experiment.questions

    def spoilt(self, task, split="test"):
        return [
            replace(one, prompt=SCRIPT + one.prompt, choices=tuple(SCRIPT + choice for choice in one.choices))
            for one in questions(self, task, split)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "questions", spoilt)
        return write_report(experiment).read_text(encoding="utf-8")


def data_of(text):
    packed = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


# -- one file --------------------------------------------------------------------------------------------------


def test_the_file_is_small_whole_and_asks_nobody(experiment, report):
    path = experiment.folder / "report.html"
    assert path.stat().st_size < 6 * MEGABYTES
    assert report.count("plotly.js v") == 1
    assert report.endswith("</html>\n")
    assert not [
        name for name in ("cdn.", "unpkg.com", "jsdelivr.net") if name in report.replace(page_script(report), "")
    ]
    own = report.replace(page_script(report), "")
    assert re.findall(r'(?:src|href)="(?!#|data:,)([^"]*)"', own) == []
    assert not list(experiment.folder.glob(".report*"))


def page_script(report):
    """plotly.js, which names hosts of maps that no figure of ours asks."""
    start = report.index("/**\n* plotly.js")
    return report[start : report.index("</script>", start)]


def test_equal_data_give_equal_letters():
    assert page.packed({"a": [1, None]}) == page.packed({"a": [1, None]})
    assert json.loads(gzip.decompress(base64.b64decode(page.packed({"a": [1, None]})))) == {"a": [1, None]}


def test_text_of_a_data_set_is_text(report):
    own = report.replace(page_script(report), "")
    assert "&lt;script&gt;alert(1)" in own  # the case study's question
    assert "<script>alert" not in own
    found = data_of(report)
    examples = found["explorer"]["examples"]["csqa test"]
    assert examples[0]["text"].startswith(SCRIPT)  # which the page's script writes as a text node
    ticks = found["figures"]["figure-case"]["wide"]["layout"]["yaxis"]["ticktext"]
    assert all(tick.startswith("&lt;script&gt;") for tick in ticks)


def test_the_template_leaves_nothing_to_fill_in(report):
    own = report.replace(page_script(report), "")
    assert "{{" not in own.split("<script>")[0]
    for part in ("results", "explorer", "figures", "case", "pipeline", "settings"):
        assert own.count(f'<section id="{part}">') == 1
    for name in page.FIGURES:
        assert own.count(f'id="figure-{name}"') == 1
    assert set(data_of(report)["figures"]) == {f"figure-{name}" for name in [*page.FIGURES, "case"]}


# -- the explorer's numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        State("csqa", coefficient=0.3),
        State("alpaca", "test", coefficient=0.72, reading="vocabulary", bins=20),
        State("csqa", "test", Map.LOGIT_TEMPERATURE, 2.5),
        State("csqa", "validation", Map.LABEL_SMOOTHING, 0.1, "vocabulary", Tail.GOLD),
        State("csqa", "validation", Map.NONE, 1.0),
    ],
)
def test_every_cell_is_what_compute_says(experiment, report, state):
    found = data_of(report)["explorer"]
    view = compute(ExperimentSource(experiment), state)
    place = int(np.abs(positions(state.kind) - state.coefficient).argmin())
    measures, ruled_out, floor, filled, count, accuracy, confidence, low, high = found["cells"][grid.name(state)][place]
    names = ("accuracy", "ece", "smooth_ece", "nll", "brier", "trust")
    assert measures == pytest.approx([getattr(view.measures, name) for name in names], abs=1e-6)
    assert ruled_out == view.measures.ruled_out
    assert floor == pytest.approx([view.floor.mean, view.floor.percentile_95], abs=1e-6)
    diagram = view.reliability
    assert count == diagram.count[filled].tolist()
    assert sum(count) == view.measures.n
    for kept, all_ in (
        (accuracy, diagram.accuracy),
        (confidence, diagram.confidence),
        (low, view.low),
        (high, view.high),
    ):
        assert kept == pytest.approx(all_[filled].tolist(), abs=1e-6)
    gap = found["gaps"][grid.name(state.change(split="validation"))]
    assert gap == pytest.approx([view.gap.coefficient, view.gap.validation, view.gap.test, view.gap.best], abs=1e-6)
    curve = [cell[0][1] for cell in found["cells"][grid.name(state)]]
    assert curve == pytest.approx(view.curves.ece.tolist(), abs=1e-6)


def test_every_choice_of_the_drop_downs_has_its_numbers(report):
    found = data_of(report)["explorer"]
    options = {control["name"]: [value for _, value in control["options"]] for control in found["controls"]}
    for task in options["task"]:
        for kind in options["kind"]:
            for tail in found["tails"][kind]:
                for bins in options["bins"]:
                    name = grid.name(State(task, "test", Map(kind), tail=tail, bins=bins))
                    assert len(found["cells"][name]) == len(found["maps"][kind]["places"])
    assert sum(map(len, found["cells"].values())) > 1000


# -- tables ----------------------------------------------------------------------------------------------------


def test_results_stand_beside_the_papers_with_their_intervals(experiment, report):
    found = compare(experiment)
    assert len(found) == 3 * len(METHODS)
    row = next(row for row in found if (row.setting, row.dataset, row.method) == ("out-of-domain", "obqa", "first"))
    predictions = experiment.predictions("first", "alpaca", "obqa")
    correct = predictions.correct()
    low, high = clopper_pearson([correct.sum()], [len(correct)])
    assert (row.accuracy.low, row.accuracy.high) == (low[0], high[0])
    assert row.ece == bootstrap_ece(predictions.confidence(), correct, 10)
    assert row.trust == row.accuracy.estimate - row.ece.estimate
    assert [round(100 * number, 1) for number in row.paper] == [42.5, 7.8, 34.7]
    for one in found:
        assert f"{100 * one.accuracy.low:.1f} to {100 * one.accuracy.high:.1f}" in report
        assert f"{100 * one.ece.low:.1f} to {100 * one.ece.high:.1f}" in report
    blocks = {(row.setting, row.dataset) for row in found}
    assert terminal_table(found).row_count == len(found) + len(blocks)


def test_a_data_set_that_the_paper_lacks_has_nothing_beside_it():
    half = Interval(0.5, 0.4, 0.6)
    text = sections.results([Compared("in-domain", "<own>", "first", 9, half, half, 0.0, None)])
    assert "<td>-</td>" in text
    assert "&lt;own&gt;" in text


def test_the_pipeline_names_what_the_report_rests_on(experiment, report):
    [stage] = experiment.folder.glob("first-csqa-*")
    assert f"<code>{stage.name.rsplit('-', 1)[1]}</code>" in report
    stray = experiment.change(student__lora__rank=2, student__tuning="lora").student("fine-tune", "csqa")
    assert f"<code>{stray.name.rsplit('-', 1)[1]}</code>" not in write_record(experiment)


def write_record(experiment):
    used = page._Used(experiment.folder)
    looking = experiment.change()
    looking.artefacts = used
    looking.rows()
    return page._record(looking, used)["pipeline"]


def test_settings_and_versions_are_told(experiment, report):
    assert '<td class="text">recalibration.first_map</td>' in report
    assert '<td class="text">sizes.validation</td>' in report
    assert re.search(r'<td class="text">torch</td><td class="text">\d', report)
    assert re.search(r'<td class="text">seed</td><td class="text">0</td>', report)
