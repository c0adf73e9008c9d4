"""A run of this library as the input of an audit."""

import json

import pytest

from firstlib import Experiment, audit
from firstlib.runtime.errors import UserError


@pytest.fixture(scope="module")
def experiment(tiny_preset_file, tmp_path_factory):
    found = Experiment(str(tiny_preset_file), 0, str(tmp_path_factory.mktemp("runs")))
    found.results()
    return found


def test_every_method_is_an_input_paired_with_the_first(experiment):
    found = audit(experiment)
    assert [one.name for one in found.inputs] == list(experiment.methods)
    assert all(one.paired and one.n == found.n for one in found.differences)
    row = next(row for row in experiment.rows() if (row.method, row.setting) == ("teacher", "in-domain"))
    subject = next(one for one in found.first.subjects if one.name == "in-domain csqa")
    assert (subject.accuracy.estimate, subject.ece) == pytest.approx((row.accuracy, row.ece))


def test_a_folder_that_does_not_tell_its_settings_is_refused(experiment):
    with pytest.raises(UserError, match="from Python"):
        audit(experiment.folder)


def test_results_without_a_run_around_them_are_refused(tmp_path):
    (tmp_path / "kept.json").write_text(json.dumps({"rows": [], "preset": "smoke", "seed": 0}))
    with pytest.raises(UserError, match="without its answers; give the run's folder"):
        audit(tmp_path / "kept.json")


def test_a_folder_of_another_programs_results_is_refused(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"hello": 1}))
    with pytest.raises(UserError, match="not that of a run"):
        audit(tmp_path)
