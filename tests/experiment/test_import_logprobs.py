"""A teacher behind a server: its answers become a run's knowledge, and students learn from it."""

import numpy as np
import pytest
from command_line import first_here
from served_answers import responses, written

from firstlib import Experiment
from firstlib.evaluation.asking import follow
from firstlib.experiment.import_logprobs import import_knowledge
from firstlib.knowledge.servers.matching import Rules
from firstlib.models import loading
from firstlib.runtime.errors import UserError


@pytest.fixture
def plain(tiny_preset, tmp_path):
    return Experiment(str(tiny_preset), run_folder=str(tmp_path / "runs"))


def imported(plain, tiny_preset, tmp_path, tasks=("csqa", "alpaca", "obqa")):
    for task in tasks:
        for split in ("train", "validation", "test"):
            file = written(tmp_path / f"{task}-{split}.jsonl", responses(plain, task, split))
            import_knowledge(plain.run, file, task, split, tmp_path / "store", Rules(5, shared_ids=True))
    overrides = [f"knowledge.imported={tmp_path / 'store'}"]
    return Experiment(str(tiny_preset), run_folder=str(tmp_path / "runs"), overrides=overrides)


def test_students_learn_from_imported_knowledge(plain, tiny_preset, tmp_path):
    experiment = imported(plain, tiny_preset, tmp_path)
    results = experiment.results()
    assert {row["method"] for row in results["rows"]} == {
        "teacher", "fine-tune", "distill", "label-smoothing", "first"
    }  # fmt: skip
    assert not list(experiment.folder.glob("teacher-*"))
    assert {row["role"] for row in results["base"]} == {"student"}


def test_an_imported_teacher_answers_like_a_local_one(plain, tiny_preset, tmp_path):
    experiment = imported(plain, tiny_preset, tmp_path, tasks=("csqa",))
    there = experiment.predictions("teacher", "csqa", "csqa")
    here = plain.base_predictions("teacher", "csqa")
    np.testing.assert_array_equal(there.top_ids, here.top_ids)
    np.testing.assert_allclose(there.top_probabilities, here.top_probabilities, rtol=1e-3)
    among = (here.candidate_ids[:, :, None] == here.top_ids[:, None, :]).any(-1)
    np.testing.assert_allclose(there.probabilities[among], here.probabilities[among], rtol=1e-3)
    assert (there.probabilities[~among] == 0).all()


def test_missing_answers_are_reported_when_they_are_needed(plain, tiny_preset, tmp_path):
    file = written(tmp_path / "some.jsonl", responses(plain, "csqa", "test", skip=3))
    made, report = import_knowledge(plain.run, file, "csqa", "test", tmp_path / "store", Rules(5, shared_ids=True))
    assert made == tmp_path / "store" / "csqa-test"
    assert (report.examples, report.answered) == (16, 13)
    experiment = Experiment(
        str(tiny_preset), run_folder=str(tmp_path / "runs"), overrides=[f"knowledge.imported={tmp_path / 'store'}"]
    )
    with pytest.raises(UserError, match=r"csqa-test: 3 of 16 questions have no answer, first 'csqa-test-00000'"):
        experiment.predictions("teacher", "csqa", "csqa")
    with pytest.raises(UserError, match=r"there is no .*csqa-train; write it with `first import-logprobs`"):
        experiment.knowledge("csqa")
    with pytest.raises(UserError, match="behind a server"):
        experiment.teacher("csqa")


def test_a_store_is_neither_overwritten_nor_left_incomplete(plain, tmp_path):
    file = written(tmp_path / "a.jsonl", responses(plain, "csqa", "test"))
    import_knowledge(plain.run, file, "csqa", "test", tmp_path / "store", Rules(5, shared_ids=True))
    with pytest.raises(UserError, match="exists already"):
        import_knowledge(plain.run, file, "csqa", "test", tmp_path / "store", Rules(5, shared_ids=True))
    file.write_text(file.read_text()[:500])
    with pytest.raises(UserError):
        import_knowledge(plain.run, file, "csqa", "train", tmp_path / "store", Rules(5, shared_ids=True))
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["csqa-test"]


@pytest.mark.parametrize(
    ("changes", "complaint"), [({"knowledge__k": 4}, "its k is 5, expected 4"), ({"sizes__test": 9}, "its data is")]
)
def test_another_experiments_store_is_refused(plain, tiny_preset, tmp_path, changes, complaint):
    file = written(tmp_path / "a.jsonl", responses(plain, "csqa", "test"))
    import_knowledge(plain.run, file, "csqa", "test", tmp_path / "store", Rules(5, shared_ids=True))
    other = plain.change(knowledge__imported=str(tmp_path / "store"), **changes)
    with pytest.raises(UserError, match=complaint):
        other.knowledge("csqa", split="test", k=other.settings.knowledge.k)


def test_the_command_line_imports_and_reports(plain, tiny_preset, tmp_path):
    file = written(tmp_path / "a.jsonl", responses(plain, "csqa", "test"))
    command = ["import-logprobs", file, "--task", "csqa", "--split", "test"]
    options = ["--to", tmp_path / "store", "--preset", tiny_preset, "--shared-ids"]
    done = first_here(*command, *options)
    assert done.returncode == 0, done.stderr
    assert "positions imported, from 16 of 16 examples" in " ".join(done.stdout.split())
    again = first_here(*command, *options)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_following_a_text_asks_at_every_position(plain):
    encoded = plain.run.data.encoded("csqa", "test")[:3]
    found = follow(loading.load_base(plain.settings.student).eval(), encoded)
    assert len(found) == sum(len(e.token_ids) - e.start for e in encoded)
    gold = np.array([token for e in encoded for token in e.token_ids[e.start :]])
    right = np.take_along_axis(found.candidate_ids, found.answer[:, None], 1)[:, 0]
    np.testing.assert_array_equal(right, gold)


def test_imported_knowledge_does_not_need_the_presets_teacher(plain, tiny_preset, tmp_path):
    """Neither weights nor tokenizer are needed: the teacher is behind a server, and its name need not exist."""
    for split in ("train", "validation"):
        file = written(tmp_path / f"{split}.jsonl", responses(plain, "csqa", split))
        import_knowledge(plain.run, file, "csqa", split, tmp_path / "store", Rules(5, shared_ids=True))
    overrides = [f"knowledge.imported={tmp_path / 'store'}", "teacher.base=nobody/has-this-model"]
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path / "runs"), overrides=overrides)
    assert experiment.answer_probabilities("csqa", k=5).shape[1] == 5
    assert len(experiment.predictions("first", "csqa", "csqa")) == 16


def test_another_k_of_imported_knowledge_is_refused(plain, tmp_path):
    file = written(tmp_path / "a.jsonl", responses(plain, "csqa", "test"))
    import_knowledge(plain.run, file, "csqa", "test", tmp_path / "store", Rules(5, shared_ids=True))
    experiment = plain.change(knowledge__imported=str(tmp_path / "store"))
    assert experiment.knowledge("csqa", split="test").origin.k == 5
    with pytest.raises(UserError, match=r"the store of csqa holds the top 5, so the top 100 cannot be shown; import"):
        experiment.knowledge("csqa", k=100, split="test")


def test_answers_of_another_k_are_not_those_kept_in_memory(plain, tmp_path):
    file = written(tmp_path / "a.jsonl", responses(plain, "csqa", "test"))
    import_knowledge(plain.run, file, "csqa", "test", tmp_path / "store", Rules(5, shared_ids=True))
    experiment = plain.change(knowledge__imported=str(tmp_path / "store"))
    assert len(experiment.predictions("teacher", "csqa", "csqa")) == 16
    with pytest.raises(UserError, match="its k is 5, expected 4"):
        experiment.change(knowledge__k=4).predictions("teacher", "csqa", "csqa")
