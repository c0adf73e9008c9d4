"""Logs of inspect-ai with log-probabilities; without them, one line says what to switch on."""

import json
from pathlib import Path

import numpy as np
import pytest

from firstlib.evaluation.audit import inspect_logs
from firstlib.evaluation.audit.options import Columns, Options
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


# -- which token answers -----------------------------------------------------------------------------------------


def token(text, *others):
    """A token with its log-probability and alternatives, as `text=probability` pairs; the first is its own."""
    listed = [{"token": name, "logprob": float(np.log(value))} for name, value in ((text, 0.99), *others)]
    return {**listed[0], "top_logprobs": listed}


def answering(*tokens, **fields):
    """The log's first sample, whose two choices were answered with these tokens, scored as A."""
    sample = content()["samples"][0]
    sample |= {"choices": ["a dog", "a cat"], "target": "A", "scores": {"choice": {"answer": "A"}}, **fields}
    sample["output"]["choices"][0]["logprobs"]["content"] = list(tokens)
    return sample


HALF = {"token": " A", "logprob": float(np.log(0.6))}
HALF["top_logprobs"] = [dict(HALF), {"token": " B", "logprob": float(np.log(0.4))}]


def read(tmp_path, *samples, **options):
    return inspect_logs.read(written(tmp_path, {**content(), "samples": list(samples)}), Options(**options))


def test_the_letter_after_answer_counts_and_not_an_article_behind_it(tmp_path):
    found = read(tmp_path, answering(token("ANSWER"), token(":"), HALF, token(")"), token(" a"), token(" dog")))
    assert found.confidence.tolist() == pytest.approx([0.6])


def test_marks_may_stand_before_the_letter_and_one_letter_needs_no_announcement(tmp_path):
    marked = answering(token("ANSWER:"), token(" **"), HALF, token("**"))
    alone = answering(HALF, token("."), epoch=2)
    assert read(tmp_path, marked, alone).confidence.tolist() == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (lambda: answering(HALF, token(" a"), token(" dog")), "which answers is not known"),
        (lambda: answering(token("ANSWER:"), token(" the"), HALF), "none of its letters"),
        (lambda: answering(token("dog")), "none of its letters"),
        (lambda: answering({**HALF, "logprob": None}), "missing, or no number"),
        (lambda: answering({**HALF, "logprob": "low"}), "missing, or no number"),
        (lambda: answering({**HALF, "top_logprobs": [1]}), "missing, or no number"),
        (lambda: answering({"token": 3}), "no list of tokens"),
        (lambda: answering({**HALF, "logprob": -0.22, "top_logprobs": [{"token": " B", "logprob": -0.4}]}), "natural"),
    ],
)
def test_an_answer_that_cannot_be_read_is_told(sample, told, tmp_path):
    with pytest.raises(UserError, match=told):
        read(tmp_path, sample())


def test_a_sample_twice_is_refused_and_another_epoch_is_not(tmp_path):
    assert len(read(tmp_path, answering(HALF), answering(HALF, epoch=2))) == 2
    with pytest.raises(UserError, match="is there twice"):
        read(tmp_path, answering(HALF), answering(HALF))


def test_subjects_are_a_field_of_the_metadata(tmp_path):
    sample = answering(HALF, metadata={"subject": "dogs"})
    assert read(tmp_path, sample, columns=Columns(by="subject")).groups.tolist() == ["dogs"]
    with pytest.raises(UserError, match="has no 'sujbect'; --by can be subject"):
        read(tmp_path, sample, columns=Columns(by="sujbect"))


def test_samples_of_another_type_are_refused(tmp_path):
    with pytest.raises(UserError, match="no list of objects"):
        inspect_logs.read(written(tmp_path, {**content(), "samples": {"a": 1}}), Options())
