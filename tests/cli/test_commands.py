"""Folders that verbs are given and name, outside the repository too."""

import pytest
from command_line import first_here
from served_answers import responses, written

from firstlib import Experiment
from firstlib.runtime import paths


@pytest.fixture
def elsewhere(tmp_path, tiny_preset, monkeypatch):
    """The working directory, while the project is in another."""
    for name in ("here", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_an_import_names_the_folder_that_it_wrote(elsewhere, tiny_preset):
    """A relative one is in the project, where `knowledge.imported` of the same name looks for it."""
    plain = Experiment(str(tiny_preset), run_folder=str(elsewhere / "runs"))
    file = written(elsewhere / "a.jsonl", responses(plain, "csqa", "test"))
    options = ["--task", "csqa", "--split", "test", "--to", "stores", "--preset", tiny_preset, "--shared-ids"]
    done = first_here("import-logprobs", file, *options)
    assert done.returncode == 0, done.stderr
    made = elsewhere.parent / "project" / "stores" / "csqa-test"
    assert done.stdout.splitlines()[-1] == f"store      {made}"
    assert (made / "report.json").is_file()
    assert len(plain.change(knowledge__imported="stores").knowledge("csqa", split="test")) == 16


def test_requests_are_written_to_the_working_directory(elsewhere, tiny_preset):
    done = first_here("requests", "--task", "csqa", "--to", "asked", "--for", "vllm", "--preset", tiny_preset)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (elsewhere / "asked").iterdir()} == {"csqa-train.jsonl", "csqa-train.py"}
    assert done.stdout.splitlines() == [f"requests   asked/csqa-train.{ending}" for ending in ("jsonl", "py")]
