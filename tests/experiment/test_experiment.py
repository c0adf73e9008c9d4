"""The whole pipeline on a tiny preset: what a run reports, what it keeps, and what it does not repeat."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from firstlib import Experiment, knowledge
from firstlib.distillation import training
from firstlib.distillation.recalibration import temperature
from firstlib.experiment import coefficients, data, students
from firstlib.metrics import accuracy, brier, ece, nll
from firstlib.models import loading as models
from firstlib.runtime.errors import UserError

METHODS = ("teacher", "fine-tune", "distill", "label-smoothing", "first")
COLUMNS = [
    {"setting": "in-domain", "train": "csqa", "test": ["csqa"]},
    {"setting": "out-of-domain", "train": "alpaca", "test": ["csqa", "obqa"]},
]


@pytest.fixture(scope="module")
def open_run(base_folder, tmp_path_factory):
    """Opens an experiment on a preset with 24 training questions, in the shared run folder or in another."""
    home = tmp_path_factory.mktemp("experiment")
    content = {
        "columns": COLUMNS,
        "sizes": {"train": 24, "validation": 20, "test": 16},
        "teacher": {"base": str(base_folder)},
        "student": {"base": str(base_folder)},
        "training": {"epochs": 1, "global_batch_size": 8, "teacher_learning_rate": 1e-2, "student_learning_rate": 1e-2},
    }
    preset = home / "tiny.yaml"
    preset.write_text(yaml.safe_dump(content))

    def open_run(folder="shared", **arguments):
        return Experiment(str(preset), run_folder=str(home / folder), **arguments)

    return open_run


@pytest.fixture(scope="module")
def finished(open_run):
    experiment = open_run()
    return experiment, experiment.results()


def stages(experiment):
    """The modification time of every file of every stage."""
    return {
        p: p.stat().st_mtime_ns for p in experiment.folder.glob("*-*/**/*") if p.is_file() and "cache" not in p.parts
    }


def new_stages(experiment, before):
    return {path.name.rpartition("-")[0] for path in set(experiment.folder.glob("*-*")) - before}


# -- what a run reports ------------------------------------------------------------------------------------------


def test_results_have_the_documented_fields(finished):
    experiment, content = finished
    assert experiment.methods == METHODS
    assert {"preset", "seed", "coefficients", "rows"} <= set(content)
    assert (content["preset"], content["seed"]) == ("tiny", 0)
    assert set(content["coefficients"]) == {"csqa", "alpaca"}
    assert all(0 < c <= 1 for c in content["coefficients"].values())
    keys = {"method", "setting", "dataset", "n", "accuracy", "ece", "trust", "nll", "brier", "confidence", "aurc"}
    keys |= {"kl", "excess_nll", "calibration_error", "overconfidence"}  # the microworld knows the truth
    assert all(set(row) == keys for row in content["rows"])
    found = [(row["setting"], row["dataset"], row["method"]) for row in content["rows"]]
    expected = [("in-domain", "csqa"), ("out-of-domain", "csqa"), ("out-of-domain", "obqa")]
    assert found == [(*column, method) for column in expected for method in METHODS]
    for row in content["rows"]:
        assert row["n"] == 16
        assert 0 <= row["accuracy"] <= 1
        assert 0 <= row["ece"] <= 1
        assert row["trust"] == pytest.approx(row["accuracy"] - row["ece"])
        assert row["nll"] > 0
        assert 0 <= row["brier"] <= 2


def test_results_are_written_as_plain_json(finished):
    experiment, content = finished
    text = (experiment.folder / "results.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(content))
    assert "NaN" not in text
    assert experiment.folder.parts[-2:] == ("tiny", "seed-0")


def test_a_row_follows_from_its_predictions(finished):
    experiment, content = finished
    row = content["rows"][-1]  # FIRST, trained on alpaca, tested on obqa
    found = experiment.predictions("first", "alpaca", "obqa")
    assert found.question_id.tolist() == [q.id for q in experiment.questions("obqa")]
    assert row["accuracy"] == accuracy(found.correct())
    assert row["ece"] == ece(found.confidence(), found.correct())
    assert row["nll"] == nll(found.shares(), found.answer)
    assert row["brier"] == brier(found.shares(), found.answer)


def test_the_other_reading_of_confidence_changes_only_what_follows_from_it(finished):
    _, content = finished
    for one, other in zip(content["rows"], content["rows_by_vocabulary"], strict=True):
        assert {
            k: v for k, v in one.items() if k not in ("ece", "trust", "confidence", "aurc")
        }.items() <= other.items()
    assert [r["ece"] for r in content["rows"]] != [r["ece"] for r in content["rows_by_vocabulary"]]


def test_coverage_is_the_mass_of_the_stored_top(finished):
    experiment, content = finished
    stored = experiment.knowledge("csqa").all_probabilities()
    assert content["coverage"]["csqa"] == {
        "top-1": pytest.approx(stored[:, 0].mean()),
        "top-5": pytest.approx(stored.sum(1).mean()),
    }
    assert 0 < content["coverage"]["csqa"]["top-1"] < content["coverage"]["csqa"]["top-5"] <= 1.001


def test_base_models_are_reported_too(finished):
    experiment, content = finished
    assert [(r["role"], r["dataset"]) for r in content["base"]] == [
        (role, task) for role in ("teacher", "student") for task in ("csqa", "obqa")
    ]
    assert content["base"][0]["accuracy"] == accuracy(experiment.base_predictions("teacher", "csqa").correct())


# -- the stages --------------------------------------------------------------------------------------------------


def test_the_loss_of_every_training_step_is_kept(finished):
    experiment, _ = finished
    for method in METHODS:
        losses = experiment.losses(method, "csqa")
        assert len(losses) == 3  # 24 questions in batches of 8
        assert all(np.isfinite(losses))


def test_students_differ_by_method(finished):
    """The teacher equals the fine-tuned student here: same base, same data, same learning rate."""
    experiment, _ = finished
    teacher, *answers = [experiment.predictions(m, "csqa", "csqa").probabilities for m in METHODS]
    np.testing.assert_array_equal(teacher, answers[0])
    for i, one in enumerate(answers):
        assert not any(np.array_equal(one, other) for other in answers[:i])


def test_the_targets_of_each_method(finished):
    experiment, content = finished

    def targets(of, method):
        found = students.student_inputs(of.run, method, "csqa").targets
        return found.map, found.coefficient

    assert targets(experiment, "distill") == ("none", 0.0)
    assert targets(experiment, "label-smoothing") == ("label-smoothing", 0.1)
    assert targets(experiment, "first") == ("temperature", content["coefficients"]["csqa"])
    own = experiment.change(methods__first__coefficient=0.7, methods__first__map="logit-temperature")
    assert targets(own, "first") == ("logit-temperature", 0.7)
    assert students.student_inputs(experiment.run, "fine-tune", "csqa").targets is None


def target(experiment, method="first", task="csqa"):
    """The first arguments of `target_ece`."""
    return experiment.run, experiment.settings.methods[method], task


def test_the_coefficient_has_the_lowest_validation_ece(finished):
    experiment, content = finished
    search = experiment.search("csqa")
    tried = np.concatenate([search.coarse, search.fine])
    assert len(search.coarse) == 10
    assert search.best == content["coefficients"]["csqa"]
    assert coefficients.target_ece(*target(experiment), "validation", search.best) == tried[:, 1].min()
    found = experiment.predictions("teacher", "csqa", "csqa", "validation")
    moved = found.under(temperature(found.top_probabilities, 0.3))
    at = tried[np.isclose(tried[:, 0], 0.3)][0, 1]
    assert at == ece(moved.confidence(), moved.correct())


def test_the_knowledge_stored_at_the_answer_is_the_teachers_answer(finished):
    """Extraction and asking give the same distribution."""
    experiment, _ = finished
    stored = experiment.answer_probabilities("csqa", k=5)
    asked = experiment.predictions("teacher", "csqa", "csqa", "train")
    np.testing.assert_allclose(stored, asked.top_probabilities, rtol=1e-3, atol=1e-6)


def test_any_question_can_be_asked(finished):
    experiment, _ = finished
    found = experiment.ask("first", "alpaca", experiment.questions("obqa")[3:5])
    kept = experiment.predictions("first", "alpaca", "obqa")
    np.testing.assert_allclose(found.probabilities, kept.probabilities[3:5], rtol=1e-4)


def test_an_unknown_method_is_reported(finished):
    with pytest.raises(UserError, match=r"method: must be one of fine-tune, .*, not 'magic'"):
        finished[0].student("magic", "csqa")


# -- nothing is repeated -----------------------------------------------------------------------------------------


def test_a_second_experiment_computes_nothing(finished, open_run, monkeypatch):
    experiment, content = finished
    before = stages(experiment)
    for place, name in (
        (training, "_train"),
        (knowledge, "extract_top_k"),
        (models, "load_base"),
        (models, "load_trained"),
        (data, "encode_on_disk"),
        (data, "encode_questions"),
    ):
        monkeypatch.setattr(place, name, None)
    assert open_run().results() == content
    assert stages(experiment) == before


def test_log_normalisers_are_kept_where_the_settings_ask(finished):
    experiment, _ = finished
    store = experiment.change(knowledge__temperatures=(1.0, 2.0)).knowledge("csqa")
    assert store.origin.temperatures == (1.0, 2.0)
    assert all(item.log_normalisers.shape == (len(item.position), 2) for item in store)


STUDENT, ANSWERS = "student-top-k-csqa", "predictions-student-top-k-csqa-on-csqa-test"


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"methods__distill__student": "renormalised"}, {STUDENT, ANSWERS}),
        ({"methods__first__coefficient": 0.55}, set()),
        ({"measures__bins": 4}, set()),
        ({"sizes__test": 12}, {ANSWERS}),
        ({"knowledge__k": 4}, {"knowledge-csqa-train-top4", STUDENT, ANSWERS}),
        ({"training__epochs": 2}, {"teacher-csqa", "knowledge-csqa-train-top5", STUDENT, ANSWERS}),
    ],
)
def test_a_change_remakes_only_what_depends_on_it(finished, changes, made):
    experiment, _ = finished
    before = set(experiment.folder.glob("*-*"))
    experiment.change(**changes).predictions("distill", "csqa", "csqa")
    assert new_stages(experiment, before) == made


def test_another_coefficient_remakes_only_first(finished):
    experiment, content = finished
    changed = experiment.change(methods__first__coefficient=content["coefficients"]["csqa"] + 0.005)
    before = set(experiment.folder.glob("*-*"))
    for method in METHODS:
        changed.predictions(method, "csqa", "csqa")
    assert new_stages(experiment, before) == {
        "student-temperature-csqa",
        "predictions-student-temperature-csqa-on-csqa-test",
    }


def test_a_change_leaves_the_original_experiment_unchanged(finished):
    experiment, _ = finished
    changed = experiment.change(sizes__test=4)
    assert (len(changed.questions("csqa")), len(experiment.questions("csqa"))) == (4, 16)
    assert experiment.settings.sizes.test == 16


def test_another_seed_gives_other_data_in_another_folder(open_run, finished):
    one, two = finished[0], open_run(seed=1)
    assert two.folder.name == "seed-1"
    assert [q.prompt for q in one.questions("csqa")] != [q.prompt for q in two.questions("csqa")]
    assert two.questions("csqa") == open_run(seed=1).questions("csqa")


def test_a_stopped_stage_leaves_nothing_incomplete(open_run, monkeypatch):
    experiment = open_run("stopped")
    tune = training.fine_tune

    def stop(*arguments):
        tune(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fine_tune", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment.teacher("csqa")
    assert experiment.run.artefacts.manifests() == []
    assert not list(experiment.folder.glob("teacher-*"))
    monkeypatch.setattr(training, "fine_tune", tune)
    again = open_run("stopped").teacher("csqa")
    assert {"manifest.json", "model.safetensors", "losses.json"} <= {path.name for path in again.iterdir()}
    assert len(experiment.run.artefacts.manifests()) == 1


# -- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"preset": 7}, "preset: must be text, not 7"),
        ({"preset": None}, "preset: must be text"),
        ({"preset": "nowhere"}, "no such preset"),
        ({"seed": "0"}, "seed: must be a whole number, not '0'"),
        ({"seed": 1.5}, "seed: must be a whole number"),
        ({"seed": True}, "seed: must be a whole number"),
        ({"seed": -1}, "seed: must be from 0 to"),
        ({"seed": 2**32}, "seed: must be from 0 to 4294967295"),
        ({"run_folder": 7}, "run_folder: must be text"),
        ({"overrides": "training.epochs=1"}, "overrides: must be a list of texts"),
        ({"overrides": [1]}, "overrides: must be a list of texts"),
        ({"overrides": 5}, "overrides: must be a list of texts"),
        ({"overrides": ["training.epoch=1"]}, "did you mean 'epochs'"),
    ],
)
def test_wrong_parameters_are_reported_in_one_line(arguments, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        Experiment(**{"preset": "smoke", **arguments})
    assert "\n" not in str(error.value)


def test_overrides_may_be_any_iterable(open_run):
    texts = ["training.epochs=2"]
    listed, generated = open_run(overrides=texts), open_run(overrides=(text for text in texts))
    assert listed.settings.training.epochs == generated.settings.training.epochs == 2
    assert listed.folder == generated.folder != open_run().folder


def test_an_experiment_shows_its_preset_and_seed(open_run):
    assert repr(open_run(seed=3)).endswith("tiny.yaml', seed=3)")


def test_training_is_logged_where_the_settings_say(open_run):
    """TensorBoard shows the loss, and accuracy, ECE and Trust on validation."""
    experiment = open_run("watched").change(training__eval_steps=2, training__report_to=["tensorboard"])
    folder = experiment.teacher("csqa")
    events = EventAccumulator(str(next((experiment.folder / "logs" / "teacher-csqa").rglob("events.*")).parent))
    events.Reload()
    shown = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert shown["train/loss"] == [1, 2, 3]
    assert shown["eval/accuracy"] == shown["eval/ece"] == shown["eval/trust"] == [2, 3]
    final = experiment.predictions("teacher", "csqa", "csqa", "validation")
    assert events.Scalars("eval/ece")[-1].value == pytest.approx(ece(final.confidence(), final.correct()), abs=1e-6)
    assert open_run("watched").teacher("csqa") == folder  # logging does not change what is learnt


def test_a_coefficient_chosen_by_hand_is_kept_and_used(open_run):
    experiment = open_run("by hand")
    searched = experiment.coefficient("csqa")
    experiment.choose("csqa", 0.77)
    again = open_run("by hand")
    assert (again.coefficient("csqa"), again.coefficient("alpaca")) == (0.77, again.search("alpaca").best)
    assert again.change(methods__first__coefficient=0.5).coefficient("csqa") == 0.5
    other = again.change(**{"methods__first-logit": {"learns": "top-k", "map": "logit-temperature"}})
    assert other.coefficient("csqa", "first-logit") == other.search("csqa", "first-logit").best
    assert other.coefficient("csqa", "first") == 0.77
    again.choose("csqa", None)
    assert open_run("by hand").coefficient("csqa") == searched


def test_a_coefficient_chosen_for_another_teacher_is_refused_naming_both(tiny_preset, tmp_path):
    def opened():
        return Experiment(str(tiny_preset), run_folder=str(tmp_path))

    opened().choose("csqa", 0.77)
    before = opened().teacher("csqa").name
    tiny_preset.write_text(tiny_preset.read_text().replace("epochs: 1", "epochs: 2"))
    now = opened().teacher("csqa").name
    with pytest.raises(UserError, match=rf"chosen for csqa with {before}, and the settings now give {now}"):
        opened().coefficient("csqa")


@pytest.mark.parametrize(
    ("method", "complaint"), [("nope", "must be one of"), ("label-smoothing", "the preset gives label-smoothing 0.1")]
)
def test_a_method_without_a_coefficient_to_choose_is_refused(open_run, method, complaint):
    with pytest.raises(UserError, match=complaint):
        open_run().choose("csqa", 0.3, method)


@pytest.mark.parametrize(
    ("task", "coefficient"),
    [("csqa", 0), ("csqa", -1.0), ("csqa", float("nan")), ("csqa", float("inf")), ("obqa", 0.3)],
)
def test_an_invalid_coefficient_is_refused(open_run, task, coefficient):
    with pytest.raises(UserError, match="must be above 0"):
        open_run("by hand").choose(task, coefficient)


def test_more_tokens_than_the_teacher_has_are_refused_before_anything_is_made(open_run):
    experiment = open_run("too many").change(knowledge__k=5000)
    with pytest.raises(UserError, match=r"knowledge\.k: 5000, but the teacher has \d+ tokens"):
        experiment.teacher("csqa")


def test_a_damaged_choice_is_reported(tiny_preset, tmp_path):
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    experiment.choose("csqa", 0.5)
    (experiment.folder / "chosen.json").write_text("{")
    with pytest.raises(UserError, match=r"chosen\.json: is damaged; remove it"):
        experiment.coefficient("csqa")


def test_a_choice_for_a_removed_method_is_reported(tiny_preset, tmp_path):
    """Earlier versions kept choices by map; these are refused, not ignored."""
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    experiment.folder.mkdir(parents=True)
    old = {"csqa": {"temperature": {"coefficient": 0.5, "knowledge": "teacher-csqa-0"}}}
    (experiment.folder / "chosen.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"chosen\.json: 'temperature' is no method of this run; remove it"):
        experiment.coefficient("csqa")


# -- a stage's inputs are read once ------------------------------------------------------------------------------


def test_a_student_is_trained_with_the_coefficient_in_its_manifest(open_run, monkeypatch):
    """A choice made after a student's inputs were read does not change them."""
    experiment = open_run("read once")
    experiment.choose("csqa", 0.4)
    inputs = students.student_inputs(experiment.run, "first", "csqa")
    experiment.choose("csqa", 0.9)
    assert inputs.targets.coefficient == inputs.content()["coefficient"] == 0.4
    calls = []
    read = coefficients.all_chosen
    monkeypatch.setattr(coefficients, "all_chosen", lambda run: calls.append(1) or read(run))
    folder = experiment.student("first", "csqa")
    assert len(calls) == 1
    assert json.loads((folder / "manifest.json").read_text())["inputs"]["coefficient"] == 0.9


def test_the_number_of_threads_reaches_torch_while_a_stage_is_made(open_run):
    before = torch.get_num_threads()
    for threads in (1, 2):
        folder = open_run("threads").change(threads=threads).teacher("csqa")
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["threads"] == manifest["inputs"]["threads"] == threads
    assert torch.get_num_threads() == before


def test_another_base_brings_its_own_tokenizer_and_context(open_run, bytes_folder):
    experiment = open_run()
    changed = experiment.change(student__base=str(bytes_folder), teacher__base=str(bytes_folder))
    assert len(changed.tokenizer()) != len(experiment.tokenizer())
    text = experiment.questions("csqa")[0].prompt
    assert changed.run.data.source._tokenizer()(text).input_ids == changed.tokenizer()(text).input_ids
    assert experiment.run.data.source._tokenizer()(text).input_ids == experiment.tokenizer()(text).input_ids


def test_a_shared_vocabulary_that_splits_differently_is_refused(open_run, base_folder, tmp_path):
    """Tokens and ids are the same, but the teacher begins every text with one more token."""
    other = tmp_path / "other"
    shutil.copytree(base_folder, other)
    content = json.loads((other / "tokenizer.json").read_text())
    content["post_processor"]["single"].insert(0, content["post_processor"]["single"][0])
    (other / "tokenizer.json").write_text(json.dumps(content))
    experiment = open_run("split").change(teacher__base=str(other))
    with pytest.raises(
        UserError, match=r"teacher and student: example .* of csqa is \d+ tokens to the teacher and \d+"
    ):
        experiment.student("distill", "csqa")


def test_a_sealed_experiment_makes_and_writes_nothing(open_run):
    experiment = open_run("sealed").sealed()
    with pytest.raises(UserError, match=r"teacher-csqa-.* is missing; run again"):
        experiment.results()
    assert not experiment.folder.exists()


def test_the_public_interface_stays_small():
    public = [name for name in vars(Experiment) if not name.startswith("_")]
    assert len(public) <= 25


def test_importing_the_package_does_not_import_torch():
    code = "import sys, firstlib; assert 'torch' not in sys.modules; from firstlib import Experiment; print(Experiment)"
    assert (
        "Experiment" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def test_a_withdrawn_choice_leaves_nothing_behind(tiny_preset, tmp_path):
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    experiment.choose("csqa", 0.5)
    experiment.choose("csqa", None)
    assert json.loads((experiment.folder / "chosen.json").read_text()) == {"csqa": {}}
    without = experiment.change(methods={"mine": {"learns": "top-k", "map": "logit-temperature"}})
    assert without.coefficient("csqa") == without.search("csqa").best


def test_an_exact_temperature_that_is_not_stored_cannot_be_chosen(tiny_preset, tmp_path):
    overrides = ["knowledge.temperatures=[1.0, 2.0]", "methods.exact={learns: top-k, map: exact-temperature}"]
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path), overrides=overrides)
    with pytest.raises(UserError, match=r"must be a stored temperature, \[1.0, 2.0\], not 1.5"):
        experiment.choose("csqa", 1.5, "exact")
    experiment.choose("csqa", 2.0, "exact")
    assert experiment.coefficient("csqa", "exact") == 2.0
