"""Tables with confidences or probabilities, in every format, with good and with bad rows."""

import gzip
import json
import zipfile

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


MIXED = {
    "one is neither": (("p_1", "p_2"), ["2", "1", "?"], [1, 0]),
    "one is hidden": (("p_1", "p_2"), ["2", "1", "-1"], [1, 0]),
    "columns in another order": (("p_1", "p_0"), ["1", "0", "7"], [0, 1]),
    "a name beside a number": (("p_no", "p_yes"), ["yes", "no", "1"], [1, 0]),
    "numbers with a point": (("p_1", "p_2"), ["2.0", "1.0", ""], [1, 0]),
    "numbers with zeros": (("p_01", "p_02"), ["2", "1", "x"], [1, 0]),
    "spaces": (("p_1", "p_2"), [" 2", "1 ", "?"], [1, 0]),
    "letters in another order": (("p_B", "p_A"), ["b", "a", "?"], [0, 1]),
    "initials": (("p_n", "p_c"), ["C", "N", "?"], [1, 0]),
    "truth": (("p_True", "p_False"), ["False", "true", "?"], [1, 0]),
    "indices from 0": (("p_1", "p_2"), ["0", "0", "1"], [0, 0, 1]),
    "most are indices": (("p_no", "p_yes"), ["0", "1", "yes"], [0, 1]),
}


@pytest.mark.parametrize("case", MIXED)
def test_all_answers_are_read_in_one_way(case, tmp_path):
    names, answers, expected = MIXED[case]
    path = write(tmp_path / "t.csv", {names[0]: [0.2, 0.6, 0.5], names[1]: [0.8, 0.4, 0.5], "answer": answers})
    found = read(path, max_unusable=ALLOWED if "indices" not in case else 0.4)
    assert found.answer.tolist() == expected
    assert found.lost.count == 3 - len(expected)


def test_truth_values_may_be_the_answers(tmp_path):
    columns = {"p_True": [0.2, 0.6], "p_False": [0.8, 0.4], "answer": [False, True]}
    for suffix in ("jsonl", "parquet"):
        assert read(write(tmp_path / f"t.{suffix}", columns)).answer.tolist() == [1, 0]


def test_answers_that_may_be_names_or_indices_are_refused(tmp_path):
    columns = {"p_1": [0.2] * 200, "p_2": [0.8] * 200, "answer": [1] * 199 + [0]}
    with pytest.raises(UserError, match="answer '1' is a column's name and an index, '0' is an index only"):
        read(write(tmp_path / "t.csv", columns))


NUMBERS = {
    "1 may be yes": (("p_yes", "p_no"), [1, 0], "the answer 1 may mean 'yes' or the second choice, 'no'"),
    "1 may be positive": (("p_pos", "p_neg"), [1, 0], "may mean 'pos' or the second choice"),
    "letters in another order": (("p_b", "p_a"), [1, 0], "in the order b, a, so the answer 1 may be 'a' or 'b'"),
    "counted from 1": (("p_no", "p_yes"), [1, 2], "count from 1: 1 equal the number of choices, and none is 0"),
    "counted from 1, in lists": (("probabilities",), [1, 2], "count from 1"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_may_be_no_places_from_0_are_refused(case, tmp_path):
    names, answers, complaint = NUMBERS[case]
    cells = dict(zip(names, ([0.2, 0.6], [0.8, 0.4]), strict=True)) if len(names) > 1 else LISTED
    with pytest.raises(UserError, match=complaint):
        read(write(tmp_path / "t.jsonl", {**cells, "answer": answers}), max_unusable=ALLOWED)


LISTED = {"probabilities": [[0.2, 0.8], [0.6, 0.4]]}


@pytest.mark.parametrize("name", ["gold", "correct_answer", "answerKey", "ground_truth", "correct"])
def test_a_models_own_answer_is_not_taken_for_the_right_one(name, tmp_path):
    columns = {"p_a": [0.2, 0.6], "p_b": [0.8, 0.4], "answer": ["b", "a"], name: ["a", "a"]}
    path = write(tmp_path / "t.csv", columns)
    with pytest.raises(UserError, match=f"'answer' and '{name}' differ; choose one with --answer"):
        read(path)
    assert read(path, columns=Columns(answer=name)).correct.tolist() == [False, True]


def test_verdicts_may_stand_beside_probabilities(tmp_path):
    columns = {"p_a": [0.2, 0.6], "p_b": [0.8, 0.4], "answer": ["a", "a"], "correct": [False, True]}
    assert read(write(tmp_path / "t.csv", columns)).correct.tolist() == [False, True]


@pytest.mark.parametrize("rows", [[0.334, 0.333, 0.334], [0.5, 0.3, 0.201], [0.333, 0.333, 0.333]])
def test_probabilities_of_three_decimals_are_read(rows, tmp_path):
    columns = {**{f"p_{at}": [value] for at, value in zip("abc", rows, strict=True)}, "answer": ["b"]}
    assert len(read(write(tmp_path / "t.csv", columns))) == 1


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("", "confidence is empty"),
        ("53 %", "'53 %'; it must be from 0 to 1, not a percentage"),
        ("-0.4", "'?-0.4'?; it must be from 0 to 1, not a logarithm"),
        ('"0,9"', "'0,9'; it must be from 0 to 1, with a point, or with semicolons"),
    ],
)
def test_a_cell_that_is_no_confidence_is_shown_with_the_remedy(cell, told, tmp_path):
    (tmp_path / "t.csv").write_text(f"confidence,correct\n{cell},1\n")
    with pytest.raises(UserError, match=told):
        read(tmp_path / "t.csv")


def test_a_spreadsheet_is_refused_with_the_remedy(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(UserError, match="is a spreadsheet or an archive; save it as CSV"):
        read(tmp_path / "t.xlsx")


@pytest.mark.parametrize("name", ["t.txt", "T.JSONL", "t.log"])
def test_json_is_known_by_its_content_and_endings_in_any_case(name, tmp_path):
    (tmp_path / name).write_text('{"confidence": 0.9, "correct": true}\n')
    assert read(tmp_path / name).confidence.tolist() == [0.9]


def test_the_separator_is_the_one_that_the_rows_agree_with(tmp_path):
    (tmp_path / "t.csv").write_text("question, text;confidence;correct\nx;0,9;1\ny;0,8;0\n")
    assert read(tmp_path / "t.csv").confidence.tolist() == [0.9, 0.8]


ODD = {
    "p_max": [0.9, 0.8, 0.7],
    "p_value": [0.01, 0.5, 0.04],
    "probability_correct": [0.1, 0.8, 0.7],
}


@pytest.mark.parametrize("reading", [None, "candidates", "vocabulary"])
@pytest.mark.parametrize("name", ODD)
def test_a_column_of_something_else_is_no_choice(name, reading, tmp_path):
    columns = {"p_a": [0.9, 0.2, 0.7], "p_b": [0.1, 0.8, 0.3], name: ODD[name], "answer": ["b", "b", "a"]}
    path = write(tmp_path / "t.csv", columns)
    with pytest.raises(UserError, match=f"without '{name}' to 1; .* --probabilities: p_a,p_b$"):
        read(path, reading=reading)
    found = read(path, reading=reading, columns=Columns(probabilities=("p_a", "p_b")))
    assert found.confidence.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_words_are_believed_to_be_choices_where_they_sum_to_one(tmp_path):
    columns = {"p_yes": [0.4, 0.1], "p_no": [0.2, 0.3], "p_max": [0.4, 0.3], "answer": ["yes", "yes"]}
    for reading in (None, "candidates", "vocabulary"):
        with pytest.raises(UserError, match=r"name those of the choices with --probabilities$"):
            read(write(tmp_path / "t.csv", columns), reading=reading)
    sure = {"p_yes": [0.4, 0.1], "p_no": [0.2, 0.6], "p_maybe": [0.4, 0.3], "answer": ["yes", "yes"]}
    assert read(write(tmp_path / "t.csv", sure)).confidence.tolist() == [0.4, 0.6]
    letters = {"p_a": [0.4, 0.1], "p_b": [0.1, 0.1], "answer": ["a", "b"]}
    assert read(write(tmp_path / "t.csv", letters), reading="candidates").confidence.tolist() == [0.8, 0.5]


TWO_NAMES = {
    "confidence": {"conf": [0.1, 0.4, 0.7]},
    "correct": {"is_correct": [True, True, True]},
    "id": {"question_id": ["a", "b", "d"]},
    "by": {"subject": ["x", "x", "y"], "task": ["x", "y", "y"]},
}


@pytest.mark.parametrize("role", TWO_NAMES)
def test_two_columns_for_one_part_must_agree(role, tmp_path):
    columns = {**CONFIDENCES, **TWO_NAMES[role]}
    path = write(tmp_path / "t.parquet", columns)
    with pytest.raises(UserError, match=f"columns '.*' and '.*' differ; choose one with --{role}$"):
        read(path)
    last = list(columns)[-1]
    found = read(path, columns=Columns(**{role: last}))
    at = {"confidence": found.confidence, "correct": found.correct, "id": found.ids, "by": found.groups}[role]
    assert at.tolist() == columns[last]


def test_two_columns_may_say_the_same(tmp_path):
    columns = {**CONFIDENCES, "conf": CONFIDENCES["confidence"], "is_correct": [1, 0, 1]}
    assert read(write(tmp_path / "t.parquet", columns)).correct.tolist() == [True, False, True]
    answers = {"p_a": [0.9, 0.2], "p_b": [0.1, 0.8], "answer": ["a", "b"], "label": ["b", "b"]}
    with pytest.raises(UserError, match="'answer' and 'label' differ; choose one with --answer"):
        read(write(tmp_path / "t.csv", answers))


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


def test_a_bad_list_is_a_bad_row(tmp_path):
    path = write(tmp_path / "t.csv", {"probabilities": [[0.7, 0.3], "[nan, 0.1]", "oops"], "answer": [0, 0, 0]})
    with pytest.raises(UserError, match=r"2 of 3 rows .* row 2: probabilities is '\[nan, 0.1\]'; it must be a list of"):
        read(path)
    assert read(path, max_unusable=0.7).probabilities.tolist() == [[0.7, 0.3]]


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32(), 2), pa.large_list(pa.float64()), pa.list_(pa.float16()), pa.list_(pa.decimal128(3, 2))],
)
def test_lists_of_any_numbers_are_read(kind, tmp_path):
    lists = pa.array([[0.75, 0.25], [0.5, 0.5]]).cast(pa.list_(pa.float64()))
    column = pa.array([[np.float16(v) for v in row] for row in lists.to_pylist()], kind) \
        if pa.types.is_float16(kind.value_type) else lists.cast(kind)  # fmt: skip
    pq.write_table(pa.table({"probabilities": column, "answer": [0, 1]}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").probabilities.tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_ids_are_texts_as_they_are_written(tmp_path):
    for ids in (["1", "001", "1.0"], ["12345678901234567891", "12345678901234567892", "1e3"]):
        assert read(write(tmp_path / "t.csv", {**CONFIDENCES, "id": ids})).ids.tolist() == ids
    mixed = {**CONFIDENCES, "id": [1, "ü", 'say "b"']}
    assert read(write(tmp_path / "t.jsonl", mixed)).ids.tolist() == ["1", "ü", 'say "b"']


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


# -- files -------------------------------------------------------------------------------------------------------

PLAIN = "confidence,correct,id\n0.9,true,a\n0.4,false,b\n0.7,true,c\n"
WRITTEN = {
    "utf-16": PLAIN.encode("utf-16"),
    "utf-8 with a mark": PLAIN.encode("utf-8-sig"),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace(".", ",").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "a line for Excel": b"sep=,\r\n" + PLAIN.replace("\n", "\r\n").encode(),
    "another line for Excel": b'"sep=|"\n' + PLAIN.replace(",", "|").encode(),
    "quotes inside words": b'confidence,correct,id,5"\n0.9,1,a,6" x\n0.4,0,b,"x" y\n0.7,1,c,\n',
    "breaks and doubled quotes": b'confidence,correct,"text","id"\n0.9,1,"x\n""y"",\r\nz","a"\n0.4,0,,b\n0.7,1,"",c',
}


@pytest.mark.parametrize("case", WRITTEN)
def test_csv_is_read_however_it_is_written(case, tmp_path):
    (tmp_path / "t.csv").write_bytes(WRITTEN[case])
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(WRITTEN[case]))
    for name in ("t.csv", "t.csv.gz"):
        found = read(tmp_path / name)
        assert found.confidence.tolist() == CONFIDENCES["confidence"]
        assert found.correct.tolist() == CONFIDENCES["correct"]
        assert found.ids.tolist() == CONFIDENCES["id"]


def test_line_breaks_in_cells_may_stand_anywhere_in_a_long_file(tmp_path):
    text = "first line\nsecond, " * 20
    rows = [f'{i % 10 / 10},{i % 2},"{text}"' for i in range(5000)]
    (tmp_path / "t.csv").write_text("\n".join(["confidence,correct,question", *rows]))
    found = read(tmp_path / "t.csv")
    assert (len(found), found.correct.sum()) == (5000, 2500)


def test_only_line_ends_part_json_lines(tmp_path):
    row = {"confidence": 0.9, "correct": True, "question": "a\u2028b\u0085c\x0b"}
    for end in ("\n", "\r\n"):
        text = end.join(json.dumps(row, ensure_ascii=False) for _ in range(3))
        for encoding in ("utf-8", "utf-16"):
            (tmp_path / "t.jsonl").write_bytes(text.encode(encoding))
            assert read(tmp_path / "t.jsonl").confidence.tolist() == [0.9] * 3


HEAD = "confidence,correct,question,id\n0.9,1,x,a\n"
UNREADABLE = {
    "nothing closes a quote": (HEAD + '0.9,1,"what,b\n0.8,0,it,c\n0.7,1,so,d\n', "line 3: a quote opens"),
    "another quote closes it": (HEAD + '0.9,1,"what,b\n0.8,0,"it",c\n0.7,1,so,d\n', "line 3: a quote opens"),
    "after a quote inside a word": (HEAD + '0.9,1,5" x,b\n0.9,1,"what,b\n0.8,0,it,c\n', "line 4: a quote opens"),
    "after a line for Excel": ("sep=,\n" + HEAD + '0.9,1,"what,b\n0.8,0,it,c\n', "line 4: a quote opens"),
    "a cell too many": (HEAD + "0.9,1,x,y,b\n", "line 3: 5 cells, but 4 columns have names; put cells"),
    "a long row": (HEAD + "0.9,1,x,b\n" + f"1,1,{'x' * 200}\n", "line 4: 3 cells, but 4 columns have names"),
    "too few cells": (HEAD + "a\n", "line 3: 1 cells, but 4 columns have names; put cells"),
    "a cell too many in cp1252": ((HEAD + "1,1,ñ,y,b\n").encode("cp1252"), "5 cells, but 4 columns have names"),
    "an id in cp1252": ((HEAD + "0.9,1,x,ñ\n").encode("cp1252"), "line 3 is not in UTF-8; save it as UTF-8"),
    "a heading in cp1252": ((HEAD.replace("id", "año")).encode("cp1252"), "line 1 is not in UTF-8; save it as"),
    "no text": (b"ARROW1\0\0" + bytes(range(64)) * 9, "is no text; give CSV, JSON Lines or Parquet"),
    "a column twice": ("confidence,confidence,correct\n0.9,0.1,1\n", "column 'confidence' is there twice"),
    "ids twice": ("confidence,correct,id,id\n0.9,1,1,1\n", "column 'id' is there twice; rename one"),
    "a choice twice": ("p_a,p_a,p_b,answer\n0.9,0.9,0.1,a\n", "column 'p_a' is there twice"),
    "one choice by two names": ("p_a,prob_A,answer\n0.9,0.1,a\n", "two columns are of choice 'a'"),
    "objects": ('probabilities,answer\n"{""A"": 0.9, ""B"": 0.1}",A\n', "holds no lists of numbers"),
    "an answer without an end": ("p_a,p_b,answer\n0.9,0.1,infinity\n", "answer 'infinity' is none of its 2 choices"),
    "an answer too long": (f"p_a,p_b,answer\n0.9,0.1,{'9' * 400}\n", "is none of its 2 choices"),
    "a number in Python's way": ("confidence,correct\n0_1,1\n", "confidence is '0_1'"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_wrong_file_is_refused_by_line_or_name(case, tmp_path):
    content, told = UNREADABLE[case]
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read(tmp_path / "t.csv")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG_VALUES = {
    "a list as answer": ({"p_a": 0.9, "p_b": 0.1, "answer": ["a"]}, "column 'answer' holds lists or objects"),
    "infinity": ({"probabilities": [0.9, 0.1], "answer": float("inf")}, "answer inf is none of its 2 choices"),
    "a long answer": ({"probabilities": [0.9, 0.1], "answer": 10**400}, "is none of its 2 choices"),
    "a text of one": ({"probabilities": "0.9", "answer": 0}, "holds no lists of numbers"),
    "an object": ({"probabilities": {"A": 0.9}, "answer": 0}, "holds no lists of numbers"),
    "an object as id": ({"confidence": 0.9, "correct": 1, "id": {"a": 1}}, "column 'id' holds lists or objects"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_refused_in_a_line(case, tmp_path):
    row, told = WRONG_VALUES[case]
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=told):
        read(tmp_path / "t.jsonl")


def test_what_parquet_allows_and_an_audit_does_not_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"confidence": [0.9], "correct": [1], "id": [b"\xff"]}), path)
    with pytest.raises(UserError, match=r"column 'id' is no text \(binary\); give another as --id"):
        read(path)
    pq.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2 + [pa.array([1])], ["conf", "conf", "correct"]), path)
    with pytest.raises(UserError, match="column 'conf' is there twice"):
        read(path)
    with pytest.raises(UserError, match="'a' is named twice"):
        read(path, columns=Columns(probabilities=("a", "a")))


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
