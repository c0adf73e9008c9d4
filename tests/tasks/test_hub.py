"""Real data sets: every layout gives the same questions, and every lost row is reported."""

import json
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from firstlib import Experiment
from firstlib.experiment.coefficients import target_ece
from firstlib.planning.tokens import plan_task
from firstlib.results.verify import verify
from firstlib.runtime.errors import UserError
from firstlib.settings.data import Data
from firstlib.settings.loading import load_preset
from firstlib.tasks import hub, prompts
from firstlib.tasks.question import Example, Question

FITS_ALL = lambda items: [None] * len(items)  # noqa: E731
REAL = os.environ.get("FIRST_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="FIRST_REAL_DATA is not set to a folder with the real data sets")

STEM, TEXTS = "What do people drink?", ["a chair", "some tea", "the sea"]
HUB = {"id": "q1", "question": STEM, "choices": {"label": ["A", "B", "C"], "text": TEXTS}, "answerKey": "B"}
ORIGINAL = {
    "id": "q1",
    "question": {"stem": STEM, "choices": [{"label": x, "text": t} for x, t in zip("ABC", TEXTS, strict=True)]},
    "answerKey": "B",
}
OWN = {"question": STEM, "choices": TEXTS, "answer": "some tea"}


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def many(count, split="train", **changes):
    return [{**HUB, "id": f"{split}-{i}", "question": f"{STEM} {i}", **changes} for i in range(count)]


def read_rows(task, rows, folder, own=None, **data):
    return hub.read(task, Data(source="hub", **data), lines(folder / "mine.jsonl", rows), FITS_ALL, own)["train"]


# -- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("csqa", HUB),
        ("csqa", ORIGINAL),
        ("csqa", {**{k: v for k, v in HUB.items() if k != "question"}, "question_stem": STEM}),
        ("own", OWN),
        ("own", {**OWN, "answer": "B"}),
        ("own", {**OWN, "choices": json.dumps(TEXTS), "answer": "b"}),
        ("own", HUB),
        ("own", ORIGINAL),
    ],
)
def test_every_layout_gives_the_same_question(tmp_path, task, row):
    [question] = read_rows(task, [row], tmp_path).items
    assert question.prompt == prompts.multiple_choice(STEM, TEXTS)
    assert question.response == " The answer is (b)."
    assert (question.choices, question.answer, question.posterior) == (tuple(TEXTS), 1, None)


def test_openbook_letters_are_capitals(tmp_path):
    [question] = read_rows("obqa", [ORIGINAL], tmp_path).items
    assert question.candidates == ("A", "B", "C")
    assert "(B) some tea" in question.prompt


def test_yes_and_no_follow_the_label(tmp_path):
    row = {"question": "is tea a drink", "passage": "Tea is drunk.", "answer": False}
    first, second = read_rows("boolq", [row, {**row, "question": "is tea a drink?"}], tmp_path).items
    assert first.response == "No"
    assert "is tea a drink? Your answer should be Yes or No." in first.prompt
    assert second.prompt == first.prompt


def test_an_instruction_is_an_example_with_or_without_input(tmp_path):
    row = {"instruction": "Say hello.", "input": "", "output": "Hello."}
    plain, more = read_rows("alpaca", [row, {**row, "input": "in French"}], tmp_path).items
    assert plain == Example("alpaca-train-0", prompts.instruction("Say hello."), "Hello.")
    assert "### Input:\nin French" in more.prompt


BOOL = {"question": "is it", "passage": "p", "answer": True}
ALPACA = {"instruction": "Go.", "input": "", "output": "Gone."}


@pytest.mark.parametrize(
    ("task", "good", "change", "reason"),
    [
        ("csqa", HUB, {"answerKey": ""}, "no answer"),
        ("csqa", HUB, {"answerKey": "E"}, "the answer 'E' is not one of the choices"),
        ("csqa", HUB, {"question": ""}, "no question"),
        ("csqa", HUB, {"choices": {"label": ["A", "B"], "text": ["tea", " tea"]}}, "two choices read the same"),
        ("csqa", HUB, {"choices": {"label": ["A", "B", "C"], "text": ["tea", None, "sea"]}}, "a choice has no text"),
        ("csqa", HUB, {"choices": {"label": ["B"], "text": ["tea"]}}, "1 choices; must be 2 to 26"),
        ("csqa", HUB, {"choices": {"label": ["A"], "text": ["tea", "sea"]}}, "2 choices with 1 labels"),
        ("boolq", BOOL, {"answer": None}, "no answer"),
        ("boolq", BOOL, {"answer": "perhaps"}, "the answer 'perhaps' is neither true nor false"),
        ("boolq", BOOL, {"passage": " "}, "no passage"),
        ("alpaca", ALPACA, {"output": ""}, "no answer"),
        ("alpaca", ALPACA, {"instruction": None}, "no instruction"),
        ("alpaca", ALPACA, {"input": 3}, "`input` is not text"),
        ("own", OWN, {"answer": "water"}, "the answer 'water' is neither a choice nor a letter"),
        (
            "own",
            OWN,
            {"choices": "tea; water"},
            'the choices are not a list such as ["tea", "the sea"]: \'tea; water\'',
        ),
        ("own", OWN, {"choices": {"tea": 1}}, "the choices are an object with tea, not a list"),
        ("own", OWN, {"choices": None}, "no choices"),
        ("own", OWN, {"answer": ["some tea", "a chair"]}, "the answer is a list of 2; leave one"),
    ],
)
def test_an_unusable_row_says_why(tmp_path, task, good, change, reason):
    rows = [{**good, "id": f"r{i}", **(change if i == 5 else {})} for i in range(50)]
    assert read_rows(task, rows, tmp_path).unusable == {"r5": reason}


# -- files -------------------------------------------------------------------------------------------------------


def test_splits_are_found_in_every_kind_of_file(tmp_path):
    lines(tmp_path / "train_rand_split.jsonl", many(3))
    pq.write_table(pa.Table.from_pylist(many(2, "dev")), tmp_path / "dev-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("not data")
    found = hub.read("csqa", Data(source="hub"), tmp_path, FITS_ALL)
    assert {split: len(part.items) for split, part in found.items()} == {"train": 3, "validation": 2}


def test_a_users_own_csv(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text('question,choices,answer\nWhat is red?,"[""a rose"", ""the sea""]",a\n')
    [question] = hub.read("own", Data(source="hub"), file, FITS_ALL)["train"].items
    assert (question.id, question.choices, question.answer) == ("own-train-0", ("a rose", "the sea"), 0)


def test_a_split_with_hidden_answers_is_ignored(tmp_path):
    lines(tmp_path / "train.jsonl", many(3))
    lines(tmp_path / "test.jsonl", many(2, "test", answerKey=""))
    assert list(hub.read("csqa", Data(source="hub"), tmp_path, FITS_ALL)) == ["train"]


def test_lost_rows_are_reported_by_id_and_too_many_are_refused(tmp_path, capsys):
    lines(tmp_path / "train.jsonl", [*many(98), {**HUB, "answerKey": None}])
    allowed = hub.read("csqa", Data(source="hub", max_unusable=0.02), tmp_path, FITS_ALL)["train"]
    assert (len(allowed.items), allowed.unusable) == (98, {"q1": "no answer"})
    assert "csqa train: 1 of 99 rows cannot be used: no answer: 1 (q1)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"csqa train: 1 rows \(1.0%\) cannot be used: no answer: 1 \(q1\); fix"):
        hub.read("csqa", Data(source="hub", max_unusable=0.005), tmp_path, FITS_ALL)


def test_rows_that_do_not_fit_the_model_are_lost_too(tmp_path):
    lines(tmp_path / "train.jsonl", many(4))
    fits = lambda items: ["too long" if item.id == "train-2" else None for item in items]  # noqa: E731
    found = hub.read("csqa", Data(source="hub", max_unusable=1), tmp_path, fits)["train"]
    assert found.unusable == {"train-2": "too long"}
    assert [item.id for item in found.items] == ["train-0", "train-1", "train-3"]


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda folder: None, "there is no"),
        (lambda folder: folder.mkdir(), "holds no"),
        (lambda folder: lines(folder / "dev.jsonl", many(2)), "no training rows"),
        (lambda folder: lines(folder / "train.jsonl", many(2) * 2), "two rows have the id 'train-0'"),
        (lambda folder: lines(folder / "train.jsonl", []).write_text('{"id": '), "not readable as json"),
    ],
)
def test_an_unreadable_data_set_is_reported(tmp_path, write, complaint):
    write(tmp_path / "csqa")
    with pytest.raises(UserError, match=f"csqa.*{complaint}"):
        hub.read("csqa", Data(source="hub"), tmp_path / "csqa", FITS_ALL)


def test_an_unreachable_hub_is_reported_in_one_line(monkeypatch):
    def refuse(*_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"tau/commonsense_qa: neither cached nor .*\(no route\).*data\.folder"):
        hub.read("csqa", Data(source="hub"), None, FITS_ALL)


# -- splits ------------------------------------------------------------------------------------------------------


def published(**counts):
    return {
        split: hub.PublishedSplit([Example(f"{split}-{i}", "p", "r") for i in range(count)], {})
        for split, count in counts.items()
    }


def ids(items):
    return {item.id for item in items}


def chosen(parts, **changes):
    sizes = {"seed": 0, "count": None, "validation": 10, "test": None, **changes}
    return {split: list(hub.choose(parts, split, **sizes)) for split in ("train", "validation", "test")}


def test_published_splits_are_used_unchanged():
    found = chosen(published(train=50, validation=7, test=5))
    assert {split: len(items) for split, items in found.items()} == {"train": 50, "validation": 7, "test": 5}


def test_without_a_test_split_validation_rows_test_and_training_rows_validate():
    found = chosen(published(train=50, validation=7))
    assert ids(found["test"]) == ids(published(validation=7)["validation"].items)
    assert (len(found["validation"]), len(found["train"])) == (10, 40)
    assert not ids(found["validation"]) & ids(found["train"])


def test_training_rows_alone_give_three_disjoint_splits():
    found = chosen(published(train=50), test=15)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [25, 10, 15]
    assert len(set.union(*map(ids, found.values()))) == 50


def test_the_split_depends_only_on_seed_and_ids():
    rows = published(train=50)
    shuffled = {"train": hub.PublishedSplit(rows["train"].items[::-1], {})}
    assert chosen(rows) == chosen(shuffled)
    assert ids(chosen(rows)["validation"]) != ids(chosen(rows, seed=1)["validation"])


def test_a_smaller_split_is_a_prefix_of_a_larger_one():
    few, more = chosen(published(train=50), count=5)["train"], chosen(published(train=50), count=9)["train"]
    assert more[:5] == few


def test_too_few_rows_to_split_are_refused():
    with pytest.raises(UserError, match="no rows are left for the train split"):
        hub.choose(published(train=9), "train", seed=0, count=None, validation=10, test=None)


# -- an experiment on real rows ----------------------------------------------------------------------------------


@pytest.fixture
def real_preset(bytes_folder, tmp_path):
    """A preset on files with CSQA-like rows and free-text instructions."""
    texts = ["tea", "milk", "wine", "juice", "water"]
    rows = [
        {"id": f"r{i}", "question": f"What does the baker drink? {i}", "answerKey": "ABCDE"[i % 5],
         "choices": {"label": list("ABCDE"), "text": texts[i % 5 :] + texts[: i % 5]}}
        for i in range(60)
    ]  # fmt: skip
    lines(tmp_path / "data" / "commonsense_qa" / "train.jsonl", rows)
    lines(
        tmp_path / "data" / "alpaca" / "all.jsonl",
        [{"instruction": f"Say what the baker drinks. {i}", "input": "", "output": texts[i % 5]} for i in range(60)],
    )
    path = tmp_path / "real.yaml"
    path.write_text(f"""
columns:
  - {{setting: in-domain, train: csqa, test: [csqa]}}
  - {{setting: out-of-domain, train: alpaca, test: [csqa]}}
data: {{source: hub, folder: {tmp_path / "data"}}}
sizes: {{validation: 8, test: 8, train: 16}}
teacher: {{base: {bytes_folder}}}
student: {{base: {bytes_folder}}}
training: {{epochs: 1, global_batch_size: 8, teacher_learning_rate: 1.0e-3, student_learning_rate: 1.0e-3}}
""")
    return str(path)


def test_an_experiment_runs_on_files(real_preset, tmp_path):
    experiment = Experiment(real_preset, run_folder=str(tmp_path / "runs"))
    results = experiment.results()
    assert [row["n"] for row in results["rows"]] == [8] * 10
    assert results["unusable"] == {"csqa": {"train": {}}, "alpaca": {"train": {}}}
    assert set(results["coefficients"]) == {"csqa", "alpaca"}


def test_several_tasks_of_ones_own_run_beside_one_another(real_preset, bytes_folder, tmp_path, capsys):
    texts = ["tea", "milk", "wine"]
    law = [{"query": f"What is law? {i}", "options": texts, "gold": i % 3} for i in range(40)]
    talk = [{"prompt": f"Say it. {i}", "completion": texts[i % 3]} for i in range(40)]
    columns = "columns=[{setting: in-domain, train: law, test: [law]}, {setting: out-of-domain, train: talk, test: [law, csqa]}]"  # noqa: E501
    overrides = (
        f"tasks.law.file={lines(tmp_path / 'law.jsonl', law)}",
        f"tasks.talk.file={lines(tmp_path / 'talk.jsonl', talk)}", columns,
    )  # fmt: skip
    experiment = Experiment(real_preset, run_folder=tmp_path / "runs", overrides=overrides)
    results = experiment.results()
    assert {row["dataset"] for row in results["rows"]} == {"law", "csqa"}
    assert results["files"] == {
        "law": {"law.jsonl": {"train": 40}}, "talk": {"talk.jsonl": {"train": 40}}, "csqa": {"train.jsonl": {"train": 60}},  # noqa: E501
    }  # fmt: skip
    assert set(results["coefficients"]) == {"law", "talk"}
    assert verify(experiment) > 100
    assert "law: law.jsonl -> train, 40 rows" in capsys.readouterr().out
    assert {task: plan_task(experiment.settings, task).examples for task in ("law", "talk")} == {"law": 16, "talk": 16}


def test_a_task_that_proves_to_be_free_text_cannot_be_tested_on(real_preset, tmp_path):
    place = lines(tmp_path / "talk.jsonl", [{"prompt": f"Say {i}.", "completion": "tea"} for i in range(40)])
    overrides = (f"tasks.talk.file={place}", "columns=[{setting: in-domain, train: csqa, test: [talk]}]")
    with pytest.raises(UserError, match="columns: talk has free answers and cannot be a test set"):
        Experiment(real_preset, run_folder=tmp_path / "runs", overrides=overrides).questions("talk")


def test_rows_longer_than_the_models_context_are_left_out(real_preset, tmp_path):
    changes = ("data.max_length=4000", "data.max_unusable=1")
    experiment = Experiment(real_preset, run_folder=str(tmp_path / "runs"), overrides=changes)
    rows = [
        json.loads(line) for line in (tmp_path / "data" / "commonsense_qa" / "train.jsonl").read_text().splitlines()
    ]
    rows[7]["question"] = "tea " * 1100  # more tokens than the tiny model's 1,024 positions
    lines(tmp_path / "data" / "commonsense_qa" / "train.jsonl", rows)
    assert len(experiment.run.data.items("csqa", "train")) == 16
    assert experiment.run.data.source.unusable("csqa") == {"train": {"r7": "longer than 1024 tokens"}}


def test_a_chat_model_is_asked_in_its_own_format(real_preset, bytes_folder, tmp_path):
    folder = tmp_path / "chat"
    shutil.copytree(bytes_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    changes = ("data.chat_template=true", f"teacher.base={folder}", f"student.base={folder}")
    experiment = Experiment(real_preset, run_folder=str(tmp_path / "runs"), overrides=changes)
    question = experiment.questions("csqa")[0]
    assert question.prompt.startswith("[user] Q: What does the baker drink?")
    assert question.prompt.endswith("A:\n[assistant] ")
    assert question.response.startswith("The answer is (")
    [encoded] = [e for e in experiment.run.data.encoded("csqa", "test") if e.id == question.id]
    assert encoded.token_ids.count(tokenizer.bos_token_id) == 1
    stem = tokenizer.decode(encoded.token_ids[encoded.start :])
    assert stem.startswith("The answer is (")
    assert len(experiment.predictions("fine-tune", "csqa", "csqa")) == 8


def test_an_unset_folder_variable_is_reported(real_preset, tmp_path, monkeypatch):
    monkeypatch.delenv("FIRST_REAL_DATA", raising=False)
    changes = ("data.folder=$FIRST_REAL_DATA",)
    experiment = Experiment(real_preset, run_folder=str(tmp_path / "runs"), overrides=changes)
    with pytest.raises(UserError, match=r"\$FIRST_REAL_DATA is not set"):
        experiment.run.data.items("csqa")


def test_a_model_without_a_chat_format_is_refused(real_preset, tmp_path):
    experiment = Experiment(real_preset, run_folder=str(tmp_path / "runs"), overrides=("data.chat_template=true",))
    with pytest.raises(UserError, match="has no chat template; set it to false"):
        experiment.questions("csqa")


def test_free_text_answers_are_asked_at_every_position(real_preset, tmp_path):
    experiment = Experiment(real_preset, run_folder=str(tmp_path / "runs"))
    assert not experiment.run.data.has_candidates("alpaca")
    with pytest.raises(UserError, match="free text"):
        experiment.questions("alpaca")
    found = experiment.predictions("teacher", "alpaca", "alpaca", "validation")
    encoded = experiment.run.data.encoded("alpaca", "validation")
    assert len(found) == sum(len(e.token_ids) - e.start for e in encoded)
    gold = [token for e in encoded for token in e.token_ids[e.start :]]
    assert found.correct().tolist() == (found.top_ids[:, 0] == gold).tolist()
    method = experiment.settings.methods["first"]
    assert 0 <= target_ece(experiment.run, method, "alpaca", "validation", 0.3) <= 1


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("columns=[{setting: in-domain, train: csqa, test: [alpaca]}]", "alpaca has free answers"),
        ("columns=[{setting: in-domain, train: own, test: [own]}]", "the task `own` needs data.own"),
        ("data.source=microworld", None),
        ("data={source: microworld}", None),
    ],
)
def test_settings_that_do_not_fit_their_data_are_refused(real_preset, override, complaint):
    if complaint is None:
        assert load_preset(real_preset, [override]).data.source == "microworld"
        return
    with pytest.raises(UserError, match=complaint):
        load_preset(real_preset, [override])


def test_the_microworld_needs_explicit_sizes(real_preset):
    with pytest.raises(UserError, match=r"sizes\.train and sizes\.test: the microworld has no end"):
        load_preset(real_preset, ["data.source=microworld", "sizes.train=null"])


# -- the real files ----------------------------------------------------------------------------------------------


@needs_real_data
@pytest.mark.parametrize(
    ("task", "folder", "train", "validation", "kind"),
    [
        ("csqa", "commonsense_qa", 9741, 1221, Question),
        ("obqa", "openbookqa", 4957, 500, Question),
        ("boolq", "boolq", 2000, 3270, Question),
        ("alpaca", "alpaca", 9229, None, Example),
    ],
)
def test_every_real_row_is_read_or_accounted_for(task, folder, train, validation, kind):
    found = hub.read(task, Data(source="hub", max_unusable=0.03), Path(REAL) / folder, FITS_ALL)
    counts = {split: len(part.items) + len(part.unusable) for split, part in found.items()}
    assert counts == {"train": train} | ({"validation": validation} if validation else {})
    assert all(isinstance(item, kind) for part in found.values() for item in part.items)
