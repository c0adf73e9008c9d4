"""Smaller questions put to a finished experiment."""

import json

import numpy as np
import pytest
import yaml

from firstlib.evaluation import scores
from firstlib.experiment.experiment import Experiment
from firstlib.metrics import ece
from firstlib.results import studies
from firstlib.settings.schema import METHODS


@pytest.fixture(scope="module")
def experiment(base_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("studies")
    content = {
        "columns": [{"setting": "in-domain", "train": "csqa", "test": ["csqa"]}],
        "sizes": {"train": 16, "validation": 20, "test": 12},
        "teacher": {"base": str(base_folder)},
        "student": {"base": str(base_folder)},
        "training": {"epochs": 1, "global_batch_size": 8, "teacher_learning_rate": 1e-2, "student_learning_rate": 1e-2},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(content))
    return Experiment(str(home / "tiny.yaml"), run_folder=str(home))


def test_each_coefficient_makes_its_own_student(experiment):
    found = studies.coefficient_effect(experiment, "csqa", (0.1, 1.0))
    assert found[:, 0].tolist() == [0.1, 1.0]
    students = [experiment.change(recalibration__coefficient=c).predictions("first", "csqa", "csqa") for c in (0.1, 1)]
    assert found[:, 1].tolist() == [ece(s.confidence(), s.correct()) for s in students]
    assert not np.array_equal(students[0].probabilities, students[1].probabilities)


def test_the_effect_is_read_as_the_settings_say(experiment):
    changed = experiment.change(measures__confidence="vocabulary", measures__bins=3)
    [[_, found]] = studies.coefficient_effect(changed, "csqa", (0.1,))
    student = experiment.change(recalibration__coefficient=0.1).predictions("first", "csqa", "csqa")
    assert found == ece(student.confidence("vocabulary"), student.correct(), 3)


def test_a_case_is_one_question_and_every_models_shares(experiment):
    case = studies.case(experiment, "csqa", number=3)
    assert case.question == experiment.questions("csqa")[3]
    assert list(case.shares) == list(METHODS)
    for method, shares in case.shares.items():
        assert shares.sum() == pytest.approx(1)
        np.testing.assert_array_equal(shares, experiment.predictions(method, "csqa", "csqa").shares()[3])


def test_hopeless_questions_have_no_right_choice_and_are_the_same_every_time(experiment):
    questions = studies.hopeless_questions(experiment, "csqa", count=5)
    originals = experiment.questions("csqa")[:5]
    assert questions == studies.hopeless_questions(experiment, "csqa", count=5)
    assert len(questions) == 5
    for question, original in zip(questions, originals, strict=True):
        assert not set(question.choices) & set(original.choices)
        assert question.candidates == original.candidates


def test_every_model_is_asked_the_hopeless(experiment):
    questions = studies.hopeless_questions(experiment, "csqa", count=5)
    shares = studies.hopeless_shares(experiment, "csqa", questions)
    assert list(shares) == list(METHODS)
    for method, found in shares.items():
        assert found.shape == (5, 5)
        np.testing.assert_allclose(found.sum(1), 1)
        np.testing.assert_allclose(found, experiment.ask(method, "csqa", questions).shares(), rtol=1e-5)


def test_readings_begin_with_the_default(experiment):
    found = studies.readings(experiment)
    assert next(iter(found.values())) is experiment
    settings = [(e.settings.distillation.student, e.settings.recalibration.first_map) for e in found.values()]
    assert settings == [("full", "temperature"), ("renormalised", "temperature"), ("full", "logit-temperature")]


def test_tunings_begin_with_the_presets_own(experiment):
    found = studies.tunings(experiment.change(student__tuning="lora"))
    assert {way: other.settings.student.tuning for way, other in found.items()} == {w: w for w in found}
    assert list(found) == ["lora", "full", "qlora"]


def test_variants_are_every_tuning_and_reading_measured(experiment):
    kept = studies.variants(experiment)
    found = kept["rows"]
    names = [(row["group"], row["name"]) for row in found]
    assert names == [("tuning", name) for name in studies.tunings(experiment)] + [
        ("reading", name) for name in studies.readings(experiment)
    ]
    assert {row["n"] for row in found} == {12}
    own = experiment.predictions("first", "csqa", "csqa")
    defaults = [row for row in found if row["name"] in ("full", "Eq. 4, full vocabulary")]
    assert [row["accuracy"] for row in defaults] == [own.correct().mean()] * 2
    assert all(0 <= row["ece"] <= 1 for row in found)
    assert kept["chosen"] == experiment.coefficient("csqa")
    assert {c for c, _ in kept["effect"]} == {*studies.COEFFICIENTS, kept["chosen"]}


def test_effects_are_read_as_they_were_kept(tmp_path, monkeypatch):
    run = {"seed": 4, "rows": [], "effect": [[0.1, 0.05], [0.3, 0.02]], "chosen": 0.3}
    (tmp_path / "variants-seed-4.json").write_text(json.dumps(run))
    monkeypatch.setattr(scores, "KEPT", tmp_path)
    curves, chosen = studies.kept_effects()
    assert chosen == {"seed 4": 0.3}
    np.testing.assert_array_equal(curves["seed 4"], [[0.1, 0.05], [0.3, 0.02]])
