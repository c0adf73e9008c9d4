"""`audit` and `first audit`: arrays, logs side by side, the files they write, and exit statuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import first_here

import firstlib
from firstlib import audit
from firstlib.runtime.errors import UserError

LOGS = Path(__file__).parents[2] / "evaluation" / "audit" / "logs"
NEWEST = LOGS / "lm-eval-0.4.13" / "stories260K"
HOSTILE = "<script>window.injected = 1</script><img src=x onerror='window.injected = 1'>"


def log(task):
    return str(next(NEWEST.glob(f"samples_{task}_*")))


def table(path, sharp=1.0, n=400, subject="s"):
    rng = np.random.default_rng(0)
    truth = rng.random(n) / 2 + 0.5
    sure = np.clip(truth + 0.15 * (sharp - 1), 0, 1)
    hit = rng.random(n) < truth
    lines = [f'{c},{int(h)},q{i},"{subject}{i % 2}"' for i, (c, h) in enumerate(zip(sure, hit, strict=True))]
    path.write_text("\n".join(["confidence,correct,id,subject", *lines]) + "\n")
    return str(path)


# -- in Python ---------------------------------------------------------------------------------------------------


def test_importing_the_package_costs_nothing():
    code = "import firstlib, sys; print(sorted({'numpy', 'torch', 'pyarrow', 'pandas'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "audit" in firstlib.__all__


def test_a_log_is_audited_without_torch():
    code = f"import sys; from firstlib import audit; audit({log('obqa_texts')!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_arrays_of_confidences_and_of_probabilities():
    sure = audit(confidence=np.array([0.9, 0.8, 0.6]), correct=np.array([True, False, True]))
    assert (sure.n, sure.accuracy) == (3, pytest.approx(2 / 3))
    rows = audit(probabilities=[[0.9, 0.1], [0.2, 0.5, 0.3]], answer=[0, 2])
    assert rows.ece == pytest.approx(0.1 / 2 + 0.5 / 2)
    assert audit(probabilities=np.array([[0.9, 0.1]] * 3), answer=np.array([0, 0, 1])).accuracy == pytest.approx(2 / 3)


def test_a_data_frames_columns_name_the_choices():
    rows = pd.DataFrame({"B": [0.9, 0.2], "A": [0.1, 0.8]})
    assert audit(probabilities=rows, answer=["B", "A"]).accuracy == 1
    assert audit(probabilities=rows, answer=["A", "A"]).accuracy == 0.5
    shares = pd.DataFrame({"yes": [0.5, 0.2], "no": [0.1, 0.6]})  # of a whole vocabulary
    assert audit(probabilities=shares, answer=["yes", "no"], reading="vocabulary").ece == pytest.approx(0.45)


def test_tensors_are_read_whatever_their_type():
    rows = torch.tensor([[0.75, 0.25], [0.5, 0.5]], requires_grad=True)
    for given in (rows, rows.bfloat16()):
        assert audit(probabilities=given, answer=torch.tensor([0, 1])).n == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give a path"),
        ({"confidence": [0.5]}, "give a path"),
        ({"confidence": [0.5], "correct": [True], "answer": [0]}, "give a path"),
        ({"confidence": [0.5], "correct": [True, False]}, "1 rows of confidence"),
        ({"confidence": [1.5], "correct": [True]}, "row 1: confidence is 1.5"),
        ({"confidence": [], "correct": []}, "has no rows"),
        ({"probabilities": [0.5, 0.5], "answer": [0, 1]}, "probabilities"),
        ({"confidence": [0.5], "correct": [True], "bins": 0}, "bins"),
        ({"confidence": [0.5], "correct": [True], "bins": 10**8}, "from 1 to 1000"),
        ({"confidence": np.ma.masked_array([0.5, 0.9], [0, 1]), "correct": [True, False]}, "masked"),
        ({"probabilities": [{0: 0.9, 1: 0.1}], "answer": [0]}, "rows are dicts"),
        ({"probabilities": np.zeros((3, 0)), "answer": [0, 0, 0]}, "not (N, C)"),
        ({"confidence": [0.5], "correct": [True], "max_unusable": "0.1"}, "max_unusable"),
        ({"confidence": [0.5], "correct": [True], "reading": "loud"}, "reading"),
    ],
)
def test_wrong_arrays_are_refused_in_a_line(given, told):
    with pytest.raises(UserError, match=re.escape(told)):
        audit(**given)


@pytest.mark.parametrize("what", [pd.DataFrame({"confidence": [0.5]}), {"confidence": [0.5]}, None])
def test_what_is_neither_path_nor_experiment_is_refused(what):
    with pytest.raises(UserError, match="neither a path nor an experiment"):
        audit(what)


def test_a_result_shows_itself_and_gives_a_frame(tmp_path):
    found = audit(table(tmp_path / "new.csv", 2), table(tmp_path / "old.csv"))
    frame = found.to_frame()
    assert frame.index.tolist() == ["new", "old"]
    assert frame.loc["new", "ece"] == found.ece
    assert {"ece_low", "ece_high", "temperature", "smooth_ece"} <= set(frame.columns)
    assert "Over-confident" in str(found)
    assert found.verdict in str(found).replace("\n", " ")
    assert "<table>" in found._repr_html_()
    with pytest.raises(AttributeError):
        found.inputs = ()
    (difference,) = found.differences
    assert (difference.name, difference.baseline, difference.paired) == ("old", "new", True)


def test_logs_of_one_folder_are_one_input_and_others_stand_side_by_side():
    together = audit(log("obqa_texts"), log("boolq_yes_no"))
    assert [one.name for one in together.inputs] == ["stories260K"]
    assert {subject.name for subject in together.first.subjects} == {"obqa_texts", "boolq_yes_no"}
    older = next((LOGS / "lm-eval-0.4.11").rglob("samples_obqa_texts_*"))
    apart = audit(log("obqa_texts"), against=older)
    assert len(apart.inputs) == 2
    assert apart.differences[0].n == 6, "the questions that both logs hold"
    assert apart.differences[0].ece.estimate == 0


def test_hostile_texts_are_escaped_in_the_page(tmp_path):
    found = audit(table(tmp_path / "t.csv", subject=HOSTILE))
    _, page = found.save(tmp_path)
    text = page.read_text()
    assert HOSTILE not in text
    assert "&lt;script&gt;window.injected" in text
    assert HOSTILE not in found._repr_html_()
    assert len(text) < 6e6


def test_the_page_and_the_numbers_hold_what_is_measured(tmp_path):
    found = audit(str(NEWEST))
    numbers, page = found.save(tmp_path)
    one = json.loads(numbers.read_text())["inputs"][0]
    assert one["ece"] == found.ece
    assert {"conventions", "bins", "subjects", "temperature", "smooth_ece", "brier_calibration", "area"} <= one.keys()
    assert sum(each["n"] for each in one["bins"]) == one["n"] == 60
    text = page.read_text()
    for expected in ("By subject", "torchmetrics", "the surest mistakes", "Holm", "Frilled sharks"):
        assert expected in text


# -- on the command line -----------------------------------------------------------------------------------------


def test_a_risen_ece_fails_and_the_files_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new, old = table(tmp_path / "new.csv", 2), table(tmp_path / "old.csv")
    done = first_here("audit", new, "--against", old, "--fail-over", "0.02")
    assert done.returncode == 1, done.stderr
    assert re.fullmatch("first: new: its ECE rose by .* from old's, more than 0.02", done.stderr.strip())
    assert "less calibrated" in done.stdout
    assert (tmp_path / "audit.json").is_file()
    assert (tmp_path / "audit.html").is_file()
    back = first_here("audit", old, "--against", new, "--fail-over", "0.02", "--to", tmp_path / "there")
    assert back.returncode == 0, back.stderr
    assert (tmp_path / "there" / "audit.html").is_file()


def test_a_build_is_not_judged_by_a_few_shared_questions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new, old = table(tmp_path / "new.csv", 2), Path(table(tmp_path / "old.csv"))
    head, *rows = old.read_text().splitlines()
    at = head.split(",").index("id")
    cells = [row.split(",") for row in rows]
    for row in cells[3:]:
        row[at] = f"renamed {row[at]}"
    old.write_text("\n".join([head, *map(",".join, cells)]) + "\n")
    done = first_here("audit", new, "--against", old, "--fail-over", "1")
    assert done.returncode == 2
    assert f"share 3 questions of {len(rows)} and {len(rows)}, too few to judge by" in done.stderr
    assert f"on the 3 questions that both answered, of {len(rows)} and {len(rows)}" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.jsonl"], "no such file or folder"),
        (["some/model"], "needs --task"),
        ([], "WHAT"),
        (["t.csv", "--fail-over", "0.1"], "--against"),
        (["t.csv", "--reading", "loud"], "reading"),
        (["t.csv", "--bins", "0"], "--bins"),
        (["t.csv", "--bins", "100000000"], "--bins"),
        ([".", "--task", "csqa"], "holds no logs"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "t.csv")
    done = first_here("audit", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert len(done.stderr) < 500
    assert not (tmp_path / "audit.json").exists()


def test_a_model_and_its_adapter_are_asked(base_folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(base_folder), LoraConfig(task_type="CAUSAL_LM", r=2))
    tuned.save_pretrained(tmp_path / "adapter")
    asked = {"task": "csqa", "data": "microworld", "limit": 24}
    found = audit(base_folder, tmp_path / "adapter", **asked)
    assert [one.n for one in found.inputs] == [24, 24]
    assert found.differences[0].ece.estimate == 0, "a new adapter changes nothing"
    with pytest.raises(UserError, match="a model needs --task"):
        audit(base_folder)


def test_a_model_answers_a_file_of_questions(bytes_folder, tmp_path):
    rows = [{"question": f"{n}?", "choices": ["x", "y", "z"], "answer": "abc"[n % 3]} for n in range(9)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = audit(bytes_folder, task="own", data=tmp_path / "mine.jsonl")
    assert found.n == 9
    assert found.accuracy == pytest.approx(1 / 3, abs=0.4)


def test_a_data_set_may_lose_as_many_questions_as_in_a_run(bytes_folder, tmp_path):
    """Published CommonsenseQA loses 2 % of its questions, which list a choice twice."""
    choices = {n: ["x", "x" if n < 2 else "y", "z"] for n in range(100)}
    rows = [{"question": f"{n}?", "choices": choices[n], "answer": "c"} for n in range(100)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"task": "own", "data": tmp_path / "mine.jsonl", "split": "train"}
    assert audit(bytes_folder, **asked).n > 0
    with pytest.raises(UserError, match=r"2 rows \(2\.0%\) cannot be used"):
        audit(bytes_folder, **asked, max_unusable=0.01)


def test_a_file_of_questions_is_read_as_the_settings_say(bytes_folder, tmp_path):
    rows = [{"Frage": f"{n}?", "choices": ["x", "y", "z"], "answer": 1 + n % 2} for n in range(12)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"task": "own", "data": tmp_path / "mine.jsonl"}
    with pytest.raises(UserError, match=r"name them in tasks\.own\.fields"):
        audit(bytes_folder, **asked)
    named = "tasks.own.fields.question=Frage"
    with pytest.raises(UserError, match=r"say which with tasks\.own\.answers=from-0"):
        audit(bytes_folder, **asked, settings=[named])
    for way, rights in (("from-0", {1, 2}), ("from-1", {0, 1})):
        found = audit(bytes_folder, **asked, settings=[named, f"tasks.own.answers={way}"]).first
        assert set(found.answers.answer.tolist()) == rights
    with pytest.raises(UserError, match="split: must be one of train, validation, test, not 'tset'"):
        audit(bytes_folder, **asked, split="tset", settings=[named, "tasks.own.answers=from-0"])
    for wrong, complaint in (
        ("training.epochs=2", r"takes settings of data and of tasks\.own only"),
        ("tasks.own.answer=a", r"--set: unknown key 'tasks\.own\.answer'; did you mean"),
    ):
        with pytest.raises(UserError, match=complaint):
            audit(bytes_folder, **asked, settings=[wrong])


def test_series_in_different_orders_are_refused():
    sure = pd.Series([0.9, 0.6, 0.7], index=["a", "b", "c"])
    right = pd.Series([True, False, True], index=["c", "b", "a"])
    with pytest.raises(UserError, match="confidence and correct have different indices; align them"):
        audit(confidence=sure, correct=right)
    assert audit(confidence=sure, correct=right.reindex(sure.index)).n == 3
