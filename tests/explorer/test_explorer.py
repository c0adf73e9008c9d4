"""The widget shows what `compute` returns, for every setting of its controls."""

import json
import time
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from firstlib import Experiment, metrics
from firstlib.distillation.options import Tail
from firstlib.distillation.recalibration import Map
from firstlib.evaluation.predictions import Predictions
from firstlib.experiment import coefficients
from firstlib.experiment.data import RunData
from firstlib.explorer import (
    ExperimentSource,
    QuestionText,
    State,
    TemperatureExplorer,
    compute,
    drawing,
    positions,
    starting,
    static,
)
from firstlib.explorer.measures import MEASURES
from firstlib.explorer.state import MAPS
from firstlib.figures.output import CONFIG
from firstlib.runtime.artefacts import check
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import CHOSEN

SCRIPT = "<script>alert(1)</script>"


def answers(n, seed=0, c=5):
    """Over-confident answers to n questions with c candidates; the top c tokens are kept."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(c, 0.3), n)
    order = np.argsort(-probabilities, axis=1)
    right = [random.choice(c, p=0.6 * row + 0.4 / c) for row in probabilities]
    return Predictions(
        question_id=np.array([f"question-{row}" for row in range(n)]),
        candidate_ids=np.tile(np.arange(c), (n, 1)),
        probabilities=probabilities,
        answer=np.array(right),
        top_ids=order,
        top_probabilities=np.take_along_axis(probabilities, order, axis=1),
        posterior=np.full((n, c), np.nan),
        log_normalisers=np.zeros((n, 0)),
    )


class ArraySource:
    """A source backed by arrays: answers per task and split, and optionally a student's answers."""

    def __init__(self, answers, vocabulary, students=None, texts=None):
        self.vocabulary = vocabulary
        self._answers, self._students, self._texts = answers, students or {}, texts or {}

    def answers(self, task, split):
        return self._answers[task, split]

    def asked(self, task, split, row):
        if (task, split) in self._texts:
            return self._texts[task, split][row]
        found = self._answers[task, split]
        count = int(np.sum(found.candidate_ids[row] >= 0))
        return QuestionText(str(found.question_id[row]), tuple(f"choice {number + 1}" for number in range(count)))

    def tokens(self, token_ids):
        return [str(int(i)) for i in token_ids]

    def student(self, task, split):
        return self._students.get((task, split))


def source_of(n=400, **parts):
    both = {("csqa", split): answers(n, seed) for seed, split in enumerate(("validation", "test"))}
    return ArraySource(both, vocabulary=100, **parts)


@pytest.fixture(scope="module")
def source():
    return source_of()


@pytest.fixture(scope="module")
def experiment(tiny_preset_file, tmp_path_factory):
    return Experiment(str(tiny_preset_file), 0, str(tmp_path_factory.mktemp("runs")))


def three():
    """Three hand-made questions with two candidates; the top two hold 0.9 of the mass, and the last answer is wrong."""
    top = np.array([[0.8, 0.1], [0.6, 0.3], [0.5, 0.4]])
    ids = np.array([[0, 1]] * 3)
    names = np.array(["a", "b", "c"])
    return Predictions(names, ids, top, np.array([0, 0, 1]), ids, top, np.full((3, 2), np.nan), np.zeros((3, 0)))


def by_hand(**state):
    given = {"kind": Map.LABEL_SMOOTHING, "coefficient": 0.1, "reading": "vocabulary", **state}
    both = {("csqa", "validation"): three(), ("csqa", "test"): three()}
    return compute(ArraySource(both, vocabulary=12), State("csqa", **given))


# -- the numbers -----------------------------------------------------------------------------------------------


def test_every_measure_equals_the_metrics_module(source):
    state = State("csqa", coefficient=0.4, bins=20)
    view = compute(source, state)
    before = source.answers("csqa", "validation")
    weights = np.exp(before.probabilities / 0.4)  # Eq. 4, with all candidates kept
    shares = weights / weights.sum(axis=1, keepdims=True)
    confidence, correct = shares.max(axis=1), shares.argmax(axis=1) == before.answer
    found = view.measures
    assert found.ece == pytest.approx(metrics.ece(confidence, correct, 20), abs=1e-12)
    assert found.smooth_ece == pytest.approx(metrics.smooth_ece(confidence, correct), abs=1e-12)
    assert found.nll == pytest.approx(metrics.nll(shares, before.answer), abs=1e-12)
    assert found.brier == pytest.approx(metrics.brier(shares, before.answer), abs=1e-12)
    assert found.trust == found.accuracy - found.ece
    assert view.floor.mean == pytest.approx(metrics.noise_floor(confidence, 20).mean, rel=0.05)


def test_intervals_are_clopper_pearson(source):
    view = compute(source, State("csqa"))
    count = view.reliability.count
    filled = np.flatnonzero(count)
    right = np.rint(view.reliability.accuracy[filled] * count[filled])
    low, high = metrics.clopper_pearson(right, count[filled])
    np.testing.assert_array_equal(view.low[filled], low)
    np.testing.assert_array_equal(view.high[filled], high)
    assert (view.high[count == 0] - view.low[count == 0]).tolist() == [1.0] * int((count == 0).sum())


@pytest.mark.parametrize("kind", list(MAPS.values()))
def test_each_curve_contains_the_current_value_and_marks_its_optimum(source, kind):
    view = compute(source, State("csqa", kind=kind, coefficient=float(positions(kind)[0])))
    for name in MEASURES:
        curve = getattr(view.curves, name)
        assert curve[0] == getattr(view.measures, name)
        best = view.curves.best(name)
        assert view.curves.at(name, best) == (curve.max() if name == "trust" else curve.min())


def test_the_gap_compares_validation_with_test(source):
    view = compute(source, State("csqa", split="test"))
    gap = view.gap
    at = {split: compute(source, State("csqa", split, coefficient=gap.coefficient)) for split in ("validation", "test")}
    assert gap.validation == at["validation"].measures.ece
    assert gap.test == at["test"].measures.ece
    assert gap.optimism == gap.test - gap.validation
    assert gap.best == view.curves.ece.min() <= gap.test
    np.testing.assert_array_equal(view.other, at["validation"].curves.ece)


def test_each_tail_policy_handles_the_residual_of_label_smoothing():
    assert by_hand().example.after.tolist() == pytest.approx([0.7, 0.2])
    mean = {tail: float(np.nansum((v := by_hand(tail=tail).reliability).weight * v.confidence)) for tail in Tail}
    assert mean[Tail.DROP] == mean[Tail.GHOST] == pytest.approx((0.7 + 0.5 + 0.5) / 3)  # last: the second leads
    assert mean[Tail.RENORMALISE] == pytest.approx((0.7 + 0.5 + 0.5) / 2.7)
    assert mean[Tail.SMOOTH] == mean[Tail.DROP]  # both candidates are among the two
    assert mean[Tail.GOLD] == pytest.approx((0.8 + 0.6 + 0.6) / 3)


def test_smooth_gives_a_candidate_outside_the_top_its_share_of_the_residual():
    given = three()
    ids = np.array([[0, 5]] * 3)
    both = {("csqa", split): replace(given, candidate_ids=ids) for split in ("validation", "test")}
    state = State("csqa", kind=Map.LABEL_SMOOTHING, coefficient=0.1, reading="vocabulary")
    view = compute(ArraySource(both, vocabulary=12), replace(state, tail=Tail.SMOOTH))
    assert view.example.target[1] == pytest.approx(0.01 / 0.71)  # 0.1 spread over ten other tokens, next to 0.7
    left_out = compute(ArraySource(both, vocabulary=12), state)
    assert (left_out.measures.ruled_out, view.measures.ruled_out) == (1, 0)
    assert left_out.measures.nll == pytest.approx(-(np.log(0.7) + np.log(0.5)) / 2)


@pytest.mark.alone
def test_an_update_on_ten_thousand_questions_looks_instantaneous():
    source = source_of(10_000)
    compute(source, State("csqa"))
    took = []
    for coefficient in (0.32, 0.34, 0.36, 0.38, 0.4):
        started = time.process_time()
        compute(source, State("csqa", coefficient=coefficient))
        took.append(time.process_time() - started)
    assert min(took) < 0.1  # seconds; shorter delays look instantaneous


# -- single questions ------------------------------------------------------------------------------------------


def test_a_bin_lists_its_questions_with_teacher_and_student_side_by_side():
    students = {("csqa", "validation"): answers(400, seed=7)}
    texts = {("csqa", "validation"): [QuestionText(f"Which? {SCRIPT}", tuple(SCRIPT + str(i) for i in range(5)))] * 400}
    source = source_of(students=students, texts=texts)
    view = compute(source, State("csqa", coefficient=0.3, bin=6))
    assert view.in_bin == view.reliability.count[6] >= len(view.listed) > 0
    for one in view.listed:
        assert 0.6 < one.confidence <= 0.7
        before = source.answers("csqa", "validation")
        np.testing.assert_allclose(one.teacher, before.shares()[one.row])
        np.testing.assert_allclose(one.student, students["csqa", "validation"].shares()[one.row])
        weights = np.exp(before.top_probabilities[one.row] / 0.3)
        np.testing.assert_allclose(one.after, weights / weights.sum())
        assert one.target.max() == pytest.approx(one.confidence)
        assert one.correct == (one.target.argmax() == before.answer[one.row])


def target_ece(experiment, task, split, coefficient):
    run = experiment.run
    return coefficients.target_ece(run, run.settings.methods["first"], task, split, coefficient)


def students_of(experiment):
    return list(experiment.folder.glob("student-*"))


def test_an_experiment_is_a_source_and_never_trains_a_student(experiment):
    source = ExperimentSource(experiment)
    view = compute(source, State("csqa", bin=2, coefficient=0.5))
    assert view.measures.ece == target_ece(experiment, "csqa", "validation", 0.5)
    assert view.gap.coefficient == experiment.search("csqa").best
    assert source.student("csqa", "validation") is None
    assert students_of(experiment) == []
    question = experiment.questions("csqa", "validation")[0]
    assert view.example.text == question.prompt + question.lead
    assert view.example.choices[0] == f"{question.candidates[0].strip()} {question.choices[0]}"
    experiment.student("first", "csqa")
    assert ExperimentSource(experiment, ask=False).student("csqa", "validation") is None
    found = source.student("csqa", "validation")  # the same source, which found no student before
    np.testing.assert_array_equal(
        found.probabilities, experiment.predictions("first", "csqa", "csqa", "validation").probabilities
    )
    stored = ExperimentSource(experiment, ask=False).student("csqa", "validation")
    np.testing.assert_array_equal(stored.probabilities, found.probabilities)
    assert len(students_of(experiment)) == 1


def test_the_student_belongs_to_the_current_coefficient(experiment):
    experiment.student("first", "csqa")
    source = ExperimentSource(experiment)
    assert source.student("csqa", "validation") is not None
    other = 0.9 if experiment.coefficient("csqa") < 0.5 else 0.1
    experiment.choose("csqa", other)
    assert source.student("csqa", "validation") is None
    (experiment.folder / CHOSEN).unlink()
    assert source.student("csqa", "validation") is not None


def test_a_damaged_student_is_an_error(experiment):
    weights = experiment.student("first", "csqa") / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    check.cache_clear()  # as in a new process
    with pytest.raises(UserError, match=r"model.safetensors was changed after it was made; remove"):
        ExperimentSource(experiment).student("csqa", "validation")
    weights.write_bytes(before)
    check.cache_clear()


def test_free_text_is_shown_up_to_the_position(tiny_preset_file, tmp_path, monkeypatch):
    monkeypatch.setattr(RunData, "has_candidates", lambda data, task, split="test": task != "alpaca")
    experiment = Experiment(str(tiny_preset_file), 0, str(tmp_path))
    source = ExperimentSource(experiment)
    found = source.answers("alpaca", "validation")
    name, position = str(found.question_id[3]).rsplit(":", 1)
    example = next(one for one in experiment.run.data.encoded("alpaca", "validation", "teacher") if one.id == name)
    asked = source.asked("alpaca", "validation", 3)
    assert asked.text == experiment.tokenizer().decode(list(example.token_ids[: int(position)]))
    assert list(asked.choices) == source.tokens([i for i in found.candidate_ids[3] if i >= 0])
    assert compute(source, State("alpaca", example=3)).example.text == asked.text


# -- other methods ---------------------------------------------------------------------------------------------


def test_without_a_temperature_there_is_nothing_to_explore(experiment):
    plain = experiment.change(methods={"fine-tune": {"learns": "answers"}, "distill": {"learns": "top-k"}})
    for opening in (ExperimentSource, TemperatureExplorer, starting, static):
        with pytest.raises(UserError, match="none of fine-tune, distill has one; add a method") as caught:
            opening(plain)
        assert "\n" not in str(caught.value)


def test_an_exact_temperature_opens_on_the_logit_temperature(experiment):
    exact = experiment.change(
        knowledge__temperatures=(1.0, 1.5, 2.0), methods={"exact": {"learns": "top-k", "map": "exact-temperature"}}
    )
    assert (starting(exact).kind, starting(exact).coefficient) == (Map.LOGIT_TEMPERATURE, exact.coefficient("csqa"))
    explorer = TemperatureExplorer(exact)
    assert Map.EXACT_TEMPERATURE not in dict(explorer.menus["kind"].options).values()
    assert explorer.button.disabled
    assert explorer.button.tooltip == "notebook 05 distils exact with the map exact-temperature"


def test_a_coefficient_fixed_by_the_preset_cannot_be_changed_by_hand(experiment):
    method = {"learns": "top-k", "map": "temperature", "coefficient": 1.7}
    explorer = TemperatureExplorer(experiment.change(methods={"mine": method}))
    assert (explorer.state.coefficient, explorer.coefficient.value, explorer.state.tail) == (1.7, 1.7, Tail.DROP)
    assert explorer.button.disabled
    assert explorer.button.tooltip == "the preset gives mine the coefficient 1.7"


def test_cross_fitted_knowledge_shows_the_fold_teachers_answers(experiment):
    method = {"learns": "top-k", "map": "temperature", "knowledge": "cross-fitted", "folds": 2}
    crossed = experiment.change(methods={"crossed": method})
    source, questions = ExperimentSource(crossed), experiment.questions("csqa", "validation")
    view = compute(source, starting(crossed))
    assert view.measures.n == 2 * len(questions)
    assert view.gap.coefficient == crossed.search("csqa").best
    row = len(questions) + 3
    assert source.asked("csqa", "validation", row) == source.asked("csqa", "validation", 3)
    assert source.answers("csqa", "validation").question_id[row] == questions[3].id
    crossed.student("crossed", "csqa")
    student = source.student("csqa", "validation")
    assert student.question_id.tolist() == source.answers("csqa", "validation").question_id.tolist()


# -- the controls ----------------------------------------------------------------------------------------------


def test_the_slider_uses_the_fine_grid():
    np.testing.assert_allclose(positions(Map.TEMPERATURE), np.arange(1, 51) / 50)
    assert positions(Map.NONE).tolist() == [1.0]


def test_a_new_map_resets_the_coefficient_and_new_bins_clear_the_selection():
    state = State("csqa", bin=4, example=3)
    assert state.change(kind=Map.LOGIT_TEMPERATURE).coefficient == 1.5
    assert state.change(kind=Map.TEMPERATURE, coefficient=0.8).coefficient == 0.8
    assert state.change(bins=20).bin is None
    assert (state.change(split="test").bin, state.change(split="test").example) == (None, 0)


def shown(figure):
    return [(trace.name, trace.to_plotly_json()) for trace in figure.data]


def settings():
    return [
        ("coefficient", 0.72), ("bin", 4), ("task", "alpaca"), ("split", "test"), ("reading", "vocabulary"),
        ("kind", Map.LABEL_SMOOTHING), ("tail", Tail.GOLD), ("bins", 20), ("example", 3), ("bin", 2),
        ("kind", Map.LOGIT_TEMPERATURE), ("kind", Map.NONE), ("kind", Map.TEMPERATURE), ("coefficient", 0.02),
    ]  # fmt: skip


def test_the_widget_follows_its_controls(experiment):
    explorer = TemperatureExplorer(experiment)
    controls = {**explorer.menus, "coefficient": explorer.coefficient, "bin": explorer.bin, "example": explorer.example}
    for name, value in settings():
        expected = explorer.state.change(**{name: value})
        controls[name].value = value
        assert explorer.state == expected
        assert {key: control.value for key, control in controls.items()} == {
            key: getattr(expected, key) for key in controls
        }
        view = compute(explorer.source, expected)
        assert f'data-measure="ece">{view.measures.ece:.2%}<' in explorer.numbers.value
        fresh = drawing.draw(view)
        for (name_is, is_), (name_be, be) in zip(shown(explorer.figure), shown(fresh), strict=True):
            is_.pop("uid", None)
            assert (name_is, json.dumps(is_, default=list)) == (name_be, json.dumps(be, default=list))
        assert [note.text for note in explorer.figure.layout.annotations] == drawing.titles(view)


def test_the_figure_is_complete_when_it_opens(experiment, monkeypatch):
    """A slow page draws what it has by then: without traces, and with plotly's mode bar."""
    opened, really_open = [], go.FigureWidget.open

    def open_(self):
        opened.append(self.get_state())
        really_open(self)

    monkeypatch.setattr(go.FigureWidget, "open", open_)
    explorer = TemperatureExplorer(experiment)
    (state,) = opened
    assert state["_config"] == CONFIG
    assert [trace["name"] for trace in state["_widget_data"]] == [trace.name for trace in explorer.figure.data]
    assert state["_widget_layout"]["annotations"]


def test_a_dragged_slider_is_not_moved_back(experiment):
    explorer = TemperatureExplorer(experiment)
    sent = []
    explorer.coefficient.observe(lambda change: sent.append(change["new"]), "value")
    explorer.coefficient.value = 0.5800000000000001
    assert explorer.state.coefficient == 0.58
    assert sent == [0.5800000000000001]


def test_an_unselected_bin_is_labelled_none(experiment):
    explorer = TemperatureExplorer(experiment)
    assert explorer.bin.label == "none"
    explorer.bin.value = 3
    explorer.menus["bins"].value = 20
    assert (explorer.state.bin, explorer.bin.label, len(explorer.bin.options)) == (None, "none", 21)
    explorer.bin.value = 3
    explorer.bin.index = 0
    assert explorer.state.bin is None


def test_a_click_selects_a_bin(experiment):
    explorer = TemperatureExplorer(experiment)
    bar = next(trace for trace in explorer.figure.data if trace.name == drawing.CLICKED)
    points = type("Points", (), {"point_inds": [3]})()
    explorer._clicked(bar, points, None)
    assert explorer.state.bin == 3
    assert explorer.view.in_bin == explorer.view.reliability.count[3]


def test_the_button_uses_the_coefficient_of_the_experiments_own_map(experiment):
    used = []
    explorer = TemperatureExplorer(experiment, use=lambda task, c: used.append((task, c)))
    explorer.coefficient.value = 0.6200000000000001  # a rounding error, as sliders produce
    explorer.button.click()
    assert used == [("csqa", 0.62)]
    explorer.menus["kind"].value = Map.LOGIT_TEMPERATURE
    assert explorer.button.disabled


def test_question_text_is_escaped(experiment):
    explorer = TemperatureExplorer(experiment)
    texts = {("csqa", split): [QuestionText(SCRIPT, (SCRIPT,) * 5)] * 400 for split in ("validation", "test")}
    explorer.source = source_of(texts=texts)
    explorer.go(State("csqa", bin=5))
    assert explorer.view.listed
    assert "&lt;script&gt;" in explorer.questions.value
    assert "<script" not in explorer.questions.value


def test_the_static_version_is_the_same_figure(experiment):
    explorer = TemperatureExplorer(experiment)
    assert static(experiment).to_json() == drawing.draw(explorer.view).to_json()


def test_the_narrow_layout_has_the_same_traces(source):
    view = compute(source, State("csqa"))
    wide, narrow = drawing.draw(view), drawing.draw(view, drawing.NARROW)
    assert shown(wide) == shown(narrow)
    lefts = {axis.domain[0] for axis in narrow.select_xaxes()}
    assert lefts == {0}
