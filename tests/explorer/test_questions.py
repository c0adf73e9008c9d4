"""Single questions asked of all models: the case study, questions without a right choice, and the reader's own."""

import numpy as np
import pytest
import yaml

from firstlib import Experiment
from firstlib.experiment import stages
from firstlib.explorer import questions as single
from firstlib.explorer.question_widget import QuestionAsker
from firstlib.runtime.errors import UserError

METHODS = ("teacher", "fine-tune", "distill", "label-smoothing", "first")


@pytest.fixture(scope="module")
def experiment(base_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("questions")
    content = {
        "columns": [{"setting": "in-domain", "train": "csqa", "test": ["csqa"]}],
        "sizes": {"train": 16, "validation": 20, "test": 12},
        "teacher": {"base": str(base_folder)},
        "student": {"base": str(base_folder)},
        "training": {"epochs": 1, "global_batch_size": 8, "teacher_learning_rate": 1e-2, "student_learning_rate": 1e-2},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(content))
    return Experiment(str(home / "tiny.yaml"), run_folder=str(home))


def test_a_case_is_one_question_with_every_models_shares(experiment):
    case = single.case(experiment, "csqa", number=3)
    assert case.question == experiment.questions("csqa")[3]
    assert list(case.shares) == list(METHODS)
    for method, shares in case.shares.items():
        assert shares.sum() == pytest.approx(1)
        np.testing.assert_array_equal(shares, experiment.predictions(method, "csqa", "csqa").shares()[3])


def test_questions_without_a_right_choice_are_reproducible(experiment):
    questions = single.questions_without_right_choice(experiment, "csqa", count=5)
    originals = experiment.questions("csqa")[:5]
    assert questions == single.questions_without_right_choice(experiment, "csqa", count=5)
    assert len(questions) == 5
    for question, original in zip(questions, originals, strict=True):
        assert not set(question.choices) & set(original.choices)
        assert question.candidates == original.candidates


def test_every_model_is_asked_the_questions_without_a_right_choice(experiment):
    questions = single.questions_without_right_choice(experiment, "csqa", count=5)
    shares = single.shares(experiment, "csqa", questions)
    assert list(shares) == list(METHODS)
    for method, found in shares.items():
        assert found.shape == (5, 5)
        np.testing.assert_allclose(found.sum(1), 1)
        np.testing.assert_allclose(found, experiment.ask(method, "csqa", questions).shares(), rtol=1e-5)


def test_answers_kept_under_a_name_are_not_asked_again(experiment, monkeypatch):
    questions = single.questions_without_right_choice(experiment, "csqa", count=5)
    asked = single.shares(experiment, "csqa", questions)
    single.shares(experiment, "csqa", questions, keep="no-right-choice")
    monkeypatch.setattr(stages, "load", lambda *_: pytest.fail("a model was loaded"))
    again = Experiment(experiment.preset, run_folder=experiment.folder.parents[1])
    for method, found in single.shares(again, "csqa", questions, keep="no-right-choice").items():
        np.testing.assert_allclose(found, asked[method], rtol=1e-5)
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        single.shares(again, "csqa", questions[:4], keep="no-right-choice")


def test_no_questions_cannot_be_asked(experiment):
    with pytest.raises(UserError, match="no questions to ask"):
        experiment.ask("teacher", "csqa", [])


# -- the reader's own question -----------------------------------------------------------------------------------


def test_a_retyped_test_question_is_answered_like_the_original(experiment):
    asker = QuestionAsker(experiment)
    original = experiment.questions("csqa")[0]
    assert asker.choices.value.splitlines() == list(original.choices)
    found = asker.answer()
    assert (found.question.prompt, found.question.candidates) == (original.prompt, original.candidates)
    for method, shares in found.shares.items():
        kept = experiment.predictions(method, "csqa", "csqa").shares()[0]
        np.testing.assert_allclose(shares, kept, rtol=1e-4)


def test_fewer_choices_than_the_task_has_can_be_asked(experiment):
    asker = QuestionAsker(experiment)
    asker.choices.value = "\n".join(experiment.questions("csqa")[0].choices[:2])
    assert all(shares.shape == (2,) for shares in asker.answer().shares.values())


def test_the_button_shows_answer_and_confidence_side_by_side(experiment):
    asker = QuestionAsker(experiment)
    asker.button.click()
    assert all(f"<td>{name}</td>" in asker.answers.value for name in METHODS)
    assert asker.answers.value.count("<b>") == len(METHODS)


@pytest.mark.parametrize(
    ("text", "choices", "message"),
    [
        ("", "tea\nmilk", "give a text and 2 to 5 different choices"),
        ("What is red?", "tea", "give a text and 2 to 5 different choices"),
        ("What is red?", "tea\ntea", "give a text and 2 to 5 different choices"),
        ("What is red?", "a\nb\nc\nd\ne\nf", "give a text and 2 to 5 different choices"),
        ("What is xylophonic?", "tea\nmilk", "these models do not know .*xylophonic"),
    ],
)
def test_an_invalid_question_is_reported_in_one_line(experiment, text, choices, message):
    asker = QuestionAsker(experiment)
    asker.text.value, asker.choices.value = text or " ", choices
    with pytest.raises(UserError, match=message):
        asker.answer()
    asker.ask()
    assert asker.answers.value.startswith("<p>question: ")
    assert "Traceback" not in asker.answers.value


def test_markup_in_a_question_is_escaped(experiment):
    asker = QuestionAsker(experiment)
    asker.text.value = "<img src=x onerror=alert(1)>"
    asker.ask()
    assert "<img" not in asker.answers.value
