"""Data as it is published and as spreadsheets and pandas write it: read right, or refused with what decides."""

import gzip
import json
import random

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firstlib.runtime.errors import UserError
from firstlib.settings.data import Data, TaskData
from firstlib.tasks import hub
from firstlib.tasks.class_names import with_names
from firstlib.tasks.question import Example

WORDS = ["kettle", "funnel", "saddle", "lantern", "needle", "ladder", "anvil", "pulley"]
DRAW = random.Random(1)
ROWS = [(f"Job {i}: what would one take?", DRAW.sample(WORDS, 4), 7 * i % 4) for i in range(40)]
LETTERS = "ABCD"
RIGHT = [choices[answer] for _, choices, answer in ROWS]


def rows_of(make):
    return [make(question, choices, answer) for question, choices, answer in ROWS]


def write(folder, name, rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(place, own=None, **data):
    return hub.read("own", Data(source="hub", **data), place, lambda items: [None] * len(items), own or TaskData())


def answered(split):
    return [question.choices[question.answer] for question in split.items]


def named(choices, names):
    return dict(zip(names, choices, strict=False))


# -- layouts -----------------------------------------------------------------------------------------------------

LAYOUTS = {
    "ARC": lambda q, c, a: {"question": q, "choices": {"text": c, "label": list("1234")}, "answerKey": str(a + 1)},
    "MMLU": lambda q, c, a: {"question": q, "subject": "tools", "choices": c, "answer": a},
    "MMLU-Pro": lambda q, c, a: {"question": q, "options": c, "answer": LETTERS[a], "answer_index": a, "src": "x"},
    "RACE": lambda q, c, a: {"example_id": "same", "article": "A.", "question": q, "options": c, "answer": LETTERS[a]},
    "MedMCQA": lambda q, c, a: {"question": q, **named(c, ["opa", "opb", "opc", "opd"]), "cop": a},
    "MedQA": lambda q, c, a: {"question": q, "answer": c[a], "options": named(c, "ABCD") | {"E": None},
                              "answer_idx": LETTERS[a]},
    "HellaSwag": lambda q, c, a: {"ind": 3, "ctx": q, "endings": c, "label": str(a), "split_type": "indomain"},
    "SWAG": lambda q, c, a: {"startphrase": q, **named(c, [f"ending{i}" for i in range(4)]), "label": a},
    "CosmosQA": lambda q, c, a: {"context": "C.", "question": q, **named(c, [f"answer{i}" for i in range(4)]), "label": a},  # noqa: E501
    "Belebele": lambda q, c, a: {"flores_passage": "P.", "question": q,
                                 **named(c, [f"mc_answer{i}" for i in range(1, 5)]), "correct_answer_num": str(a + 1)},
    "LogiQA": lambda q, c, a: {"context": "C.", "query": q, "options": c, "correct_option": a},
    "ReClor": lambda q, c, a: {"context": "C.", "question": q, "answers": c, "label": a, "id_string": "x"},
    "SciQ": lambda q, c, a: {"question": q, **named([x for x in c if x != c[a]], [f"distractor{i}" for i in "123"]),
                             "correct_answer": c[a], "support": ""},
    "GPQA": lambda q, c, a: {"Question": q, "Correct Answer": c[a], **named(
        [x for x in c if x != c[a]], [f"Incorrect Answer {i}" for i in "123"])},
    "TruthfulQA": lambda q, c, a: {"question": q, "mc1_targets": {
        "choices": [c[a], *(x for x in c if x != c[a])], "labels": [1, 0, 0, 0]}},
}  # fmt: skip
FORMS = {
    "a KMMLU row": lambda q, c, a: {"question": q, "answer": a + 1, **named(c, "ABCD"), "Category": "x"},
    "lettered options": lambda q, c, a: {"question": q, **named(c, [f"Option {x}" for x in "ABCD"]), "Answer": LETTERS[a]},  # noqa: E501
    "AQuA's marks": lambda q, c, a: {"question": q, "options": [f"{x}){t}" for x, t in zip("ABCD", c, strict=True)],
                                     "correct": LETTERS[a]},
    "AGIEval": lambda q, c, a: {"passage": None, "question": q, "label": LETTERS[a], "answer": None,
                                "options": [f"({x}){t}" for x, t in zip("ABCD", c, strict=True)]},
    "BIG-bench": lambda q, c, a: {"inputs": q, "multiple_choice_targets": c,
                                  "multiple_choice_scores": [int(i == a) for i in range(4)]},
    "HeadQA": lambda q, c, a: {"qtext": q, "answers": [{"aid": i + 1, "atext": t} for i, t in enumerate(c)], "ra": a + 1},  # noqa: E501
    "a row in `data`": lambda q, c, a: {"id": None, "data": {
        "Question": q, "Options": named(c, "ABCD"), "Correct Option": LETTERS[a]}},
    "label and text": lambda q, c, a: {"question": q, "answer": LETTERS[a].lower(), "choices": [
        {"label": x, "text": t} for x, t in zip("ABCD", c, strict=True)]},
    "letters as people write them": lambda q, c, a: {"question": q, "choices": c, "answer": [
        LETTERS[a], f"({LETTERS[a]})", f"{LETTERS[a].lower()})", f"Answer: {LETTERS[a]}", f"{LETTERS[a]}. {c[a]}"][len(q) % 5]},  # noqa: E501
    "letters and texts": lambda q, c, a: {"question": q, "choices": c, "answer": [c[a], LETTERS[a]][len(c[0]) % 2]},
    "a text in another case": lambda q, c, a: {"question": q, "choices": c, "answer": f" {c[a].upper()} "},
    "a list of one": lambda q, c, a: {"question": q, "choices": c, "answer": [a]},
    "an index with a point": lambda q, c, a: {"question": q, "choices": c, "answer": float(a)},
    "an index as text": lambda q, c, a: {"question": q, "choices": c, "answer": str(a)},
    "an index from 1": lambda q, c, a: {"question": q, "choices": c, "answer": a + 1},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_is_recognised_and_said(tmp_path, capsys, name):
    found = read(write(tmp_path, "mine.jsonl", rows_of(LAYOUTS[name])))["train"]
    assert (answered(found), found.unusable) == (RIGHT, {})
    assert f"own: read as {name} (" in capsys.readouterr().out
    assert len({question.answer for question in found.items}) == 4  # where the right one stood first, it was moved


@pytest.mark.parametrize("name", FORMS)
def test_choices_and_answers_of_every_form_are_read(tmp_path, name):
    found = read(write(tmp_path, "mine.jsonl", rows_of(FORMS[name])))["train"]
    assert (answered(found), found.unusable) == (RIGHT, {})


def test_two_and_three_choices_are_counted_as_their_data_sets_do(tmp_path):
    piqa = [{"goal": q, "sol1": c[0], "sol2": c[1], "label": 1} for q, c, _ in ROWS]
    grande = [{"sentence": q, "option1": c[0], "option2": c[1], "answer": "1"} for q, c, _ in ROWS]
    siqa = [{"context": "C.", "question": q, "answerA": c[0], "answerB": c[1], "answerC": c[2], "label": "2"}
            for q, c, _ in ROWS]  # fmt: skip
    copa = [
        {"premise": "He fell.", "choice1": c[0], "choice2": c[1], "question": "cause", "label": 0} for _, c, _ in ROWS
    ]
    places = [{q.answer for q in read(write(tmp_path, "mine.jsonl", rows))["train"].items}
              for rows in (piqa, grande, siqa, copa)]  # fmt: skip
    assert places == [{1}, {0}, {1}, {0}]
    assert "He fell.\nWhat was the cause of this?" in read(tmp_path / "mine.jsonl")["train"].items[0].prompt


@pytest.mark.parametrize(("key", "right"), [("answer", True), ("label", 1), ("label", "1"), ("answer", "TRUE")])
def test_boolq_is_asked_yes_or_no(tmp_path, key, right):
    wrong = {"1": "0", "TRUE": "FALSE"}.get(right, type(right)(0))
    rows = [{"question": f"is it {i}", "passage": "P.", key: right if i % 3 else wrong} for i in range(9)]
    found = read(write(tmp_path, "mine.jsonl", rows))["train"].items
    assert [question.response for question in found] == ["No", "Yes", "Yes"] * 3


def test_a_passage_stands_before_the_question(tmp_path):
    question = read(write(tmp_path, "mine.jsonl", rows_of(LAYOUTS["RACE"])))["train"].items[0]
    assert question.prompt.startswith(f"Q: A.\n{ROWS[0][0]}\nAnswer Choices:\n(a) ")


def test_questions_may_have_fewer_choices_than_columns(tmp_path):
    rows = [
        {"question": q, **named(c[: 3 + i % 2], "ABCD"), "answer": "ABC"[i % 3]} for i, (q, c, _) in enumerate(ROWS)
    ]
    assert {len(q.choices) for q in read(write(tmp_path, "mine.jsonl", rows))["train"].items} == {3, 4}


# -- what rows alone do not tell ---------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [lambda a: 1 + a % 2, lambda a: str(1 + a % 2)])
def test_numbers_that_may_count_from_0_or_1_are_refused_until_a_setting_decides(tmp_path, written):
    place = write(tmp_path, "mine.jsonl", rows_of(lambda q, c, a: {"question": q, "choices": c, "answer": written(a)}))
    with pytest.raises(UserError, match=r"numbers from 0 .* or numbers from 1 .*tasks\.own\.answers=from-1") as error:
        read(place)
    assert len(str(error.value)) < 500
    for way, shift in (("from-0", 0), ("from-1", 1)):
        found = read(place, TaskData(answers=way))["train"]
        assert [question.answer for question in found.items] == [1 + a % 2 - shift for _, _, a in ROWS]


def test_numbers_that_are_choices_too_are_refused_and_read_as_told(tmp_path):
    rows = [{"question": q, "choices": ["1", "3", "0", "2"], "answer": str(a)} for q, _, a in ROWS]
    place = write(tmp_path, "mine.jsonl", rows)
    with pytest.raises(UserError, match=r"own texts .* or numbers from 0 .*which differ in 40 rows"):
        read(place)
    assert answered(read(place, TaskData(answers="text"))["train"]) == [str(a) for _, _, a in ROWS]
    typed = write(tmp_path, "typed.jsonl", [{**row, "answer": int(row["answer"])} for row in rows])
    assert [question.answer for question in read(typed)["train"].items] == [a for _, _, a in ROWS]


def test_numeric_choices_are_texts_where_all_rows_say_so(tmp_path):
    rows = [{"question": q, "choices": [i, i + 2, i + 5, i + 9], "answer": i + 5} for i, (q, _, _) in enumerate(ROWS)]
    assert [question.answer for question in read(write(tmp_path, "mine.jsonl", rows))["train"].items] == [2] * 40


def test_fields_names_what_is_not_recognised(tmp_path):
    rows = [{"frage": q, "wahl": c, "richtig": LETTERS[a], "nr": i} for i, (q, c, a) in enumerate(ROWS)]
    place = write(tmp_path, "mine.jsonl", rows)
    with pytest.raises(UserError, match=r"fields frage, wahl, richtig, nr; not found: question .*tasks\.own\.fields"):
        read(place)
    fields = {"question": "frage", "choices": "wahl", "answer": "richtig", "id": "nr"}
    found = read(place, TaskData(fields=fields))["train"]
    assert (answered(found), found.items[7].id) == (RIGHT, "7")
    with pytest.raises(UserError, match=r"tasks\.own\.fields\.answer: no row has 'Antwort'; its rows have"):
        read(place, TaskData(fields={**fields, "answer": "Antwort"}))


def test_many_wrong_answers_are_one_short_line(tmp_path):
    rows = [{"id": f"a-very-long-id-{i}", "question": q, "choices": c, "answer": f"{i} or so"}
            for i, (q, c, _) in enumerate(ROWS * 50)]  # fmt: skip
    with pytest.raises(
        UserError, match=r"2000 rows \(100\.0%\) cannot be used: the answer '0 or so' is .*, and the like: 2000"
    ) as e:
        read(write(tmp_path, "mine.jsonl", rows))
    assert "fields of the first: id, question, choices, answer" in str(e.value)
    assert len(str(e.value)) < 500


# -- what only all rows tell ----------------------------------------------------------------------------------------

MARKS = {
    "in another order": (["B) sea", "A) tea", "C) ink"], "A", "tea"),
    "with dots, in another order": (["B. sea", "C. ink", "A. tea"], "c", "ink"),
    "with the answer's text": (["B) sea", "A) tea", "C) ink"], "A) tea", "tea"),
    "by number": (["B) sea", "A) tea", "C) ink"], 0, "sea"),
    "with a gap": (["A) tea", "C) ink", "D) sea"], "C", "C) ink"),
    "with a gap, at the end": (["A) tea", "C) ink", "D) sea"], "D", "D) sea"),
    "labelled alike": ({"label": ["B", "A"], "text": ["B) sea", "A) tea"]}, "A", "tea"),
    "initials": (["J. Adams", "B. Franklin", "T. Jefferson"], "C", "T. Jefferson"),
    "speakers": (["M: Yes.", "W: No."], "B", "W: No."),
}


@pytest.mark.parametrize("name", MARKS)
def test_letters_that_choices_begin_with_say_which_is_meant(tmp_path, name):
    choices, answer, right = MARKS[name]
    rows = [{"question": q, "choices": choices, "answer": answer} for q, _, _ in ROWS]
    rows += [{**row, "answer": 1} for row in rows] * (answer == 0)
    assert answered(read(write(tmp_path, "mine.jsonl", rows))["train"])[:40] == [right] * 40


@pytest.mark.parametrize(
    "row",
    [
        {"A": "B) sea", "B": "A) tea", "C": "C) ink", "D": None, "answer": "A"},
        {"option_a": "B) sea", "option_b": "A) tea", "answer": "A"},
        {"choices": {"label": ["A", "B"], "text": ["B) sea", "A) tea"]}, "answer": "A"},
    ],
)
def test_choices_that_begin_with_another_choices_letter_are_refused(tmp_path, row):
    rows = [{"question": q, **row} for q, _, _ in ROWS] + [{"question": "q", **row, "D": "D) cup"}] * ("A" in row)
    with pytest.raises(UserError, match=r"the choices labelled a, b.* begin with b, a.*: 4\d \("):
        read(write(tmp_path, "mine.jsonl", rows))


def test_a_choice_that_only_late_rows_have_is_read(tmp_path):
    frame = pd.DataFrame([{"question": f"q{i}", **named(WORDS, "ABCD"), "E": None, "answer": "D"} for i in range(1500)])
    frame.loc[1400, ["E", "answer"]] = ["Z", "E"]
    frame.to_csv(tmp_path / "mine.csv", index=False)
    (tmp_path / "mine.jsonl").write_text("".join(row.dropna().to_json() + "\n" for _, row in frame.iterrows()))
    for file in ("mine.csv", "mine.jsonl"):
        found = read(tmp_path / file)["train"]
        assert (found.unusable, found.items[1400].choices[-1], found.items[1400].answer) == ({}, "Z", 4)
        assert len(found.items[7].choices) == 4


def test_an_answer_may_be_the_name_of_the_choices_field(tmp_path):
    rows = rows_of(
        lambda q, c, a: {"question": q, **named(c, [f"Option_{i}" for i in "1234"]), "answer": f"option_{a + 1}"}
    )
    assert answered(read(write(tmp_path, "mine.jsonl", rows))["train"]) == RIGHT


# -- free text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda q, text: {"instruction": q, "input": "", "output": text},
        lambda q, text: {"instruction": q, "context": "", "response": text, "category": "x"},
        lambda q, text: {"prompt": q, "completion": text},
        lambda q, text: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": text}]},
        lambda q, text: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": text}]},
    ],
)
def test_free_text_is_recognised(tmp_path, make):
    found = read(write(tmp_path, "mine.jsonl", [make(q, c[a]) for q, c, a in ROWS]))["train"].items
    assert all(isinstance(item, Example) for item in found)
    assert [item.response for item in found] == RIGHT
    assert f"### Instruction:\n{ROWS[0][0]}\n" in found[0].prompt


def test_questions_without_choices_are_free_text_only_if_told(tmp_path):
    place = write(tmp_path, "mine.jsonl", [{"question": q, "answer": c[a]} for q, c, a in ROWS])
    with pytest.raises(UserError, match=r"not found: choices .*tasks\.own\.kind to free-text or yes-no"):
        read(place)
    assert read(place, TaskData(kind="free-text"))["train"].items[3].response == RIGHT[3]


# -- spreadsheets and pandas -------------------------------------------------------------------------------------

COLUMNS = pd.DataFrame(
    [{"Question": f'{q} "so", köstlich; ja', **named(c, "ABCD"), "Answer": LETTERS[a]} for q, c, a in ROWS]
)
LISTS = pd.DataFrame([{"question": q, "choices": c, "answer": LETTERS[a]} for q, c, a in ROWS])
ARC = pd.DataFrame(rows_of(LAYOUTS["ARC"]))


def from_parquet(frame, folder):
    frame.to_parquet(folder / "frame")
    return pd.read_parquet(folder / "frame")


SHEETS = {
    "commas": lambda f: COLUMNS.to_csv(f, index=False),
    "an index": lambda f: COLUMNS.to_csv(f),
    "semicolons": lambda f: COLUMNS.to_csv(f, index=False, sep=";"),
    "bars": lambda f: COLUMNS.to_csv(f, index=False, sep="|"),
    "Excel's Unicode text": lambda f: COLUMNS.to_csv(f, index=False, sep="\t", encoding="utf-16"),
    "Windows": lambda f: COLUMNS.to_csv(f, index=False, sep=";", encoding="cp1252"),
    "a mark": lambda f: COLUMNS.to_csv(f, index=False, sep=";", encoding="utf-8-sig"),
    "Excel's first line": lambda f: f.write_bytes(
        ("\ufeffsep=;\r\n" + COLUMNS.to_csv(index=False, sep=";", lineterminator="\r\n")).encode()),
    "separators at the end": lambda f: f.write_text(
        "\n".join(f"{line};;" for line in COLUMNS.to_csv(index=False, sep=";").splitlines()), encoding="utf-8"),
    "MMLU without a heading": lambda f: COLUMNS.to_csv(f, index=False, header=False),
    "lists as pandas writes them": lambda f: LISTS.to_csv(f, index=False),
    "lists as NumPy writes them": lambda f: from_parquet(LISTS, f.parent).to_csv(f, index=False),
    "objects as pandas writes them": lambda f: ARC.to_csv(f, index=False),
    "objects with NumPy's lists": lambda f: from_parquet(ARC, f.parent).to_csv(f, index=False),
    "flattened objects": lambda f: pd.json_normalize(rows_of(LAYOUTS["ARC"])).to_csv(f, index=False),
    "packed": lambda f: f.with_suffix(".csv.gz").write_bytes(gzip.compress(COLUMNS.to_csv(index=False).encode())),
}  # fmt: skip


@pytest.mark.parametrize("name", SHEETS)
def test_a_csv_file_of_any_dialect_is_read(tmp_path, name):
    folder = tmp_path / "set"
    folder.mkdir()
    SHEETS[name](folder / "mine.csv")
    (folder / "frame").unlink(missing_ok=True)
    found = read(folder)["train"]
    assert (answered(found), found.unusable) == (RIGHT, {})
    assert name not in ("Windows", "Excel's Unicode text") or "köstlich" in found.items[0].prompt


def test_cells_are_text(tmp_path):
    frame = pd.DataFrame([{"question": q, "choices": '["True", "False", "7", "9.50"]',
                           "answer": ["True", "False", "7", "9.50"][a]} for q, _, a in ROWS])  # fmt: skip
    frame.to_csv(tmp_path / "mine.csv", index=False)
    assert answered(read(tmp_path / "mine.csv")["train"]) == [["True", "False", "7", "9.50"][a] for _, _, a in ROWS]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question,A,B,answer\nWhat, then?,x,y,a\n" + "q,x,y,a\n" * 9, "line 2: 5 cells, but 4 columns have names"),
        ("question,A,A,answer\n" + "q,x,y,a\n" * 9, "two columns are called 'A'"),
        ('question,A,B,answer\n"q,x,y,a\n' + "q,x,y,a\n" * 9, "unexpected end of data"),
    ],
)
def test_a_csv_file_that_would_be_misread_is_refused(tmp_path, content, message):
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(UserError, match=f"mine.csv: not readable as csv: .*{message}"):
        read(tmp_path / "mine.csv")


@pytest.mark.parametrize("mark", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("last", ['x",tea,sea,a', 'x,y",sea,a'])
def test_quotation_marks_that_make_one_row_of_several_are_refused(tmp_path, mark, last):
    rows = [f"q{i},tea,sea,a" for i in range(40)]
    rows[9], rows[19] = '"Why tea,tea,sea,a', last
    text = "question,A,B,answer\n" + "".join(f"{row}\n" for row in rows)
    (tmp_path / "mine.csv").write_text(text.replace(",", mark))
    with pytest.raises(UserError, match=r"mine\.csv: not readable as csv: lines 11 to 21 are one row, .* save it as"):
        read(tmp_path / "mine.csv")


def test_cells_of_several_lines_are_read(tmp_path):
    texts = ["one, two, three\nfour", "a, b, c, d\ne", "no\n\nmark", "ends\n", "a, b\nc, d\ne, f\ng, h\ni, j"]
    rows = [(f"{texts[i % 5]} {q}", c[:2], a % 2) for i, (q, c, a) in enumerate(ROWS)]
    frame = pd.DataFrame([{"question": q, **named(c, "AB"), "answer": LETTERS[a]} for q, c, a in rows])
    for count in (40, 1, 2):
        for mark in ",;\t":
            frame[:count].to_csv(tmp_path / "mine.csv", index=False, sep=mark)
            assert answered(read(tmp_path / "mine.csv")["train"]) == [c[a] for _, c, a in rows[:count]]


def test_text_in_another_code_page_is_refused_until_it_is_named(tmp_path):
    text = "question,A,B,answer\n" + "".join(f"Что это {i}?,да,нет,{'ab'[i % 2]}\n" for i in range(20))
    (tmp_path / "mine.csv").write_bytes(text.encode("cp1251"))
    with pytest.raises(UserError, match="neither UTF-8 nor Windows' cp1252"):
        read(tmp_path / "mine.csv")
    assert read(tmp_path / "mine.csv", TaskData(encoding="cp1251"))["train"].items[0].choices == ("да", "нет")


RECORDS = LISTS.to_dict("records")
DOCUMENTS = {
    "pandas' default": LISTS.to_json(),
    "pandas' records": LISTS.to_json(orient="records"),
    "pandas' split": LISTS.to_json(orient="split"),
    "pandas' index": LISTS.to_json(orient="index"),
    "pandas' table": LISTS.to_json(orient="table"),
    "a list over many lines": json.dumps(RECORDS, indent=1),
    "objects over many lines": "\n".join(json.dumps(row, indent=1) for row in RECORDS),
    "rows in an object": json.dumps({"version": 1, "data": RECORDS}, indent=1),
    "the hub's row viewer": json.dumps(
        {"features": [{"name": "q"}], "rows": [{"row_idx": 0, "row": r} for r in RECORDS]}
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_json_document_of_any_form_is_read(tmp_path, name):
    (tmp_path / "mine.json").write_text(DOCUMENTS[name])
    assert answered(read(tmp_path / "mine.json")["train"]) == RIGHT


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marked_json_lines_are_read(tmp_path, encoding):
    text = "".join(json.dumps(row) + "\r\n" for row in RECORDS)
    (tmp_path / "mine.jsonl").write_bytes(text.encode(encoding))
    assert answered(read(tmp_path / "mine.jsonl")["train"]) == RIGHT


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json"])
def test_a_field_that_is_there_twice_is_refused(tmp_path, name):
    lines = [json.dumps(row) for row in RECORDS]
    lines[2] = lines[2].replace("}", ', "answer": "A"}')
    text = "\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]"
    (tmp_path / name).write_text(text)
    where = "line 3: " if name.endswith("l") else ""
    with pytest.raises(UserError, match=f"{name}: .*{where}the field 'answer' is there twice in one object"):
        read(tmp_path / name)


# -- splits ------------------------------------------------------------------------------------------------------


def parts(folder, *names):
    for name in names:
        write(folder, name, [{"question": f"{name} {q}", "choices": c, "answer": LETTERS[a]} for q, c, a in ROWS])
    return folder


@pytest.mark.parametrize(
    ("held", "split"),
    [
        ("eval.jsonl", "validation"), ("eval_datasets.json", "validation"), ("default/validation/0000.jsonl", "validation"),  # noqa: E501
        ("testing.jsonl", "test"), ("heldout.jsonl", "test"), ("hold-out.jsonl", "test"), ("test1.jsonl", "test"),
        ("csqaTestSet.jsonl", "test"), ("test/part.jsonl", "test"), ("evaluation/a.jsonl", "validation"),
    ],
)  # fmt: skip
def test_held_out_files_are_not_trained_on(tmp_path, capsys, held, split):
    found = read(parts(tmp_path, "train.jsonl", held))
    assert {name: dict(part.files) for name, part in found.items()} == {"train": {"train.jsonl": 40}, split: {held: 40}}
    assert f"own: {held} -> {split}, 40 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.jsonl", "unseen.jsonl"], r"unseen\.jsonl, beside train\.jsonl \(train\), tells no split.*heldout"),
        (["easy.jsonl", "hard.jsonl"], r"easy\.jsonl, beside hard\.jsonl, tells no split"),
        (["train.jsonl", "test/train.jsonl"], r"test/train\.jsonl tells two splits, test and train"),
        (["train.jsonl", "train_test.jsonl"], "tells two splits"),
    ],
)
def test_a_split_that_cannot_be_told_is_refused(tmp_path, names, message):
    with pytest.raises(UserError, match=message) as error:
        read(parts(tmp_path, *names))
    assert len(str(error.value)) < 500


def test_the_preset_says_which_file_is_which_split(tmp_path):
    own = TaskData(splits={"train": "part-*.jsonl", "test": ["final.jsonl"]})
    found = read(parts(tmp_path, "part-a.jsonl", "part-b.jsonl", "final.jsonl", "notes.jsonl"), own)
    assert {name: list(part.files) for name, part in found.items()} == {
        "train": ["part-a.jsonl", "part-b.jsonl"], "test": ["final.jsonl"]}  # fmt: skip
    with pytest.raises(UserError, match=r"tasks\.own\.splits\.test: nothing is called 'last\.jsonl'; there is final"):
        read(tmp_path, TaskData(splits={"train": "part-*", "test": "last.jsonl"}))


def test_numbered_files_without_a_split_are_one_data_set(tmp_path):
    found = read(parts(tmp_path, "data-0-of-2.jsonl", "data-1-of-2.jsonl"))
    assert {name: len(part.items) for name, part in found.items()} == {"train": 80}


def test_rows_may_name_their_split(tmp_path):
    rows = [{**row, "split": "test" if i % 4 == 3 else "train"} for i, row in enumerate(RECORDS)]
    found = read(write(tmp_path, "mine.jsonl", rows))
    assert {name: part.files for name, part in found.items()} == {
        "train": {"mine.jsonl": 30},
        "test": {"mine.jsonl": 10},
    }
    with pytest.raises(UserError, match=r"row 4 of train\.jsonl says split 'test', the file's name train"):
        read(write(tmp_path / "set", "train.jsonl", rows).parent)


def test_rows_may_name_their_split_late_and_in_an_object(tmp_path):
    rows = [{**RECORDS[i % 40], "question": f"q{i}", **({"split": "test"} if i > 1500 else {})} for i in range(1600)]
    expected = {"train": {"mine.jsonl": 1501}, "test": {"mine.jsonl": 99}}
    for form in (rows, [{"data": row} for row in rows]):
        found = read(write(tmp_path, "mine.jsonl", form))
        assert {name: part.files for name, part in found.items()} == expected


@pytest.mark.parametrize(
    ("values", "row", "value"),
    [
        (["train", "test", "unused"], 3, "unused"),
        (["easy", "hard"], 1, "easy"),
        ([None, "hard"], 2, "hard"),
        ([None] * 1200 + ["train", "unseen"], 1202, "unseen"),
    ],
)
@pytest.mark.parametrize("name", ["split", "Partition"])
def test_a_split_of_rows_that_is_not_known_is_refused(tmp_path, values, row, value, name):
    rows = [{**RECORDS[i % 40], "question": f"q{i}", name: each} for i, each in enumerate(values * 2)]
    message = rf"row {row} of mine\.jsonl says split '{value}', which is not train, .*list the files under tasks\.own"
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, "mine.jsonl", rows))
    assert len(read(tmp_path / "mine.jsonl", TaskData(splits={"train": "mine.jsonl"}))["train"].items) == len(rows)


@pytest.mark.parametrize("values", [["v1"], [0, 1, 2], ["fold1", "fold2"]])
def test_rows_of_one_group_or_of_numbered_ones_are_one_data_set(tmp_path, values):
    rows = [{**row, "split": values[i % len(values)]} for i, row in enumerate(RECORDS)]
    assert {name: len(part.items) for name, part in read(write(tmp_path, "mine.jsonl", rows)).items()} == {"train": 40}


def test_a_row_in_the_list_of_another_split_is_refused(tmp_path):
    rows = [{**row, "split": "test"} for row in RECORDS]
    (tmp_path / "mine.json").write_text(json.dumps({"train": rows, "dev": RECORDS[30:]}))
    with pytest.raises(UserError, match=r"row 1 of mine\.json says split 'test', the list it is in train; mend it"):
        read(tmp_path / "mine.json")


def test_a_document_may_hold_a_list_for_each_split(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"train": RECORDS[:30], "dev": RECORDS[30:]}))
    assert {name: len(part.items) for name, part in read(tmp_path / "mine.json").items()} == {
        "train": 30,
        "validation": 10,
    }


def test_a_split_in_a_file_that_is_not_read_is_refused(tmp_path):
    (parts(tmp_path, "train.jsonl") / "test.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"test\.xlsx is named like a split, but \.xlsx is not read; save it as CSV"):
        read(tmp_path)


def test_a_folder_of_save_to_disk_and_a_clone_of_the_hub_are_read(tmp_path):
    whole = datasets.Dataset.from_list(RECORDS)
    datasets.DatasetDict({"train": whole, "eval": whole.select(range(10))}).save_to_disk(tmp_path / "saved")
    assert {n: answered(p) for n, p in read(tmp_path / "saved").items()} == {"train": RIGHT, "validation": RIGHT[:10]}
    whole.save_to_disk(tmp_path / "one")
    assert answered(read(tmp_path / "one")["train"]) == RIGHT
    whole.to_parquet(tmp_path / "clone" / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "clone" / "dataset_infos.json").write_text('{"default": {"features": {}}}')
    assert read(tmp_path / "clone")["train"].files == {"data/train-00000-of-00001.parquet": 40}


@pytest.mark.parametrize("hidden", [-1, "-1", "?", "", None, "hidden"])
def test_hidden_answers_are_no_answers(tmp_path, capsys, hidden):
    write(tmp_path, "train.jsonl", RECORDS)
    write(tmp_path, "test.jsonl", [{**row, "answer": hidden} for row in RECORDS])
    assert list(read(tmp_path)) == ["train"]
    assert "test.jsonl -> test, 40 rows; its answers are hidden" in capsys.readouterr().out


def test_a_split_that_is_written_in_another_way_is_not_hidden(tmp_path):
    write(tmp_path, "train.jsonl", RECORDS)
    write(tmp_path, "test.jsonl", [{**row, "answer": LETTERS.index(row["answer"])} for row in RECORDS[:20]])
    with pytest.raises(UserError, match=r"own test: 20 rows \(100\.0%\) cannot be used: the answer 0 is neither"):
        read(tmp_path)


# -- classes with names ------------------------------------------------------------------------------------------


def saved(dataset, folder):
    dataset.save_to_disk(folder / "saved")
    return folder / "saved"


def feather(dataset, folder):
    table = dataset.data.table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
    with pa.ipc.new_file(folder / "mine.feather", table.schema) as file:
        file.write_table(table)
    return folder / "mine.feather"


def parquet(dataset, folder):
    dataset.to_parquet(folder / "mine.parquet")
    return folder / "mine.parquet"


PLACES = {
    "save_to_disk": saved,
    "Parquet": parquet,
    "Arrow": lambda dataset, folder: next(saved(dataset, folder).glob("*.arrow")).rename(folder / "mine.arrow"),
    "Feather": feather,
}


def classes(names, make):
    """A data set whose answers are classes: integers, whose names have this order."""
    return datasets.Dataset.from_list(rows_of(make)).cast_column("answer", datasets.ClassLabel(names=list(names)))


def within(name, make):
    """The same with the classes in an object or in a list."""
    rows = rows_of(lambda q, c, a: {name: make(q, c, a)} if name == "data" else {**make(q, c, a), name: [LETTERS[a]]})
    dataset = datasets.Dataset.from_list(rows)
    features, named = dataset.features.copy(), datasets.ClassLabel(names=list("DCBA"))
    if name == "data":
        features["data"] = {**features["data"], "answer": named}
        rows = [{"data": {**row["data"], "answer": named.str2int(row["data"]["answer"])}} for row in rows]
    else:
        features["answer"] = datasets.List(named)
    return datasets.Dataset.from_list(rows, features=features)


COLUMNS_OF = lambda q, c, a: {"question": q, **named(c, "ABCD"), "answer": LETTERS[a]}  # noqa: E731
CLASSES = {
    "texts in alphabetical order": lambda: classes(sorted(WORDS), lambda q, c, a: {"question": q, "choices": c, "answer": c[a]}),  # noqa: E501
    "letters": lambda: classes("ABCD", COLUMNS_OF),
    "letters in another order": lambda: classes("CABD", COLUMNS_OF),
    "numbers from 0": lambda: classes("0123", lambda q, c, a: {"question": q, "choices": c, "answer": str(a)}),
    "numbers from 1": lambda: classes("1234", lambda q, c, a: {"question": q, "choices": c, "answer": str(a + 1)}),
    "the fields of the choices": lambda: classes(
        [f"ending{i}" for i in (2, 0, 1, 3)],
        lambda q, c, a: {"question": q, **named(c, [f"ending{i}" for i in range(4)]), "answer": f"ending{a}"}),
    "in an object": lambda: within("data", COLUMNS_OF),
    "in a list": lambda: within("answer", COLUMNS_OF),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_read_as_its_name(tmp_path, name, place):
    found = read(PLACES[place](CLASSES[name](), tmp_path))["train"]
    assert (answered(found), found.unusable) == (RIGHT, {})


@pytest.mark.parametrize("names", [("yes", "no"), ("no", "yes"), ("False", "True")])
def test_a_class_of_the_hub_says_yes_or_no_by_its_name(monkeypatch, names):
    says = lambda i: names[names[0] in ("no", "False")] if i % 3 else names[names[0] == "yes"]  # noqa: E731
    rows = [{"question": f"is it {i}", "passage": "P.", "answer": says(i)} for i in range(9)]
    whole = datasets.Dataset.from_list(rows).cast_column("answer", datasets.ClassLabel(names=list(names)))
    hidden = whole.map(lambda row: {"answer": -1})
    parts = datasets.DatasetDict({"train": whole.with_format("numpy", columns=["question"]), "test": hidden})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: parts)
    found = read(None, TaskData(hub="me/mine"))
    assert [question.response for question in found["train"].items] == ["No", "Yes", "Yes"] * 3
    assert list(found) == ["train"]  # a class of -1 is a hidden answer


CLASS, TEXT = {"names": ["B", "A"], "_type": "ClassLabel"}, {"dtype": "string", "_type": "Value"}


@pytest.mark.parametrize(
    ("feature", "value", "named_value"),
    [
        ([CLASS], [0, 1, -1], ["B", "A", None]),
        ([{"label": CLASS, "text": TEXT}], [{"label": 1, "text": "tea"}], [{"label": "A", "text": "tea"}]),
        (
            {"feature": {"label": CLASS, "text": TEXT}, "_type": "Sequence"},
            {"label": [1, 0], "text": ["tea", "sea"]},
            {"label": ["A", "B"], "text": ["tea", "sea"]},
        ),
        ({"feature": CLASS, "_type": "Sequence"}, None, None),
        ({"label": CLASS, "text": TEXT}, None, None),
        (CLASS, "A", "A"),
        ({"feature": TEXT, "_type": "Sequence"}, ["tea"], ["tea"]),
        ([], [1], [1]),
        (None, 1, 1),
    ],
)
def test_classes_are_named_wherever_any_version_of_the_library_keeps_them(feature, value, named_value):
    features = {"field": feature, "other": CLASS}
    assert list(with_names([{"field": value, "other": 0}], features)) == [{"field": named_value, "other": "B"}]


def test_a_class_without_a_name_is_refused(tmp_path):
    file = parquet(classes("ABCD", COLUMNS_OF), tmp_path)
    table = pq.read_table(file)
    wrong = pa.array([7] + [0] * 39)
    pq.write_table(table.set_column(table.column_names.index("answer"), "answer", wrong), file)
    with pytest.raises(
        UserError, match=r"mine\.parquet: .*answer says class 7, but the classes are 0 to 3; correct it"
    ):
        read(file)
