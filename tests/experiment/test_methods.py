"""A method is data: with one entry in a preset's YAML, every part of the library uses it."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from firstlib import Experiment, figures, metrics
from firstlib.cli.commands import app
from firstlib.experiment import coefficients, students, summary, teachers
from firstlib.explorer import starting
from firstlib.results import table, tables
from firstlib.results.comparison import compare
from firstlib.results.export import export_student
from firstlib.results.report import write_report
from firstlib.results.verify import verify
from firstlib.runtime.errors import UserError

NEW = "softer"  # a name that the library does not contain
METHODS = f"""
methods:
  fine-tune: {{learns: answers}}
  {NEW}: {{learns: top-k, map: logit-temperature, coefficient: validation-nll, afterwards: student-temperature}}
"""


@pytest.fixture(scope="module")
def preset(tiny_preset_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("methods") / "mine.yaml"
    path.write_text(tiny_preset_file.read_text() + METHODS)
    return path


@pytest.fixture(scope="module")
def experiment(preset):
    made = Experiment(str(preset), run_folder=str(preset.parent / "runs"))
    made.results()
    return made


def test_results_include_the_method(experiment):
    content = json.loads((experiment.folder / "results.json").read_text())
    assert {row["method"] for row in content["rows"]} == {"teacher", "fine-tune", NEW}
    assert content["methods"][NEW]["settings"]["map"] == "logit-temperature"
    assert content["coefficients"] == content["methods"][NEW]["coefficients"]
    assert all(value > 0 for value in content["methods"][NEW]["temperatures"].values())


def test_results_hold_a_temperature_for_each_test_set(experiment):
    agreeing = {"learns": "answers", "afterwards": "agreement-temperature"}
    run = experiment.change(methods={"agreeing": agreeing}).run
    expected = {
        train: {test: students.student_temperature(run, "agreeing", train, test) for test in tests}
        for train, tests in {"csqa": ("csqa",), "alpaca": ("csqa", "obqa")}.items()
    }
    assert summary.made(run, "agreeing") == {"settings": agreeing, "temperatures": expected}
    assert len({1, *expected["alpaca"].values()}) == 3, "both are fitted"


def test_tables_show_the_method(experiment):
    assert NEW in table.of_rows(experiment.rows()).frame().index
    assert NEW in table.of_rows(experiment.rows()).markdown()
    assert NEW in set(tables.uncertainty(experiment)["method"])
    assert tables.method_data(experiment).loc[NEW, "coefficient"] == "validation-nll"
    console = Console(width=80, file=StringIO())
    console.print(table.of_comparison(compare(experiment)).terminal())
    assert NEW in console.file.getvalue()


def test_every_figure_of_methods_draws_the_method(experiment):
    task = experiment.main_task
    found = {name: experiment.predictions(name, task, task) for name in experiment.methods}
    drawn = [
        figures.trust_plane(experiment.rows()),
        figures.reliability_diagrams({name: one.reliability() for name, one in found.items()}),
        figures.losses({name: experiment.losses(name, task) for name in experiment.settings.methods}),
        figures.rank_probabilities({name: one.by_rank() for name, one in found.items()}),
        figures.selective_accuracy(
            {name: metrics.selective_accuracy(one.confidence(), one.correct()) for name, one in found.items()}
        ),
    ]
    assert all(NEW in figure.to_json() for figure in drawn)


def test_the_explorer_opens_on_the_method(experiment):
    state = starting(experiment)
    assert state.kind == "logit-temperature"
    assert state.coefficient == experiment.coefficient(experiment.main_task, NEW)


def test_the_report_lists_the_method(experiment):
    page = write_report(experiment).read_text()
    assert page.count(NEW) > 2


def test_the_card_describes_the_method(experiment, tmp_path):
    card = (export_student(experiment, NEW, experiment.main_task, tmp_path / "student") / "README.md").read_text()
    assert "logit-temperature" in card
    temperature = students.student_temperature(experiment.run, NEW, experiment.main_task)
    assert f"{temperature:g}"[:4] in card


def test_the_command_line_makes_exports_and_shows_the_method(experiment, preset, tmp_path):
    run = CliRunner()
    options = ["--preset", str(preset), "--runs", str(preset.parent / "runs")]
    for words in (["stage", NEW, "csqa"], ["export", NEW, "csqa", "--to", str(tmp_path / "out")], ["table"]):
        done = run.invoke(app, [*words, *options])
        assert done.exit_code == 0, done.output
    assert NEW in done.output


def test_verify_recomputes_its_numbers(experiment):
    assert verify(experiment) > 50
    file = experiment.folder / "results.json"
    written = file.read_text()
    content = json.loads(written)
    [row] = [place for place, row in enumerate(content["rows"]) if row["method"] == NEW][:1]
    content["rows"][row]["nll"] += 1e-3
    file.write_text(json.dumps(content))
    try:
        with pytest.raises(UserError, match=rf"results\.json: rows/{row}/nll is .*, but the kept answers give"):
            verify(experiment)
    finally:
        file.write_text(written)


def test_methods_that_differ_only_afterwards_share_a_student(experiment):
    changed = experiment.change(methods__plain={"learns": "top-k", "map": "logit-temperature"})
    c = experiment.coefficient("csqa", NEW)
    changed = changed.change(methods__plain__coefficient=c)
    assert changed.student("plain", "csqa") == experiment.student(NEW, "csqa")
    plain, tempered = (changed.predictions(name, "csqa", "csqa") for name in ("plain", NEW))
    np.testing.assert_array_equal(plain.predicted(), tempered.predicted())
    temperature = students.student_temperature(experiment.run, NEW, "csqa")
    power = plain.shares() ** (1 / temperature)
    np.testing.assert_allclose(tempered.shares(), power / power.sum(1, keepdims=True), rtol=1e-3)


def test_a_student_temperature_does_not_raise_validation_nll(experiment):
    changed = experiment.change(**{f"methods__{NEW}__afterwards": None})
    before, after = (one.predictions(NEW, "csqa", "csqa", "validation") for one in (changed, experiment))
    assert metrics.nll(after.shares(), after.answer) <= metrics.nll(before.shares(), before.answer) + 1e-6


# -- cross-fitted and exact --------------------------------------------------------------------------------------


def test_no_teacher_answers_an_example_that_it_was_trained_on(experiment):
    run, folds = experiment.run, 3
    examples = experiment.run.data.encoded("csqa", "train", "teacher")
    by_fold = {example.id: teachers.fold_of(example.id, folds) for example in examples}
    store = teachers.cross_fitted_knowledge(run, "csqa", folds)
    assert {item.example_id for item in store} == set(by_fold)
    for fold in range(folds):
        part = teachers._knowledge_of_fold(run, "csqa", fold, folds)
        assert {item.example_id for item in part} == {name for name, of in by_fold.items() if of == fold}
        for item in part:
            np.testing.assert_array_equal(store[item.example_id].probabilities, item.probabilities)
        trained = json.loads((teachers.fold_teacher(run, "csqa", fold, folds) / "manifest.json").read_text())
        assert trained["inputs"]["data"] == {
            "all": run.data.hash("csqa", "train"),
            "without fold": fold,
            "folds": folds,
        }


def test_cross_fitted_students_search_on_all_fold_teachers_answers(experiment):
    method = {"learns": "top-k", "knowledge": "cross-fitted", "folds": 3, "map": "temperature"}
    changed = experiment.change(methods__crossed=method)
    asked = coefficients.target_answers(changed.run, changed.settings.methods["crossed"], "csqa", "validation")
    assert len(asked) == 3 * len(experiment.questions("csqa", "validation"))
    assert changed.student("crossed", "csqa") != experiment.student(NEW, "csqa")
    assert 0 < changed.coefficient("csqa", "crossed") <= 1


def test_an_exact_temperature_is_one_of_those_stored(experiment):
    changed = experiment.change(
        knowledge__temperatures=(1.0, 1.5, 2.0),
        methods__exact={"learns": "top-k", "map": "exact-temperature", "tail": "ghost"},
    )
    search = changed.search("csqa", "exact")
    assert search.coarse[:, 0].tolist() == [1.0, 1.5, 2.0]
    inputs = students.student_inputs(changed.run, "exact", "csqa").targets
    item = next(iter(inputs.store))
    expected = item.at_temperature(inputs.coefficient, (1.0, 1.5, 2.0))
    np.testing.assert_allclose(expected.sum(1) <= 1 + 1e-6, True)
    assert changed.student("exact", "csqa").is_dir()


def test_more_folds_than_examples_can_fill_are_refused(experiment):
    few = experiment.change(sizes__train=4)
    with pytest.raises(UserError, match="folds: csqa has too few training examples for 20 folds; lower it"):
        teachers.cross_fitted_knowledge(few.run, "csqa", 20)
