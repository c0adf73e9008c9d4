"""The study's cells: which there are, what one computes, and that it resumes."""

import json
from collections import Counter

import numpy as np
import pytest

from firstlib.experiment import students
from firstlib.results import study
from firstlib.results.study import Cell
from firstlib.runtime.errors import UserError
from firstlib.settings.loading import load_preset
from scripts import study as program

TINY = {
    "fine-tune": {"learns": "answers"},
    "distill": {"learns": "top-k"},
    "first": {"learns": "top-k", "map": "temperature"},
    "first-c1.0": {"learns": "top-k", "map": "temperature", "coefficient": 1.0},
    "distill+T": {"learns": "top-k", "afterwards": "student-temperature"},
}


@pytest.fixture(scope="module")
def kept(tiny_preset_file, tmp_path_factory):
    """A finished cell on tiny models, and its content."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("study")
    patch.setattr(study, "RUNS", str(folder / "runs"))
    patch.setattr(study, "KEPT", folder)
    changes = {"methods": TINY, "columns": [study.MAP_COLUMNS["csqa"]]}
    cell = Cell("tiny", 0, changes, mechanism=True, preset=str(tiny_preset_file), predicts=True)
    yield cell, study.compute(cell)
    patch.undo()


def test_a_method_measured_beside_nothing_needs_no_teacher(kept, tiny_preset_file):
    whole, _ = kept
    cell = Cell("alone", 0, whole.changes, ("fine-tune",), (), preset=str(tiny_preset_file))
    content = study.compute(cell)
    assert {row["method"] for row in content["rows"]} == {"fine-tune"} == set(content["methods"])
    assert {row["method"] for row in content["intervals"]} == {"base student", "fine-tune"}
    assert content["prediction"] is None
    assert study.is_complete(cell)


def test_the_study_has_the_cells_of_its_plan():
    names = [cell.name for cells in study.GROUPS.values() for cell in cells()]
    assert max(Counter(names).values()) == 1
    counts = {group: len(list(cells())) for group, cells in study.GROUPS.items()}
    assert counts["seeds"] == 10
    assert counts["map"] == 3 * 2 * 5 * 4
    assert study.cell_of("map-csqa-8x400-seed-1").changes["training__epochs"] == 8


def test_every_cell_names_methods_that_its_experiment_has():
    for cell in (cell for of_group in study.GROUPS.values() for cell in of_group()):
        assert set(cell.methods) <= set(load_preset(cell.preset).all_methods)
    measured = {name for cell in [*study.seed_cells(), *study.beyond_cells()] for name in cell.methods}
    assert measured == set(load_preset("microworld").beyond)


def test_exact_temperatures_can_be_chosen_from_what_is_stored():
    settings = study.cell_of("microworld-exact-seed-1").experiment().settings
    assert settings.knowledge.temperatures == study.EXACT_TEMPERATURES
    assert settings.methods["first-exact"].map == "exact-temperature"


def test_data_and_weights_have_seeds_of_their_own():
    data, weights = study.cell_of("microworld-data-3"), study.cell_of("microworld-weights-3")
    for split in ("train", "test"):
        ours, theirs = (
            one.experiment().questions("csqa", split)[0] for one in (data, study.cell_of("microworld-seed-3"))
        )
        assert ours == theirs
    first = study.cell_of("microworld-seed-0").experiment()
    assert weights.experiment().questions("csqa")[0] == first.questions("csqa")[0]
    inputs = [students.student_inputs(one.experiment().run, "fine-tune", "csqa") for one in (data, weights)]
    assert [one.seed for one in inputs] == [0, 3]
    assert inputs[0].data != inputs[1].data


def test_a_cell_keeps_rows_choices_and_costs(kept):
    cell, content = kept
    assert json.loads(cell.file.read_text()) == json.loads(json.dumps(content))
    assert [row["method"] for row in content["rows"]] == ["teacher", *TINY]
    assert all({"trust", "nll", "brier", "aurc", "kl", "excess_nll"} <= row.keys() for row in content["rows"])
    assert content["methods"]["first-c1.0"]["coefficients"] == {"csqa": 1.0}
    assert content["methods"]["distill+T"]["temperatures"]["csqa"] > 0


def test_what_the_map_says_is_noted_before_a_student_is_trained(kept):
    cell, content = kept
    note = cell.file.with_name("tiny-prediction.json")
    assert json.loads(note.read_text()) == content["prediction"]
    assert content["prediction"]["gains"] == {}  # no map is kept in this folder
    students = list(cell.experiment().folder.glob("student-*/manifest.json"))
    assert students
    assert note.stat().st_mtime < min(path.stat().st_mtime for path in students)


def test_a_cell_with_one_seed_has_intervals_over_questions(kept):
    _, content = kept
    assert {"base student", "first"} <= {one["method"] for one in content["intervals"]}
    assert all(one["low"] <= one["ece"] <= one["high"] for one in content["intervals"] if one["method"] == "first")


def test_a_students_cost_holds_its_teachers(kept):
    _, content = kept
    of = {name: costs["csqa"] for name, costs in content["cost"].items()}
    assert of["distill"]["flops"] > of["teacher"]["flops"] > 0
    assert of["distill"]["flops"] > of["fine-tune"]["flops"]
    assert of["distill"]["total_seconds"] > of["distill"]["seconds"] > 0
    assert of["fine-tune"]["knowledge_bytes"] == 0 < of["distill"]["knowledge_bytes"] < 200
    assert of["distill"]["flops"] == pytest.approx(of["teacher"]["flops"] * (1 + 1 / 3) + of["fine-tune"]["flops"])


def test_a_mechanism_goes_from_teacher_to_student(kept):
    cell, content = kept
    found = {one["method"]: one for one in content["mechanism"]}
    assert set(found) == {"distill", "first", "first-c1.0"}
    direct, flat = found["distill"], found["first-c1.0"]
    assert direct["teacher_train"] == flat["teacher_train"]
    assert flat["targets_train"]["confidence"] <= direct["targets_train"]["confidence"]
    experiment = cell.experiment()
    answers = experiment.predictions("first", "csqa", "csqa")
    assert found["first"]["student_test"]["confidence"] == pytest.approx(answers.confidence().mean())
    store = experiment.answer_probabilities("csqa", experiment.settings.knowledge.k)
    assert direct["teacher_train"]["accuracy"] <= 1
    assert len(store) == len(experiment.questions("csqa", "train"))


def test_finished_cells_are_not_computed_again(kept, monkeypatch):
    cell, _ = kept
    other = Cell("other", 1)
    monkeypatch.setitem(study.GROUPS, "tiny", lambda: iter([cell, other]))
    assert program.missing(["tiny"]) == [other]
    assert study.kept("tiny")[0]["name"] == "tiny"


def test_a_kept_cell_that_lacks_a_method_is_computed_again(kept, monkeypatch):
    cell, content = kept
    assert study.is_complete(cell)
    without = {**content, "rows": [row for row in content["rows"] if row["method"] != "first"]}
    text = cell.file.read_text(encoding="utf-8")
    try:
        cell.file.write_text(json.dumps(without), encoding="utf-8")
        monkeypatch.setitem(study.GROUPS, "tiny", lambda: iter([cell]))
        assert program.missing(["tiny"]) == [cell]
    finally:
        cell.file.write_text(text, encoding="utf-8")


def test_a_cell_runs_in_a_process_of_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(program.subprocess, "run", lambda command, **_: asked.append(command) or Failing())
    with pytest.raises(SystemExit, match="failed: a, b; run again to resume"):
        program.compute([Cell("a", 0), Cell("b", 0)], jobs=2)
    assert sorted(command[-2:] for command in asked) == [["--here", "a"], ["--here", "b"]]


class Failing:
    returncode = 1


def test_what_a_cell_lacks_is_told_in_one_line(monkeypatch):
    def lacking(cell):
        raise UserError("base model 'half': no folder")

    monkeypatch.setattr(study, "compute", lacking)
    with pytest.raises(SystemExit, match=r"^a: base model .half.: no folder$"):
        program.compute_here([Cell("a", 0), Cell("b", 0)])


def test_an_unknown_cell_is_named():
    with pytest.raises(
        SystemExit, match="nonsense: no such cell or group; the groups are seeds, spread, beyond, out-of-domain"
    ):
        program.missing(["nonsense"])


def test_effects_of_coefficients_by_hand():
    first = {"settings": {"learns": "top-k", "map": "temperature"}, "coefficients": {"csqa": 0.3}}
    fixed = {"settings": {**first["settings"], "coefficient": 0.1}, "coefficients": {"csqa": 0.1}}
    lora = {"settings": {**first["settings"], "tuning": "lora"}, "coefficients": {"csqa": 0.3}}
    errors = {"first": 0.02, "first-c0.1": 0.05, "first-lora": 0.9}
    rows = [{"method": name, "ece": error} for name, error in errors.items()]
    run = {"seed": 4, "rows": rows, "methods": {"first": first, "first-c0.1": fixed, "first-lora": lora}}
    curves, best = study.coefficient_effects([run])
    assert best == {"seed 4": 0.3}
    np.testing.assert_array_equal(curves["seed 4"], [[0.1, 0.05], [0.3, 0.02]])


def test_pretrained_cells_of_long_examples_ask_fewer_questions_and_train_fewer_students():
    short, long = (study.cell_of(f"pretrained-{study.PAIR}-{task}-seed-0") for task in ("csqa", "boolq"))
    assert "fine-tune-base-weights" in short.methods
    assert set(short.methods) - set(long.methods) == {"first-logit", "fine-tune-base-weights", "distill-base-weights"}
    assert short.experiment().settings.sizes.test == 1000
    assert long.experiment().settings.sizes.test == 300


def test_the_pairs_other_seeds_differ_in_their_seed_alone_and_are_not_those_of_its_table():
    cells = list(study.pretrained_seed_cells())
    changes = [cell.changes for cell in cells]
    assert changes == [changes[0]] * len(cells)
    assert len({0, *(cell.seed for cell in cells)}) == len(cells) + 1 >= 3
    assert not {cell.name for cell in cells} & {cell.name for cell in study.pretrained_cells()}
    assert {cell.experiment().settings.training.mixed_precision for cell in cells} == {"bf16"}
