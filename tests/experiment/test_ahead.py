"""Helpers compute the stages of a run from its end, while its notebooks compute them from the beginning."""

import json
import os
import subprocess

import pytest
from rich.console import Console

from firstlib import Experiment
from firstlib.cli import notebooks
from firstlib.experiment import ahead
from firstlib.results.comparison import compare
from firstlib.runtime.errors import MissingStageError
from firstlib.settings.loading import load_preset

SMALL = ("sizes={train: 8, validation: 8, test: 8}",)


def order(experiment, helper):
    return [step.args for step in ahead.steps(experiment, helper)]


def test_helpers_begin_at_the_end_each_at_another_column():
    experiment = Experiment("smoke")
    first, second = (order(experiment, helper) for helper in (0, 1))
    assert first[0] == ("first", "alpaca", "csqa")
    assert second[0] == ("first", "boolq", "boolq")
    assert sorted(first) == sorted(second)
    assert len(first) == len(experiment.methods) * 4 + 3
    assert set(first[-3:]) == {("student", test) for test in ("csqa", "boolq", "obqa")}
    assert order(experiment, 3) == first


def test_a_helper_computes_what_the_table_and_the_report_need(tmp_path):
    ahead.main(json.dumps(["smoke", 3, str(tmp_path), SMALL]), "0")
    experiment = Experiment("smoke", 3, str(tmp_path), SMALL).sealed()
    assert len(compare(experiment)) == (len(experiment.methods) + 1) * 4


def test_a_helper_ends_when_the_process_that_asked_for_it_is_gone(tmp_path, monkeypatch):
    parents = iter([1, 1, 2])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    ahead.main(json.dumps(["smoke", 3, str(tmp_path), SMALL]), "0")
    experiment = Experiment("smoke", 3, str(tmp_path), SMALL).sealed()
    assert len(experiment.predictions("first", "alpaca", "csqa")) == 8
    with pytest.raises(MissingStageError):
        experiment.predictions("first", "alpaca", "obqa")


def test_helpers_are_started_and_ended_with_the_notebooks(tmp_path, monkeypatch):
    started = []

    popen = subprocess.Popen

    def start(command, **options):
        started.append(process := popen(["sleep", "60"], **options))
        assert json.loads(command[3]) == ["smoke", 0, str(tmp_path), ["jobs=3"]]
        assert command[4] == str(len(started) - 1)
        return process

    monkeypatch.setattr(ahead.subprocess, "Popen", start)
    monkeypatch.setattr(notebooks, "_execute", lambda *_: [one.poll() for one in started].count(None) == 2 or 1 / 0)
    notebooks.run(notebooks.Plan("smoke", 0, str(tmp_path), ("jobs=3",)), Console(quiet=True))
    assert len(started) == 2
    assert all(one.poll() is not None for one in started)


def test_a_preset_that_says_nothing_has_no_helpers():
    assert load_preset("smoke").jobs == 1
    with ahead.computed_ahead("smoke", 0, "runs", (), 1):
        pass
