"""Logs of lm-evaluation-harness 0.4.11 to 0.4.13, written by a real model: read as plain arithmetic reads them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from firstlib.evaluation.audit import inputs, lm_eval
from firstlib.evaluation.audit.options import Columns, Options
from firstlib.metrics import ece
from firstlib.runtime.errors import UserError

LOGS = Path(__file__).parent / "logs"
NEWEST = LOGS / "lm-eval-0.4.13" / "stories260K"
FILES = [pytest.param(path, id=f"{path.parts[-3]}-{lm_eval.task_of(path)}") for path in sorted(LOGS.rglob("samples_*"))]
CHOICES = [one for one in FILES if "free" not in one.id]


def log(task):
    return next(NEWEST.glob(f"samples_{task}_*"))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, content):
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def read(path, **options):
    return lm_eval.read_files(str(path), [path], Options(**options))


def plainly(path, reading):
    """Confidence and correctness by plain arithmetic on the log."""
    confidence, correct = [], []
    for row in rows(path):
        pairs = [(one["arg_0"], one["arg_1"]) for one in row["arguments"].values()]
        scores = np.array([float(one[0]) for one in row["filtered_resps"]])
        scores = scores[: len(scores) // 2] if "acc_mutual_info" in row["metrics"] else scores
        if reading == "acc_norm":
            scores = scores / [len(text.removeprefix(" ")) for _, text in pairs[: len(scores)]]
        shares = np.exp(scores) / np.exp(scores).sum()
        confidence.append(shares.max())
        correct.append(row[reading])
    return confidence, correct


@pytest.mark.parametrize("path", CHOICES)
@pytest.mark.parametrize("reading", ["acc", "acc_norm"])
def test_a_log_is_read_as_plain_arithmetic_reads_it(path, reading):
    if reading not in rows(path)[0]["metrics"]:
        pytest.skip("the task does not measure it")
    found = read(path, reading="candidates" if reading == "acc" else reading)
    confidence, correct = plainly(path, reading)
    np.testing.assert_allclose(found.confidence, confidence, rtol=1e-12)
    assert found.correct.tolist() == [bool(one) for one in correct]
    assert ece(found.confidence, found.correct) == pytest.approx(ece(confidence, correct), abs=1e-12)


@pytest.mark.parametrize("path", CHOICES)
def test_the_right_choice_is_known_and_every_row_sums_to_one(path):
    found = read(path)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    right = found.probabilities.argmax(axis=1) == found.answer
    assert (right == found.correct).all()
    assert (found.answer >= 0).all(), "of two choices, acc tells the right one too"


def test_unequal_numbers_of_choices_are_padded_with_zeros():
    found = read(log("csqa_letters"))
    counts = [len(row["doc"]["texts"]) for row in rows(log("csqa_letters"))]
    assert len(set(counts)) > 1
    assert (found.probabilities > 0).sum(axis=1).tolist() == counts


def test_the_reading_by_vocabulary_is_the_probability_itself():
    found = read(log("csqa_letters"), reading="vocabulary")
    best = [max(float(one[0]) for one in row["filtered_resps"]) for row in rows(log("csqa_letters"))]
    np.testing.assert_allclose(found.confidence, np.exp(best))


def test_a_results_folder_is_one_model_with_its_tasks_as_subjects():
    (found,) = lm_eval.read_folder(NEWEST.parent, Options())
    assert found.name == "stories260K"
    assert set(found.groups) == {"answer_text", "boolq_yes_no", "csqa_letters", "gap", "obqa_texts"}
    assert len(set(found.ids)) == len(found) == 60
    assert any("free" in note for note in found.notes), "generated text is left out, and said so"


def test_of_several_runs_of_a_task_the_newest_counts(tmp_path):
    write(tmp_path / "samples_t_2026-01-01T00-00-00.1.jsonl", rows(log("obqa_texts"))[:4])
    write(tmp_path / "samples_t_2026-02-01T00-00-00.1.jsonl", rows(log("obqa_texts"))[:7])
    (found,) = lm_eval.read_folder(tmp_path, Options())
    assert len(found) == 7
    assert found.notes == ("1 older logs of the same tasks are left out.",)


def test_a_results_file_leads_to_its_logs(tmp_path):
    file = next(NEWEST.glob("results_*"))
    assert len(lm_eval.read_results(file, Options())) == 60
    alone = tmp_path / file.name
    alone.write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="--log_samples"):
        lm_eval.read_results(alone, Options())


def test_generated_text_alone_is_refused():
    with pytest.raises(UserError, match="generated text"):
        read(log("free"))


# -- targets -----------------------------------------------------------------------------------------------------


def made(target, choices, scores, acc, line=0):
    arguments = {f"gen_args_{i}": {"arg_0": "Q", "arg_1": f" {text}"} for i, text in enumerate(choices)}
    return {
        "doc_id": line, "doc": {}, "target": target, "arguments": arguments, "metrics": ["acc"], "filter": "none",
        "filtered_resps": [[str(score), "False"] for score in scores], "resps": [], "acc": acc,
    }  # fmt: skip


def test_a_number_that_is_index_and_text_is_read_as_the_log_judges_it(tmp_path):
    numbers = ["1", "2", "0"]
    as_index = [made("2", numbers, (-3, -2, -1), 1.0, 0), made("0", numbers, (-1, -2, -3), 1.0, 1)]
    as_text = [made("2", numbers, (-3, -1, -2), 1.0, 0), made("0", numbers, (-1, -2, -3), 0.0, 1)]
    assert read(write(tmp_path / "a.jsonl", as_index)).answer.tolist() == [2, 0]
    assert read(write(tmp_path / "b.jsonl", as_text)).answer.tolist() == [1, 2]


def test_several_right_choices_are_judged_by_the_log_and_have_no_single_one(tmp_path):
    content = [made("[0, 2]", "abc", (-1, -2, -3), 1.0, 0), made("[0, 2]", "abc", (-2, -1, -3), 0.0, 1)]
    found = read(write(tmp_path / "a.jsonl", content))
    assert found.correct.tolist() == [True, False]
    assert found.answer.tolist() == [-1, -1]


def test_filters_are_chosen_by_name(tmp_path):
    content = [{**row, "filter": name} for row in rows(log("obqa_texts")) for name in ("strict", "loose")]
    path = write(tmp_path / "a.jsonl", content)
    with pytest.raises(UserError, match="strict, loose; choose one with --filter"):
        read(path)
    assert len(read(path, filter="loose")) == 12
    with pytest.raises(UserError, match="no filter 'other'"):
        read(path, filter="other")


def test_a_field_of_the_document_names_the_subject(tmp_path):
    found = read(log("csqa_letters"), columns=Columns(by="gold"))
    assert found.groups.tolist() == [str(row["doc"]["gold"]) for row in rows(log("csqa_letters"))]
    with pytest.raises(UserError, match="line 1: its `doc` has no field 'nothing'"):
        read(log("csqa_letters"), columns=Columns(by="nothing"))


# -- broken lines ------------------------------------------------------------------------------------------------


def broken(**changes):
    return {**rows(log("obqa_texts"))[0], "doc_id": 99, "doc_hash": "x", **changes}


BROKEN = {
    "not JSON": b'{"doc_id": 3, "resps": [[["-1',
    "`doc_id` or `resps` is missing": json.dumps({"hello": 1}).encode(),
    "not log-probabilities": json.dumps(broken(filtered_resps=[["x", "False"]] * 4)).encode(),
    "NaN": json.dumps(broken(filtered_resps=[["nan", "False"]] * 4)).encode(),
    "no choice has any": json.dumps(broken(filtered_resps=[["-inf", "False"]] * 4)).encode(),
    "3 log-probabilities for 4": json.dumps(broken(filtered_resps=[["-1", "False"]] * 3)).encode(),
    "above 0": json.dumps(broken(filtered_resps=[["1.5", "False"]] * 4)).encode(),
    "contradict": json.dumps(broken(acc=1.0)).encode(),
    "two or more": json.dumps(broken(filtered_resps=[["-1", "False"]],
                                     arguments={"gen_args_0": {"arg_0": "a", "arg_1": " b"}})).encode(),
}  # fmt: skip


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_line_is_named_and_may_be_allowed(reason, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(log("obqa_texts").read_bytes() + BROKEN[reason] + b"\n")
    with pytest.raises(UserError, match="1 of 13 lines cannot be used: line 13") as caught:
        read(path)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500
    found = read(path, max_unusable=0.1)
    assert (len(found), found.lost.count, found.lost.total) == (12, 1, 13)


def test_the_same_question_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", rows(log("obqa_texts")) + rows(log("obqa_texts"))[:1])
    with pytest.raises(UserError, match="lines 1 and 13 are the same question"):
        read(path)


def test_an_empty_log_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no lines"):
        read(tmp_path / "a.jsonl")


# -- versions before 0.4.3 ---------------------------------------------------------------------------------------


def test_a_log_that_is_one_list_is_read_as_its_lines_are(tmp_path):
    old, new = tmp_path / "gpt2_csqa.jsonl", read(log("csqa_letters"))
    old.write_text(json.dumps(rows(log("csqa_letters")), indent=2))
    found = read(old)
    np.testing.assert_array_equal(found.confidence, new.confidence)
    assert found.ids.tolist() == new.ids.tolist()


@pytest.mark.parametrize("indent", [None, 2])
def test_such_a_log_is_known_by_its_content_and_its_folder_by_its_results(indent, tmp_path):
    (tmp_path / "gpt2_csqa.jsonl").write_text(json.dumps(rows(log("csqa_letters")), indent=indent))
    (tmp_path / "results.json").write_text(json.dumps({"results": {}, "configs": {}}))
    for what in (tmp_path, tmp_path / "gpt2_csqa.jsonl", tmp_path / "results.json"):
        (found,) = inputs.read(str(what), Options(), lambda *_: pytest.fail("it is no run"))
        assert len(found) == len(read(log("csqa_letters")))


def test_results_without_logs_say_what_to_switch_on(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"results": {}, "configs": {}}))
    with pytest.raises(UserError, match="run lm_eval with --log_samples"):
        inputs.read(str(tmp_path), Options(), lambda *_: pytest.fail("it is no run"))


def test_lines_in_a_file_called_json_are_read(tmp_path):
    file = write(tmp_path / "log.json", rows(log("csqa_letters")))
    (found,) = inputs.read(str(file), Options(), lambda *_: pytest.fail("it is no run"))
    assert found.kind == lm_eval.KIND


def test_a_damaged_list_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text('[{"doc_id": 1,')
    with pytest.raises(UserError, match="not readable as JSON"):
        read(tmp_path / "log.jsonl")


def test_a_packed_log_is_read_as_the_same(tmp_path):
    plain = log("csqa_letters")
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = read(plain), inputs.read(str(packed), Options(), None)[0]
    assert one.confidence.tolist() == other.confidence.tolist()
    packed.write_bytes(packed.read_bytes()[:900])
    with pytest.raises(UserError, match=r"\.gz: cannot be read \(Compressed file ended"):
        read(packed)
