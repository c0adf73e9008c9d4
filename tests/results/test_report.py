"""The report is one file that needs no network, shows the numbers of `compute`, and escapes every text."""

import base64
import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from firstlib import metrics
from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.distillation.search import search_among
from firstlib.experiment import Experiment, students
from firstlib.explorer import ExperimentSource, State, compute, positions
from firstlib.metrics import Interval, bootstrap_ece, clopper_pearson
from firstlib.results.comparison import Compared, compare
from firstlib.results.provenance import Recorder, describe, stage_lines
from firstlib.results.report import cells, figures, findings, grid, page, sections, write_report
from firstlib.results.report.findings import collect
from firstlib.results.report.other_measures import other_measures
from firstlib.results.rules import RULES
from firstlib.results.table import of_comparison
from firstlib.runtime.errors import UserError
from firstlib.settings import methods
from firstlib.settings.schema import Measures

SCRIPT = "<script>alert(1)</script>"
MEGABYTES = 1_000_000
MINE = {"learns": "top-k", "map": "temperature", "coefficient": 0.5, "afterwards": "student-temperature"}


@pytest.fixture(scope="module")
def experiment(tiny_preset_file, tmp_path_factory):
    return Experiment(str(tiny_preset_file), 0, str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def report(experiment):
    """The report of a run with a script in its questions and choices."""
    questions = Experiment.questions

    def with_script(self, task, split="test"):
        return [
            replace(one, prompt=SCRIPT + one.prompt, choices=tuple(SCRIPT + choice for choice in one.choices))
            for one in questions(self, task, split)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "questions", with_script)
        return write_report(experiment).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def other(experiment):
    """The same run with other methods and measures: two methods share a student, and none is fine-tuning."""
    methods = {"first": {"learns": "top-k", "map": "temperature", "coefficient": 0.5}, "mine": MINE}
    return experiment.change(methods=methods, measures={"confidence": "vocabulary", "bins": 7})


def data_of(text):
    packed = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


# -- one file --------------------------------------------------------------------------------------------------


def test_the_file_is_small_and_needs_no_network(experiment, report):
    path = experiment.folder / "report.html"
    assert path.stat().st_size < 6 * MEGABYTES
    assert report.count("plotly.js v") == 1
    assert report.endswith("</html>\n")
    own = report.replace(page_script(report), "")
    assert not [name for name in ("cdn.", "unpkg.com", "jsdelivr.net") if name in own]
    assert re.findall(r'(?:src|href)="(?!#|data:,)([^"]*)"', own) == []
    assert not list(experiment.folder.glob(".report*"))


def page_script(report):
    """plotly.js, which names map servers that none of the report's figures uses."""
    start = report.index("/**\n* plotly.js")
    return report[start : report.index("</script>", start)]


def test_equal_data_give_equal_text():
    assert page.packed({"a": [1, None]}) == page.packed({"a": [1, None]})
    assert json.loads(gzip.decompress(base64.b64decode(page.packed({"a": [1, None]})))) == {"a": [1, None]}


def test_text_of_a_data_set_is_escaped(report):
    own = report.replace(page_script(report), "")
    assert "&lt;script&gt;alert(1)" in own  # in the case study's question
    assert "<script>alert" not in own
    found = data_of(report)
    examples = found["explorer"]["examples"]["csqa test"]
    assert examples[0]["text"].startswith(SCRIPT)  # the page's script writes it as a text node
    ticks = found["figures"]["figure-case"]["wide"]["layout"]["yaxis"]["ticktext"]
    assert all(tick.startswith("&lt;script&gt;") for tick in ticks)


def test_the_template_is_filled(report):
    own = report.replace(page_script(report), "")
    assert "{{" not in own.split("<script>")[0]
    for part in ("results", "others", "explorer", "figures", "case", "pipeline", "settings"):
        assert own.count(f'<section id="{part}">') == 1
    drawn = data_of(report)["figures"]
    names = ("coverage", "ranks", "reliability", "selective", "search", "plane", "case")
    assert {f"figure-{name}" for name in names} <= set(drawn)
    for name in drawn:
        assert own.count(f'id="{name}"') == 1


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
def test_every_cell_equals_compute(experiment, report, state):
    found = data_of(report)["explorer"]
    view = compute(ExperimentSource(experiment), state)
    place = int(np.abs(positions(state.kind) - state.coefficient).argmin())
    measures, ruled_out, floor, filled, count, accuracy, confidence, low, high = found["cells"][grid.name(state)][place]
    names = ("accuracy", "ece", "smooth_ece", "nll", "brier", "trust")
    expected = [getattr(view.measures, name) for name in names]
    assert measures == pytest.approx([None if np.isnan(value) else value for value in expected], abs=1e-6)
    assert ruled_out == view.measures.ruled_out
    assert floor == pytest.approx([view.floor.mean, view.floor.percentile_95], abs=1e-6)
    diagram = view.reliability
    assert count == diagram.count[filled].tolist()
    assert sum(count) == view.measures.n
    pairs = ((accuracy, diagram.accuracy), (confidence, diagram.confidence), (low, view.low), (high, view.high))
    for kept, all_ in pairs:
        assert kept == pytest.approx(all_[filled].tolist(), abs=1e-6)
    gap = found["gaps"][grid.name(state.change(split="validation"))]
    assert gap == pytest.approx([view.gap.coefficient, view.gap.validation, view.gap.test, view.gap.best], abs=1e-6)
    curve = [cell[0][1] for cell in found["cells"][grid.name(state)]]
    assert curve == pytest.approx(view.curves.ece.tolist(), abs=1e-6)


def test_every_menu_choice_has_its_numbers(report):
    found = data_of(report)["explorer"]
    options = {control["name"]: [value for _, value in control["options"]] for control in found["controls"]}
    for task in options["task"]:
        for kind in options["kind"]:
            for tail in found["tails"][kind]:
                for bins in options["bins"]:
                    name = grid.name(State(task, "test", Map(kind), tail=tail, bins=bins))
                    assert len(found["cells"][name]) == len(found["maps"][kind]["places"])
    assert sum(map(len, found["cells"].values())) > 1000


def jobs(count):
    rng = np.random.default_rng(0)
    return [cells.Job(rng.random((2, 30)), rng.random((2, 30)) < 0.5, (5, 10), 20) for _ in range(count)]


def flat(columns):
    """All values of a job's columns, in a comparable form."""
    return [
        (bins, one.smooth_ece, one.floor, *(part.tobytes() for part in vars(one.diagram).values()))
        for bins, column in columns.items()
        for one in column
    ]


def test_worker_processes_give_the_numbers_of_a_single_process_in_order(monkeypatch):
    alone = [flat(cells.measure_slider(job)) for job in jobs(5)]
    for workers in (1, 2, 3):
        monkeypatch.setattr(cells, "_cores", lambda workers=workers: workers)
        assert [flat(columns) for columns in cells.measure_all(jobs(5))] == alone


def test_no_jobs_need_no_numbers(monkeypatch):
    for workers in (1, 2):
        monkeypatch.setattr(cells, "_cores", lambda workers=workers: workers)
        assert list(cells.measure_all(jobs(0))) == []


def test_a_worker_that_fails_is_an_error(monkeypatch, capfd):
    monkeypatch.setattr(cells, "_cores", lambda: 2)
    bad = cells.Job(np.full((1, 3), 2.0), np.ones((1, 3), bool), (5,), 20)
    with pytest.raises(subprocess.CalledProcessError):
        list(cells.measure_all([*jobs(3), bad, *jobs(3)]))
    assert "confidence" in capfd.readouterr().err


def test_jobs_that_cannot_be_made_leave_no_worker_behind(monkeypatch):
    def failing():
        yield from jobs(3)
        raise ValueError("no job")

    monkeypatch.setattr(cells, "_cores", lambda: 2)
    with pytest.raises(ValueError, match="no job"):
        list(cells.measure_all(failing()))


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        ("firstlib.results.report.cells", {"torch", "transformers", "plotly"}),
        ("firstlib.results.study, firstlib.results.tables, firstlib.explorer", {"torch", "transformers", "datasets"}),
    ],
)
def test_a_worker_and_what_reads_finished_runs_import_quickly(modules, libraries):
    code = f"import sys, {modules}; print({libraries} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- tables ----------------------------------------------------------------------------------------------------


def test_results_have_their_intervals_and_the_papers_numbers(experiment, report):
    found = compare(experiment)
    assert len(found) == 3 * (len(experiment.methods) + 1), "the base student stands beside them"
    row = next(row for row in found if (row.setting, row.dataset, row.method) == ("out-of-domain", "obqa", "first"))
    predictions = experiment.predictions("first", "alpaca", "obqa")
    correct = predictions.correct()
    low, high = clopper_pearson([correct.sum()], [len(correct)])
    assert (row.accuracy.low, row.accuracy.high) == (low[0], high[0])
    assert row.ece == bootstrap_ece(predictions.confidence(), correct, 10)
    assert row.trust == pytest.approx(row.accuracy.estimate - row.ece.estimate)
    assert [round(100 * number, 1) for number in row.paper] == [42.5, 7.8, 34.7]
    for one in found:
        assert f"{100 * one.accuracy.low:.1f} to {100 * one.accuracy.high:.1f}" in report
        assert f"{100 * one.ece.low:.1f} to {100 * one.ece.high:.1f}" in report
        if one.difference:
            assert f"{100 * one.difference.low:+.1f} to {100 * one.difference.high:+.1f}" in report


def test_a_data_set_that_the_paper_lacks_has_no_numbers_of_the_paper():
    half = Interval(0.5, 0.4, 0.6)
    text = of_comparison([Compared("in-domain", "<own>", "first", 9, half, half, 0.0, None, None)]).html(
        sections.name_of
    )
    assert "&lt;own&gt;" in text
    assert " / " not in text


def test_differences_have_a_column_per_test_set():
    half, better = Interval(0.5, 0.4, 0.6), Interval(-0.05, -0.1, -0.01)
    found = [
        Compared("in-domain", "<own>", "fine-tune", 9, half, half, 0.0, None, None),
        Compared("in-domain", "<own>", "mine", 9, half, half, 0.0, better, None),
    ]
    text = sections.differences(found)
    assert "&lt;own&gt;, in-domain" in text
    assert '<td>-5.0<span class="ends">-10.0 to -1.0</span></td>' in text
    assert "Fine-tune" not in text
    assert sections.differences(found[:1]) == ""


def test_settings_and_versions_are_listed(report):
    assert '<td class="text">first</td><td class="text">learns: top-k, map: temperature, coefficient:' in report
    assert '<td class="text">sizes.validation</td>' in report
    assert re.search(r'<td class="text">torch</td><td class="text">\d', report)
    assert re.search(r'<td class="text">seed</td><td class="text">0</td>', report)


# -- other measures of calibration -----------------------------------------------------------------------------


@pytest.mark.parametrize("measures", [Measures(), Measures(confidence="vocabulary", bins=4)])
def test_other_measures_follow_the_settings(experiment, measures):
    found = experiment.predictions("first", "csqa", "csqa")
    rows = found.shares() if measures.confidence == "candidates" else found.probabilities
    pair, bins = (found.confidence(measures.confidence), found.correct()), measures.bins
    one = other_measures(found, measures)
    assert one.equal_mass_ece == metrics.ece(*pair, bins, "equal-mass")
    assert one.debiased_ece == metrics.debiased_ece(*pair, bins)
    assert one.smooth_ece == metrics.smooth_ece(*pair)
    assert one.mce == metrics.mce(*pair, bins)
    assert one.classwise_ece == metrics.classwise_ece(rows, found.answer, bins)
    assert one.brier.total == pytest.approx(np.mean((pair[0] - pair[1]) ** 2))
    assert one.conventions == metrics.ece_by_convention(*pair, bins)
    assert one.conventions["firstlib"] == pytest.approx(one.ece)


def test_the_report_lists_other_measures_of_every_method(experiment, report):
    part = report.split('<section id="others">')[1].split("</section>")[0]
    assert part.count("<tr>") == 2 * (1 + len(experiment.methods))
    found = other_measures(experiment.predictions("distill", "csqa", "csqa"), experiment.settings.measures)
    cells_of_row = [f"{100 * error:.1f}" for error in (found.ece, found.equal_mass_ece, found.debiased_ece)]
    assert "".join(f"<td>{cell}</td>" for cell in cells_of_row) in part
    assert "<th>torchmetrics</th>" in part


# -- other methods and measures --------------------------------------------------------------------------------


def test_the_report_has_the_methods_and_measures_of_the_settings(other):
    found, provenance = collect(other)
    content = page.contents(found, provenance)
    assert "Fine-tune" not in content["results"]
    assert "ECE has 7 equal-width bins" in content["results"]
    assert "whole vocabulary" in content["results"]
    assert "student&#x27;s T = " in content["results"]
    assert found.explorer["start"] | {"reading": "vocabulary", "bins": 7, "coefficient": 0.5} == found.explorer["start"]
    drawn = figures.report_figures(found)
    titles = [note.text for note in drawn["reliability"].wide.layout.annotations]
    assert {"Teacher", "FIRST", "mine"} <= set(titles)
    answers = other.predictions("mine", "csqa", "csqa")
    assert f"<b>ECE {answers.reliability('vocabulary', 7).ece:.1%}</b>" in titles


def test_a_run_without_a_temperature_has_no_explorer(experiment):
    found, provenance = collect(experiment.change(methods={"plain": {"learns": "answers"}}))
    content = page.contents(found, provenance)
    assert "nothing to explore" in content["explorer"]
    assert data_of(f'<script id="data" type="text/plain">{content["data"]}</script>')["explorer"] is None
    assert "figure-search" not in content["figures"]
    assert "Coefficients" not in content["results"]


def test_every_rule_of_the_settings_has_its_words():
    assert set(RULES) == set(methods.RULES)


@pytest.mark.parametrize(
    ("rule", "axis", "caption"),
    [
        ("validation-ece", "validation ECE", "the ECE, on validation questions, of the targets."),
        ("validation-smooth-ece", "validation smooth ECE", "the smooth ECE, on validation questions, of the targets."),
        ("cross-fitted-ece", "cross-fitted ECE", "the ECE, on training questions, of targets from teachers that had "),
        ("cross-fitted-nll", "cross-fitted NLL, nats", "the negative log-likelihood, on training questions, of targe"),
        ("student-ece", "validation ECE", "the ECE, on validation questions, of a student trained for one epoch."),
    ],
)
def test_the_searchs_figure_says_what_its_rule_measures(experiment, rule, axis, caption):
    changed = experiment.change(methods={"mine": {"learns": "top-k", "map": "temperature", "coefficient": rule}})
    searches = {"csqa": search_among(lambda c: c, (0.1, 0.2))}
    drawn = figures._search(SimpleNamespace(settings=changed.settings, searches=searches))
    assert f"For <i>mine</i>: {caption}" in drawn.caption
    assert drawn.wide.layout.yaxis.title.text == axis
    assert (drawn.wide.layout.yaxis.tickformat == ".2f") == rule.endswith("-nll")


def test_what_was_chosen_after_training_is_listed(experiment):
    agreeing = {"learns": "answers", "afterwards": "agreement-temperature"}
    averaged = {"learns": "answers", "afterwards": "base-weights"}
    changed = experiment.change(methods={"agreeing": agreeing, "averaged": averaged})
    found, run = findings._chosen(changed), changed.run
    csqa, obqa = (students.student_temperature(run, "agreeing", "alpaca", test) for test in ("csqa", "obqa"))
    assert csqa != obqa
    assert found["agreeing"]["alpaca"] == f"student's T = {csqa:.3g} on CSQA, {obqa:.3g} on OBQA"
    share = json.loads((changed.student("averaged", "csqa") / "share.json").read_text())["share"]
    assert found["averaged"]["csqa"] == f"{share:g} of its own weights"
    assert "of its own weights</td>" in sections.chosen(found)


def test_ranks_in_both_readings(experiment):
    found = experiment.predictions("teacher", "csqa", "csqa")
    mean, right = figures.ranks(found, "candidates")
    assert mean.sum() == pytest.approx(1)
    assert right.sum() == pytest.approx(1)
    assert right[0] == found.correct().mean()
    assert (np.diff(mean) <= 0).all()
    for ours, theirs in zip(figures.ranks(found, "vocabulary"), found.by_rank(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# -- provenance ------------------------------------------------------------------------------------------------


@pytest.fixture
def without_explorer(monkeypatch):
    """Leaves out the slow part of a report."""
    monkeypatch.setattr(findings, "_explorer", lambda experiment: None)


def test_the_pipeline_lists_the_stages_that_the_report_uses(experiment, report, without_explorer):
    own, coefficient = experiment.student("first", "csqa").name, experiment.coefficient("csqa")
    line = f'<td class="text"><code>{own}</code></td>'
    assert f'<td class="text">student on CSQA: Eq. 4, c = {coefficient:g} (FIRST)</td>{line}' in report
    stray = experiment.change(student__lora__rank=2, student__tuning="lora").student("fine-tune", "csqa")
    _, provenance = collect(experiment)
    folders = [one.folder for one in provenance.stages]
    assert own in folders
    assert stray.name not in folders


def test_methods_that_share_a_student_are_listed_together(other):
    recorder = Recorder()
    watched = recorder.watch(other)
    folder = watched.student("first", "csqa").name
    assert watched.student("mine", "csqa").name == folder
    watched.predictions("mine", "csqa", "csqa")
    lines = stage_lines(recorder.manifests(), {folder: ["first", "mine"]})
    assert "student on CSQA: Eq. 4, c = 0.5 (FIRST, mine)" in [one.description for one in lines]
    answers, _, asked = lines[-1].description.partition(", by the ")
    assert re.fullmatch(r"answers to CSQA, test split, logits divided by T = [\d.]+", answers)
    assert asked == "student on CSQA: Eq. 4, c = 0.5 (FIRST, mine)"


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("teacher-csqa-without-fold-1-of-4", "teacher on CSQA, without fold 1 of 4"),
        ("knowledge-boolq-train-top5", "the teacher's top 5 on BoolQ, train split"),
        ("knowledge-csqa-train-top5-cross-fitted-4", "top 5 on CSQA from 4 cross-fitted teachers"),
        ("knowledge-csqa-fold-0-of-4", "top k on CSQA, fold 0 of 4, from the teacher without it"),
        ("predictions-base-student-on-obqa-test", "answers of the base student to OBQA, test split"),
        ("predictions-teacher-csqa-on-csqa-validation", "answers to CSQA, validation split"),
        ("something-else", "something-else"),
    ],
)
def test_descriptions_of_stages(stage, words):
    assert describe({"stage": stage, "key": "0", "inputs": {}}, {}) == words


def test_a_description_names_what_differs_from_the_paper():
    inputs = {"map": "logit-temperature", "coefficient": 1.4, "tail": "ghost", "student": "full",
              "knowledge": "knowledge-csqa-train-top5-cross-fitted-4-0", "model": {"tuning": "lora"}}  # fmt: skip
    found = describe({"stage": "student-logit-temperature-csqa", "key": "0", "inputs": inputs}, {})
    assert found == "student on CSQA: logit temperature, T = 1.4, tail ghost, cross-fitted knowledge, LoRA"


def test_a_sealed_report_computes_nothing(tiny_preset, tmp_path):
    empty = Experiment(str(tiny_preset), 0, str(tmp_path))
    with pytest.raises(UserError, match="is missing; run again"):
        write_report(empty.sealed())
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not (empty.folder / "report.html").exists()


def test_a_sealed_report_of_a_finished_run(experiment, report, without_explorer):
    before = sorted(path.name for path in experiment.folder.iterdir())
    sealed = experiment.sealed()
    assert write_report(sealed) == experiment.folder / "report.html"
    assert sorted(path.name for path in experiment.folder.iterdir()) == before
    assert sealed.run.artefacts.on_get is None


def test_free_answers_give_no_case_study(experiment, without_explorer):
    found, provenance = collect(experiment)
    assert "figure-case" in page.contents(found, provenance)["case"]
    assert "free text" in page.contents(replace(found, case=None), provenance)["case"]
