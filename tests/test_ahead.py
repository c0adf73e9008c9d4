"""What is made ahead is what the notebooks ask for."""

import os

from firstlib import ahead, studies
from firstlib.experiment import Experiment


def made(folder):
    return {path.name for path in folder.glob("*-*/")}


def test_a_run_finds_everything_that_was_made_ahead(tiny_preset, tmp_path):
    ahead.main(str(tiny_preset), "0", str(tmp_path))
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    before = made(experiment.folder)
    for variant in studies.variants(experiment, "csqa"):
        variant.predictions("first", "csqa", "csqa")
    experiment.rows()
    new = made(experiment.folder) - before
    assert {name.rpartition("-")[0] for name in new} == {
        "predictions-teacher-csqa-on-csqa-test",  # asked for by the first notebooks, before anything is ahead
        "predictions-teacher-alpaca-on-csqa-test",
        "predictions-teacher-alpaca-on-obqa-test",
    }


def test_what_the_notebooks_ask_for_last_comes_first(tiny_preset, tmp_path):
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    order = [(stage.func.__name__, *stage.args) for stage in ahead.stages(experiment)]
    assert order[0] == ("teacher", "alpaca")
    assert order[3] == ("predictions", "first", "alpaca", "csqa")
    assert order[-1] == ("predictions", "fine-tune", "csqa", "csqa")


def test_nothing_is_made_for_a_run_that_is_gone(tiny_preset, tmp_path, monkeypatch):
    parents = iter([1, 2])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    ahead.main(str(tiny_preset), "0", str(tmp_path))
    assert not list(tmp_path.glob("tiny/seed-0/teacher-*"))
