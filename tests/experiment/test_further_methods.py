"""Methods beyond the paper: each entry trains a student and does what its fields say."""

import json

import numpy as np
import pytest
import torch

from firstlib import Experiment
from firstlib.experiment import answers, coefficients, stages, students, summary, teachers
from firstlib.knowledge import distributions
from firstlib.models import loading
from firstlib.planning.work import FLOPS_TO_ASK, flops_to_train, training_flops
from firstlib.results.cost import cost
from firstlib.results.export import export_student
from firstlib.results.mechanism import mechanism

METHODS = {
    "fine-tune": {"learns": "answers"},
    "smoothed": {"learns": "answers", "map": "label-smoothing", "coefficient": 0.2},
    "agreeing": {"learns": "answers", "afterwards": "agreement-temperature"},
    "averaged": {"learns": "answers", "afterwards": "base-weights"},
    "averaged-adapter": {"learns": "answers", "tuning": "lora", "afterwards": "base-weights"},
    "one": {"learns": "top-k", "k": 1},
    "sampled": {"learns": "top-k", "knowledge": "sampled", "k": 8},
    "ensemble": {"learns": "top-k", "knowledge": "ensemble", "members": 2, "map": "temperature"},
    "distill": {"learns": "top-k"},
    "everywhere": {"learns": "top-k", "map": "temperature", "coefficient": 0.5},
    "answers": {"learns": "top-k", "map": "temperature", "coefficient": 0.5, "where": "answers"},
    "uncertain": {"learns": "top-k", "map": "temperature", "coefficient": 0.5, "where": "uncertain"},
    "cross": {"learns": "top-k", "map": "temperature", "coefficient": "cross-fitted-ece", "folds": 4},
    "pilot": {"learns": "top-k", "map": "logit-temperature", "coefficient": "student-ece"},
}


@pytest.fixture(scope="module")
def experiment(tiny_preset_file, tmp_path_factory):
    made = Experiment(str(tiny_preset_file), run_folder=str(tmp_path_factory.mktemp("further")))
    return made.change(
        methods={name: of for name, of in METHODS.items() if name != "cross"},
        columns=[{"setting": "in-domain", "train": "csqa", "test": ["csqa"]}],
    )


@pytest.fixture(scope="module")
def crossed(experiment):
    del METHODS["cross"]["folds"]
    return experiment.change(methods={"cross": METHODS["cross"]})


def targets_of(experiment, name):
    inputs = students.student_inputs(experiment.run, name, "csqa")
    return list(stages.soft_targets_of(inputs.targets, inputs.examples()))


def test_every_method_has_a_line_in_the_results(experiment):
    rows = summary.rows(experiment.run)
    assert [row.method for row in rows] == list(experiment.methods)
    assert all(np.isfinite(row.scores.nll) for row in rows)


def test_label_smoothed_fine_tuning_is_another_student(experiment):
    plain, smoothed = (students.student_inputs(experiment.run, name, "csqa") for name in ("fine-tune", "smoothed"))
    assert smoothed.content() == {**plain.content(), "smoothing": 0.2}
    assert experiment.losses("smoothed", "csqa")[0] != experiment.losses("fine-tune", "csqa")[0]


def test_a_method_has_its_own_k(experiment):
    assert {targets.token_ids.shape[1] for targets in targets_of(experiment, "one")} == {1}
    assert {targets.token_ids.shape[1] for targets in targets_of(experiment, "distill")} == {5}
    np.testing.assert_allclose(targets_of(experiment, "one")[0].probabilities, 1)


def test_a_method_has_its_own_teacher(experiment, base_folder):
    other = experiment.change(methods={"other": {"learns": "top-k", "teacher": str(base_folder)}})
    assert other.settings.under(other.settings.methods["other"]) == other.settings
    inputs = other.settings.under(other.settings.methods["other"].model_copy(update={"teacher": "elsewhere"}))
    assert inputs.teacher.base == "elsewhere"


def test_sampled_knowledge_is_drawn_again_alike(experiment):
    run = experiment.run.under(experiment.settings.under(experiment.settings.methods["sampled"]))
    for item in teachers.sampled_knowledge(run, "csqa"):
        np.testing.assert_allclose(item.probabilities * 8, (item.probabilities * 8).round(), atol=1e-2)
        np.testing.assert_allclose(item.probabilities.sum(1), 1, atol=1e-3)
        assert all(len(set(row)) == 8 for row in item.token_ids.tolist())


def test_draws_do_not_depend_on_how_many_positions_are_held_at_once(experiment, monkeypatch):
    run, model = experiment.run, loading.load_base(experiment.settings.teacher).eval()
    examples = run.data.encoded("csqa", "train", "teacher")[:4]

    def drawn():
        found = distributions.extract_sampled(model, examples, 8, vocabulary=run.data.vocabulary("teacher"), seed=0)
        return [(one.token_ids.tolist(), one.probabilities.tolist()) for one in found]

    whole = drawn()
    monkeypatch.setattr(distributions, "CHUNK", 1)
    assert drawn() == whole


def test_an_ensembles_cost_holds_all_its_members(experiment):
    run, training = experiment.run, experiment.settings.training
    tokens = sum(len(one.token_ids) for one in run.data.encoded("csqa", "train", "teacher"))
    parameters = loading.parameter_count(run.data.model("teacher"))
    adapter = flops_to_train(run.settings.teacher.model_copy(update={"tuning": "lora"}), training)
    members = 2 * training_flops(parameters, tokens, training.epochs, adapter)
    reading = 2 * FLOPS_TO_ASK * parameters * tokens
    student = cost(experiment, "fine-tune", "csqa").flops
    mean = experiment.change(methods={"mean": {"learns": "top-k", "knowledge": "ensemble", "members": 2}})
    assert cost(mean, "mean", "csqa").flops == pytest.approx(student + members + reading)


def test_confidence_is_followed_through_an_exact_temperature(experiment):
    exact = {"learns": "top-k", "map": "exact-temperature"}
    changed = experiment.change(methods={"exact": exact}, knowledge__temperatures=[1.0, 2.0])
    found = mechanism(changed.run, "exact", "csqa")
    assert found.coefficient in (1.0, 2.0)
    assert 0 < found.targets_validation.confidence <= 1


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"student__dtype": "bfloat16"}, False),
        ({"student__tuning": "qlora"}, False),
        ({"training__mixed_precision": "bf16"}, False),
        ({"student__tuning": "lora"}, True),
    ],
)
def test_a_base_models_answers_are_kept_by_its_number_format(experiment, changes, same):
    def content(one):
        return answers.answer_inputs(one.run, "student", one.run.data.model("student"), None, "csqa", "test").content()

    assert (content(experiment.change(**changes)) == content(experiment)) is same


def test_an_ensembles_answers_are_the_mean_of_its_members(experiment):
    run, method = experiment.run, experiment.settings.methods["ensemble"]
    asked = coefficients.target_answers(run, method, "csqa", "validation")
    model = run.settings.teacher.model_copy(update={"tuning": "lora"})
    members = [
        loading.load_trained(model, teachers.ensemble_member(run, "csqa", member)) for member in range(method.members)
    ]
    stem, _ = run.data.encoded_questions("csqa", "validation", "teacher")[0]
    with torch.inference_mode():
        mean = torch.stack([one(torch.tensor([stem])).logits[0, -1].softmax(-1) for one in members]).mean(0)
    top = mean.topk(5)
    np.testing.assert_allclose(asked.top_probabilities[0], top.values.numpy(), rtol=2e-3)
    assert teachers.ensemble_member(run, "csqa", 0) != teachers.ensemble_member(run, "csqa", 1)


def test_a_map_applies_to_answers_alone(experiment):
    plain, mapped, answers = (targets_of(experiment, name) for name in ("distill", "everywhere", "answers"))
    stems = experiment.run.data.encoded_questions("csqa", "train", "teacher")
    for (stem, _), before, everywhere, after in zip(stems, plain, mapped, answers, strict=True):
        at = after.position == len(stem)
        assert at.sum() == 1
        np.testing.assert_array_equal(after.probabilities[at], everywhere.probabilities[at])
        np.testing.assert_array_equal(after.probabilities[~at], before.probabilities[~at])


def test_a_map_applies_to_uncertain_positions_alone(experiment):
    plain, mapped, uncertain = (targets_of(experiment, name) for name in ("distill", "everywhere", "uncertain"))
    store = experiment.knowledge("csqa")
    for before, everywhere, after in zip(plain, mapped, uncertain, strict=True):
        item = store[after.example.id]
        for row, entropy in enumerate(item.entropy()):
            expected = everywhere if entropy > 0.1 else before
            np.testing.assert_array_equal(after.probabilities[row], expected.probabilities[row])


def test_a_coefficient_fitted_out_of_fold_sees_every_training_question_once(crossed):
    method = crossed.settings.methods["cross"]
    asked = coefficients.answers_to_fit(crossed.run, method, "csqa")
    assert asked.question_id.tolist() == [one.id for one in crossed.questions("csqa", "train")]
    assert 0 < crossed.coefficient("csqa", "cross") <= 1


def test_a_pilot_students_coefficient_has_the_lowest_validation_ece(experiment):
    found = experiment.search("csqa", "pilot")
    assert found.coarse[:, 0].tolist() == list(students.PILOT_TEMPERATURES)
    assert experiment.coefficient("csqa", "pilot") == found.best
    lowest = found.coarse[:, 1].min()
    assert found.coarse[found.coarse[:, 0] == found.best, 1] == lowest


def test_an_agreement_temperature_reads_no_label(experiment, monkeypatch):
    before = students.student_temperature(experiment.run, "agreeing", "csqa", "csqa")
    tuned = experiment.change(methods__agreeing__afterwards=None).predictions("agreeing", "csqa", "csqa", "validation")
    shuffled = type(tuned)(**{**tuned.as_dict(), "answer": np.roll(tuned.answer, 1)})
    monkeypatch.setattr(students, "_answers", lambda *arguments: shuffled)
    assert students.student_temperature(experiment.run, "agreeing", "csqa", "csqa") == before
    assert before != 1


def test_averaged_weights_lie_between_base_and_student(experiment):
    folder = experiment.student("averaged", "csqa")
    share = json.loads((folder / "share.json").read_text())
    assert share["share"] == float(min(share["nll"], key=share["nll"].__getitem__))
    assert summary.made(experiment.run, "averaged")["shares"] == {"csqa": share["share"]}
    base, tuned = (
        loading.load_base(experiment.settings.student),
        loading.load_trained(experiment.settings.student, experiment.student("fine-tune", "csqa")),
    )
    ours = loading.load_trained(experiment.settings.student, folder)
    for start, end, between in zip(base.parameters(), tuned.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(between, start + share["share"] * (end - start))


def test_a_stopped_search_for_the_share_asks_only_what_is_missing(experiment, monkeypatch):
    fresh, asked, answer = experiment.change(training__student_learning_rate=1e-4), [], stages.answer
    students.student_answers(fresh.run, "fine-tune", "csqa", "csqa", "validation")

    def stops_at_the_third(inputs):
        asked.append(inputs.share)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer(inputs)

    monkeypatch.setattr(stages, "answer", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        fresh.student("averaged", "csqa")
    fresh.student("averaged", "csqa")
    assert asked == [*students.SHARES[:3], *students.SHARES[2:-1]], "the last is the student itself, asked before"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("averaged", "moved .* % of the way"),
        ("averaged-adapter", "moved .* % of the way"),
        ("agreeing", "unlabelled questions"),
        ("sampled", "8 tokens drawn from its distribution"),
        ("ensemble", "the mean of 2 models"),
        ("answers", "the token that names the choice"),
        ("uncertain", "entropy is over 0.1 nats"),
        ("pilot", "a student trained for one epoch the lowest ECE"),
    ],
)
def test_the_card_says_how_the_student_was_made(experiment, tmp_path, name, words):
    import re

    card = (export_student(experiment, name, "csqa", tmp_path / "student") / "README.md").read_text()
    assert re.search(words, " ".join(card.split()))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"learns": "answers", "k": 2}, "k: means something only with learns: top-k"),
        ({"learns": "top-k", "members": 3}, "members: means something only with knowledge: ensemble"),
        ({"learns": "top-k", "where": "answers"}, "where: means something only with a map"),
        ({"learns": "top-k", "knowledge": "sampled", "map": "temperature"}, "sampled knowledge may lack"),
        ({"learns": "top-k", "map": "label-smoothing", "k": 1}, "at least two tokens"),
    ],
)
def test_fields_that_do_not_fit_are_refused(experiment, fields, complaint):
    with pytest.raises(Exception, match=complaint):
        experiment.change(methods={"wrong": fields})
