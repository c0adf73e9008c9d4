"""A run whose questions are answered in words of several tokens: trained, recalibrated, reported under every score."""

import numpy as np
import pytest
import yaml

from firstlib import Experiment
from firstlib.results.mechanism import mechanism
from firstlib.results.verify import verify

CONTENT = {
    "data": {"candidates": "text"},
    "columns": [{"setting": "in-domain", "train": "csqa", "test": ["csqa"]}],
    "sizes": {"train": 12, "validation": 10, "test": 8},
    "training": {"epochs": 1, "global_batch_size": 4, "teacher_learning_rate": 1e-2, "student_learning_rate": 1e-2},
    "methods": {
        "fine-tune": {"learns": "answers"},
        "first": {"learns": "top-k", "map": "temperature", "coefficient": "validation-ece"},
        "there": {"learns": "top-k", "map": "logit-temperature", "coefficient": 2.0, "where": "answers"},
    },
}
SCORES = ("total", "mean", "mean-by-character")


@pytest.fixture(scope="module")
def finished(bytes_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("words")
    base = {"base": str(bytes_folder)}
    (home / "words.yaml").write_text(yaml.safe_dump({**CONTENT, "teacher": base, "student": base}))
    experiment = Experiment(str(home / "words.yaml"), run_folder=str(home / "run"))
    return experiment, experiment.results()


def test_results_have_the_table_under_every_score(finished):
    experiment, content = finished
    tables = content["rows_by_candidate_score"]
    assert tuple(tables) == SCORES
    assert tables["total"] == content["rows"]
    for score, rows in tables.items():
        for row in rows:
            found = experiment.predictions(row["method"], "csqa", "csqa").scored(score)
            assert row["accuracy"] == found.correct().mean()
    assert verify(experiment) > 0


def test_another_score_asks_nothing_again(finished, monkeypatch):
    experiment, content = finished
    monkeypatch.setattr("firstlib.experiment.stages.load", None)
    other = experiment.change(measures__candidate_score="mean")
    rows = {row["method"]: row["accuracy"] for row in content["rows_by_candidate_score"]["mean"]}
    for name in ("teacher", "fine-tune", "there"):  # a searched coefficient may be another one under another score
        assert other.predictions(name, "csqa", "csqa").correct().mean() == rows[name]


def test_the_coefficient_is_searched_for_on_shares(finished):
    experiment, content = finished
    tried = experiment.search("csqa")
    assert content["coefficients"]["csqa"] == tried.best
    assert np.isfinite(tried.coarse).all()


def test_knowledge_covers_every_token_of_the_right_answer(finished):
    experiment, _ = finished
    store = experiment.knowledge("csqa")
    pairs = experiment.run.data.encoded_questions("csqa", "train", "teacher")
    for question, (stem, candidates) in zip(experiment.questions("csqa", "train"), pairs, strict=True):
        right = candidates[question.answer]
        assert set(range(len(stem), len(stem) + len(right))) <= set(store[question.id].position.tolist())


def test_confidence_is_followed_from_teacher_to_student(finished):
    experiment, _ = finished
    found = mechanism(experiment.run, "first", "csqa")
    assert 0 < found.teacher_train.confidence <= 1
