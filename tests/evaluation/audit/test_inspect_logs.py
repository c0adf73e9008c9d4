"""Logs of inspect-ai with log-probabilities; without them, one line says what to switch on."""

import json
from pathlib import Path

import numpy as np
import pytest

from firstlib.evaluation.audit import inspect_logs
from firstlib.evaluation.audit.options import Options
from firstlib.runtime.errors import UserError

LOGS = Path(__file__).parent / "logs" / "inspect-ai"


def content():
    return json.loads((LOGS / "csqa.json").read_text())


def written(tmp_path, changed):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(changed))
    return path


def test_confidence_is_the_letters_share_and_correct_is_the_scorers():
    found = inspect_logs.read(LOGS / "csqa.json", Options())
    samples = content()["samples"]
    for place, sample in enumerate(samples):
        last = sample["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
        weights = np.exp([one["logprob"] for one in last])
        assert found.confidence[place] == pytest.approx(weights.max() / weights.sum())
    assert found.correct.tolist() == [sample["scores"]["choice"]["value"] == "C" for sample in samples]


def test_a_compressed_log_is_read():
    found = inspect_logs.read(LOGS / "csqa.eval", Options())
    assert len(found) == 8
    assert found.texts[0].choices


def test_a_log_without_log_probabilities_says_what_to_switch_on():
    with pytest.raises(UserError, match="--logprobs --top-logprobs 20"):
        inspect_logs.read(LOGS / "csqa_plain.json", Options())


def test_letters_beyond_the_alternatives_are_refused_where_they_may_matter(tmp_path):
    changed = content()
    for one in changed["samples"]:
        last = one["output"]["choices"][0]["logprobs"]["content"][-1]
        last["top_logprobs"] = last["top_logprobs"][:1]
    with pytest.raises(UserError, match="alternatives lack"):
        inspect_logs.read(written(tmp_path, changed), Options())


def test_shuffled_choices_are_refused(tmp_path):
    changed = content()
    for one in changed["samples"]:
        given = one["scores"]["choice"]
        given["answer"] = "B" if given["answer"] == "A" else "A"
    with pytest.raises(UserError, match="without shuffled choices"):
        inspect_logs.read(written(tmp_path, changed), Options())


def test_a_damaged_log_is_refused(tmp_path):
    (tmp_path / "a.eval").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="not readable as a log of inspect-ai"):
        inspect_logs.read(tmp_path / "a.eval", Options())
