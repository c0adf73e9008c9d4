"""Tables with confidences or probabilities, in every format, with good and with bad rows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firstlib.evaluation.audit import tables
from firstlib.evaluation.audit.options import Columns, Options
from firstlib.runtime.errors import UserError

CONFIDENCES = {"confidence": [0.9, 0.4, 0.7], "correct": [True, False, True], "id": ["a", "b", "c"]}
LISTS = {"probabilities": [[0.7, 0.3], [0.2, 0.5, 0.3], [0.1, 0.9]], "answer": [0, 1, 0]}
ALLOWED = 0.5


def read(path, **options):
    return tables.read(str(path), Options(**options))


def write(path, columns):
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".csv":
        cells = [[json.dumps(v) if isinstance(v, list) else str(v) for v in row.values()] for row in rows]
        quoted = [",".join(f'"{cell}"' for cell in line) for line in cells]
        path.write_text("\n".join([",".join(columns), *quoted]) + "\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_confidences_are_read_from_every_format(suffix, tmp_path):
    found = read(write(tmp_path / f"t.{suffix}", CONFIDENCES))
    assert found.confidence.tolist() == CONFIDENCES["confidence"]
    assert found.correct.tolist() == CONFIDENCES["correct"]
    assert found.ids.tolist() == ["a", "b", "c"]
    assert found.probabilities is None


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_lists_of_probabilities_may_differ_in_length(suffix, tmp_path):
    found = read(write(tmp_path / f"t.{suffix}", LISTS))
    assert found.probabilities.tolist() == [[0.7, 0.3, 0], [0.2, 0.5, 0.3], [0.1, 0.9, 0]]
    assert found.confidence.tolist() == [0.7, 0.5, 0.9]
    assert found.correct.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("names", "answers"),
    [
        (("p_a", "p_b"), ["b", "a"]),
        (("p_a", "p_b"), [1, 0]),
        (("prob_yes", "prob_no"), ["no", "yes"]),
        (("p_1", "p_2"), [2, 1]),
    ],
)
def test_one_column_for_each_choice(names, answers, tmp_path):
    columns = {names[0]: [0.2, 0.6], names[1]: [0.8, 0.4], "answer": answers}
    assert read(write(tmp_path / "t.csv", columns)).answer.tolist() == [1, 0]


def test_columns_may_have_other_names(tmp_path):
    path = write(tmp_path / "t.csv", {"sure": [0.9, 0.2], "hit": [1, 0], "no": [3, 4], "area": ["x", "y"]})
    found = read(path, columns=Columns(confidence="sure", correct="hit", id="no", by="area"))
    assert found.correct.tolist() == [True, False]
    assert (found.ids.tolist(), found.groups.tolist()) == (["3", "4"], ["x", "y"])
    with pytest.raises(UserError, match="no column 'nothing'"):
        read(path, columns=Columns(confidence="sure", correct="nothing"))
    with pytest.raises(UserError, match="name yours"):
        read(path)


def test_sums_other_than_one_need_a_reading(tmp_path):
    path = write(tmp_path / "t.jsonl", {"probabilities": [[0.4, 0.1]] * 3, "answer": [0, 0, 1]})
    with pytest.raises(UserError, match=r"row 1: its probabilities sum to 0\.5; --reading candidates"):
        read(path)
    assert read(path, reading="candidates").confidence.tolist() == [0.8] * 3
    assert read(path, reading="vocabulary").confidence.tolist() == [0.4] * 3


BAD = {
    "confidence is 87": {**CONFIDENCES, "confidence": [0.9, 87.0, 0.7]},
    "confidence is nan": {**CONFIDENCES, "confidence": [0.9, float("nan"), 0.7]},
    "correct is 2": {**CONFIDENCES, "correct": [1, 2, 0]},
    "correct is 'maybe'": {**CONFIDENCES, "correct": ["true", "maybe", "false"]},
    "has the probability -0.3": {**LISTS, "probabilities": [[0.7, 0.3], [1.3, -0.3], [0.1, 0.9]]},
    "sum to 1.8": {**LISTS, "probabilities": [[0.7, 0.3], [0.9, 0.9], [0.1, 0.9]]},
    "has 1 probabilities": {**LISTS, "probabilities": [[0.7, 0.3], [1.0], [0.1, 0.9]]},
    "answer 5 is none of its 3 choices": {**LISTS, "answer": [0, 5, 1]},
}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_named_and_may_be_allowed(reason, suffix, tmp_path):
    path = write(tmp_path / f"t.{suffix}", BAD[reason])
    with pytest.raises(UserError, match=r"t\.\w+: 1 of 3 rows cannot be used: row 2: ") as caught:
        read(path)
    assert reason.split()[0] in str(caught.value)
    assert len(str(caught.value)) < 500
    found = read(path, max_unusable=ALLOWED)
    assert (len(found), found.lost.count) == (2, 1)


def test_ids_that_repeat_are_refused(tmp_path):
    with pytest.raises(UserError, match="'a' is there twice"):
        read(write(tmp_path / "t.csv", {**CONFIDENCES, "id": ["a", "b", "a"]}))


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b'{"a": ', b"PAR1 broken", b"confidence,correct\n"])
def test_what_is_no_table_is_refused_in_a_line(content, tmp_path):
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert len(str(caught.value)) < 500


def test_standard_input_may_be_any_of_them(monkeypatch, tmp_path):
    class Given:
        def __init__(self, content):
            self.buffer = self
            self.content = content

        def read(self):
            return self.content

    for suffix in ("csv", "jsonl", "json", "parquet"):
        content = write(tmp_path / f"t.{suffix}", CONFIDENCES).read_bytes()
        monkeypatch.setattr(tables.sys, "stdin", Given(content))
        np.testing.assert_array_equal(read("-").confidence, CONFIDENCES["confidence"])
