"""Bad input of every kind gives one line that says what is wrong, where, and what to do; nothing is written.

Each table maps a name to the bad input and the expected message. Input that a user types goes through the command line
(status 2); input that only a notebook or a program can give goes through a call.
"""

import hashlib
import json
import math
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from command_line import first, first_here
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from firstlib import Experiment, metrics
from firstlib.distillation.losses import top_k_kl
from firstlib.distillation.recalibration import label_smoothing, logit_temperature, recalibrate
from firstlib.knowledge import extract_top_k
from firstlib.metrics import sweep
from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model
from firstlib.tasks.encoding import encode, encode_question
from firstlib.tasks.question import Example, Question


def table(cases):
    """Makes one test case per row, named after the row."""
    return pytest.mark.parametrize(
        ("given", "message"), [pytest.param(*case, id=name.replace(" ", "-")) for name, case in cases.items()]
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that contains files of the user's."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("mine, too")
    monkeypatch.setenv("PLACE", str(tmp_path))
    return tmp_path


@pytest.fixture
def refused(place):
    """Runs `first` in this process, and checks everything that a refusal promises."""

    def refused(*arguments, message):
        before = kept(place)
        done = first_here(*(str(each).replace("PLACE", str(place)) for each in arguments))
        output = done.stderr.split("\r")[-1]  # a progress bar before it was erased
        assert done.returncode == 2
        assert_one_line(output.removesuffix("\n"), message)
        assert kept(place) == before

    return refused


def assert_one_line(output, message):
    assert re.search(message, output), output
    assert output.isprintable(), output
    assert len(output) < 600
    assert "Traceback" not in output


def kept(folder):
    """Hashes of all visible files; hidden ones are locks or unfinished stages."""
    files = [p for p in folder.rglob("*") if p.is_file() and not any(part[0] == "." for part in p.parts[1:])]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# -- settings ----------------------------------------------------------------------------------------------------

SETTINGS = {
    "an unknown setting": ("xyz=red", "unknown key 'xyz'; known here: description, data"),
    "a misspelt setting": ("training.epoch=1", "unknown key 'training.epoch'; did you mean 'epochs'"),
    "a misspelt setting in a list": (
        "columns=[{setting: in-domain, train: csqa, tset: [csqa]}]",
        r"columns\.0\.test is missing; .*unknown key 'columns\.0\.tset'; did you mean 'test'",
    ),
    "a setting without a value": ("training.epochs", "write it as key=value"),
    "a setting without a name": (".=1", "unknown key ''"),
    "a setting below a number": ("training.epochs.x=1", r"training\.epochs: .*valid integer, not {'x': 1}"),
    "text for a number": ("training.epochs=many", r"training\.epochs: .*integer.*not 'many'"),
    "a switch for a number": ("knowledge.k=true", r"knowledge\.k: .*another kind, not True"),
    "a date for a number": ("training.epochs=2024-01-31", r"training\.epochs: .*integer, not datetime\.date"),
    "a date that does not exist": ("training.epochs=2024-13-45", "not readable as YAML"),
    "half a question": ("sizes.test=10.5", r"sizes\.test: .*fractional part, not 10\.5"),
    "a list for a text": ("student.base=[a]", r"student\.base: .*valid string, not \['a'\]"),
    "no epochs": ("training.epochs=0", r"training\.epochs: .*greater than 0, not 0"),
    "a negative size": ("sizes.validation=-3", r"sizes\.validation: .*greater than 0, not -3"),
    "one token": ("knowledge.k=1", r"knowledge\.k: .*greater than 1, not 1"),
    "a share above one": ("data.max_unusable=2", r"data\.max_unusable: .*less than or equal to 1, not 2"),
    "a momentum of one": ("training.adam_beta2=1", r"training\.adam_beta2: .*less than 1, not 1"),
    "a rate that is no number": (
        "training.student_learning_rate=.nan",
        "student_learning_rate: .*finite number, not nan",
    ),
    "a rate that is no number in letters": ("training.student_learning_rate=nan", "finite number, not 'nan'"),
    "an infinite rate": ("training.teacher_learning_rate=.inf", "teacher_learning_rate: .*finite number, not inf"),
    "an infinite coefficient": ("methods.first.coefficient=.inf", r"methods\.first\.coefficient.*finite number"),
    "an infinite temperature": ("knowledge.temperatures=[1.0, .inf]", r"knowledge\.temperatures\.1: .*finite number"),
    "a trillion questions": ("sizes.train=1000000000000", r"sizes\.train: .*equal to 10000000, not 1000000000000"),
    "a billion threads": ("threads=1000000000", r"threads: .*equal to 4096"),
    "a number of five thousand digits": (f"sizes.train={'9' * 5000}", "not readable as YAML"),
    "a number of twenty thousand bits": (f"sizes.train=0x{'f' * 5000}", "not a number of 20000 bits"),
    "no columns": ("columns=[]", "columns: .*at least 1 item"),
    "a column without a test": (
        "columns=[{setting: in-domain, train: csqa, test: []}]",
        r"^first: settings of smoke: columns\.0\.test: .*at least 1 item[^;]*$",
    ),
    "the same column twice": (
        "columns=[{setting: in-domain, train: csqa, test: [csqa]}, {setting: in-domain, train: boolq, test: [csqa]}]",
        "columns: in-domain csqa is there twice",
    ),
    "an unknown task": (
        "columns=[{setting: in-domain, train: trivia, test: [csqa]}]",
        r"columns: there is no task 'trivia'; the tasks are csqa, .*; add your own under tasks",
    ),
    "a tail where the student has no mass": (
        "methods.first={learns: top-k, map: stored, student: renormalised, tail: ghost}",
        "renormalised student has no mass where tail: ghost",
    ),
    "an object of python": ("training.epochs=!!python/object:os.system x", "not readable as YAML"),
    "a list within lists without end": (f"training.epochs={'[' * 5000}", "not readable as YAML"),
}


@table(SETTINGS)
def test_a_bad_setting_is_reported(refused, given, message):
    refused("stage", "teacher", "csqa", "--preset", "smoke", "--runs", "PLACE/runs", "--set", given, message=message)


# -- presets -----------------------------------------------------------------------------------------------------

ALIASES = "\n".join(f"a{i}: &a{i} [{', '.join(['x' if i == 0 else f'*a{i - 1}'] * 9)}]" for i in range(12))

PRESETS = {
    "not YAML": (b"columns: [", r"p\.yaml: not readable as YAML: .*line 1"),
    "not UTF-8": ("description: Köln".encode("latin-1"), r"p\.yaml: not readable as YAML: 'utf-8' codec.* position 14"),
    "nothing": (b"", r"p\.yaml: must hold settings by name, not NoneType"),
    "a list": (b"- 1\n- 2", r"p\.yaml: must hold settings by name, not list"),
    "a number": (b"7", r"p\.yaml: must hold settings by name, not int"),
    "aliases that multiply": (ALIASES.encode(), r"p\.yaml: not readable as YAML: over 10 aliases .*line 3"),
    "an alias of itself": (b"teacher: &a [*a]", r"teacher: .*not \[\[\[\.\.\.\]\]\]"),
    "a mapping merged with itself": (b"teacher: &a {<<: *a}", r"teacher.base is missing"),
    "a command of python": (b"!!python/object/apply:os.mkdir [PLACE/made]", r"p\.yaml: .*constructor for the tag"),
    "an object of python in a preset": (b"teacher: !!python/name:os.system", r"p\.yaml: .*python/name.*line 1"),
    "a key twice": (b"sizes: {train: 1, train: 2}", r"p\.yaml: .*'train' is there twice .*line 1"),
    "two documents": (b"a: 1\n---\nb: 2", r"p\.yaml: .*expected a single document"),
    "ten megabytes": (b"description: a\n" * 700_000, r"p\.yaml: .*over 256 KiB"),
    "brackets without end": (b"[" * 50_000, r"p\.yaml: .*too deep"),
    "a character that is none": (b"description: \0", r"p\.yaml: .*special characters are not allowed"),
    "keys that are numbers": (b"1: 2", "columns is missing; .*sizes is missing"),
}


@table(PRESETS)
def test_a_bad_preset_file_is_reported(refused, place, given, message):
    (place / "p.yaml").write_bytes(given.replace(b"PLACE", str(place).encode()))
    refused("stage", "teacher", "csqa", "--preset", "PLACE/p.yaml", "--runs", "PLACE/runs", message=message)


NO_PRESETS = {
    "unknown": "nowhere",
    "empty": "",
    "climbing": "../../smoke",
    "a file of the system": "/etc/passwd",
    "a folder": "PLACE",
    "no such file": "PLACE/none.yaml",
    "no name": "PLACE/foreign/.yaml",
    "two lines": "a\nb",
    "a command to the terminal": "\x1b[2J",
    "four thousand letters": f"{'long' * 1000}.yaml",
}


@pytest.mark.parametrize("name", NO_PRESETS.values(), ids=[name.replace(" ", "-") for name in NO_PRESETS])
def test_a_bad_preset_name_is_reported(refused, name):
    message = "there is no such preset; choose .*smoke.* or give a .yaml file"
    refused("run", "--preset", name, "--runs", "PLACE/runs", message=message)


def test_a_preset_file_cannot_name_a_folder_above_the_runs(refused, place, tiny_preset_file):
    shutil.copy(tiny_preset_file, place / "...yaml")  # its stem is `..`
    refused("run", "--preset", "PLACE/...yaml", "--runs", "PLACE/runs", message="there is no such preset")


# -- verbs, seeds and folders ------------------------------------------------------------------------------------

SMOKE = ("--preset", "smoke", "--runs", "PLACE/runs")
IMPORT = ("import-logprobs", "PLACE/file", "--to", "PLACE/stores", "--preset", "smoke")

VERBS = {
    "an unknown verb": (("fly",), "No such command 'fly'"),
    "an unknown option": (("run", "--sed", "1"), "No such option: --sed"),
    "a stage without a name": (("stage",), "Missing argument 'STAGE'"),
    "a seed below 0": (("run", "--seed", "-1", *SMOKE), "'--seed': .*greater than or equal to 0"),
    "a seed above NumPy's": (("run", "--seed", 2**32, *SMOKE), "'--seed': .*equal to 4294967295"),
    "a seed that is a folder": (("table", "--seed", "../../x", *SMOKE), "'--seed': .*valid integer"),
    "a run folder that is a file": (
        ("run", "--preset", "smoke", "--runs", "PLACE/file"),
        "file is a file; choose a folder",
    ),
    "a run folder below a file": (
        ("run", "--preset", "smoke", "--runs", "PLACE/file/x"),
        "file is a file; choose a folder",
    ),
    "a run folder that cannot be made": (("run", "--preset", "smoke", "--runs", "/proc/first"), "/proc/first: No such"),
    "a run folder of two lines": (("verify", "--preset", "smoke", "--runs", "PLACE/a\nb"), r"a\\nb/.*no results.json"),
    "a table without a run": (("table", *SMOKE), r"run folder .*runs/smoke/seed-0: there is no results\.json; run it"),
    "a report without a run": (("report", *SMOKE), r"run folder .*: there is no results\.json; run it first"),
    "nothing to verify": (("verify", *SMOKE), r"run folder .*: there is no results\.json; run it first"),
    "an unknown stage": (
        ("stage", "pupil", "csqa", *SMOKE),
        "stage pupil csqa: the stages are teacher, .*tasks are csqa",
    ),
    "a stage of a task not trained on": (("stage", "teacher", "obqa", *SMOKE), "the tasks are csqa, boolq, alpaca"),
    "an export over other files": (
        ("export", "first", "csqa", "--to", "PLACE/foreign", *SMOKE),
        "holds something else than an earlier result; name a new folder",
    ),
    "an export onto a file": (
        ("export", "first", "csqa", "--to", "PLACE/file", *SMOKE),
        "is a file; name a folder",
    ),
    "an export of no method": (
        ("export", "teach", "csqa", "--to", "PLACE/new", *SMOKE),
        "method: must be one of fine-tune, .*not 'teach'",
    ),
    "an export of no task": (
        ("export", "first", "x", "--to", "PLACE/new", *SMOKE),
        "no student is trained on 'x'; choose",
    ),
    "a plan for an unknown machine": (
        ("plan", "--preset", "smoke", "--gpu", "abacus"),
        "--gpu 'abacus': not in the table",
    ),
    "a plan for no machine": (("plan", "--preset", "smoke", "--devices", "0"), "'--devices': .*equal to 1"),
    "an import of no task": ((*IMPORT, "--task", "trivia"), "task 'trivia', .*tasks are csqa, boolq, alpaca, obqa"),
    "an import of no split": (
        (*IMPORT, "--task", "csqa", "--split", "dev"),
        "split 'dev': .*splits train, validation, test",
    ),
    "an import of no tokens": ((*IMPORT, "--task", "csqa", "--k", "0"), "'--k': .*greater than or equal to 2"),
    "an import of more than the vocabulary": ((*IMPORT, "--task", "csqa", "--k", "99999"), "from 1 to the 465 tokens"),
    "an import that may lose anything": ((*IMPORT, "--task", "csqa", "--most-lost", "nan"), "from 0 to 1, not nan"),
    "knowledge that was not imported": (
        ("stage", "distill", "csqa", "--set", "knowledge.imported=PLACE/stores", *SMOKE),
        "knowledge.imported: there is no .*stores/csqa-train; write it with `first import-logprobs`",
    ),
}


@table(VERBS)
def test_a_bad_call_is_reported(refused, given, message):
    refused(*given, message=message)


@pytest.mark.parametrize(
    "arguments",
    [
        ("stage", "teacher", "csqa", "--set", "training.epoch=1"),
        ("run", "--preset", "nowhere"),
        ("run", "--seed", "99999999999"),
        ("verify", "--preset", "smoke"),
    ],
    ids=["setting", "preset", "seed", "no run"],
)
def test_a_separate_process_also_prints_one_line(arguments, tmp_path):
    done = first(*arguments, "--runs", str(tmp_path / "runs"))
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr.removesuffix("\n"), "^first: ")
    assert not list(tmp_path.iterdir())


# -- a user's own rows -------------------------------------------------------------------------------------------

ROW = {"question": "What does the baker drink?", "choices": ["tea", "milk", "wine"], "answer": "tea"}


def rows(count=40, **seventh):
    """Valid rows; the given fields replace those of the seventh."""
    found = [{**ROW, "id": f"r{i}", "question": f"What does the baker drink? {i}"} for i in range(1, count + 1)]
    return [{**row, **(seventh if row["id"] == "r7" else {})} for row in found]


def lines(found):
    return "".join(json.dumps(row) + "\n" for row in found).encode()


@pytest.fixture
def own_preset(place, bytes_folder):
    """Writes a preset on the user's own file, with a model that can read any text."""

    def own_preset(file, base=bytes_folder, **data):
        content = {
            "columns": [{"setting": "in-domain", "train": "own", "test": ["own"]}],
            "data": {"source": "hub", "own": str(file), **data},
            "sizes": {"train": 16, "validation": 8, "test": 8},
            "teacher": {"base": str(base)},
            "student": {"base": str(base)},
            "training": {"epochs": 1, "global_batch_size": 8},
        }
        (place / "own.yaml").write_text(yaml.safe_dump(content))
        return place / "own.yaml"

    return own_preset


ROWS = {
    "no question": ({"question": None}, "no question"),
    "a blank question": ({"question": "  "}, "no question"),
    "no answer": ({"answer": None}, "no answer"),
    "an answer not among the choices": ({"answer": "beer"}, "the answer 'beer' is neither a choice nor a letter"),
    "an answer that is a choice and another's letter": (
        {"choices": ["b", "a"], "answer": "a"},
        "the answer 'a' is both a choice and the letter of another choice",
    ),
    "no choices": ({"choices": None}, "no choices"),
    "choices that are one text": ({"choices": '"tea"'}, "the choices are not a list such as .*tea.*"),
    "choices that are one number": ({"choices": 3}, "the choices are not a list, but int"),
    "choices without an end": ({"choices": "[" * 100_000}, r"the choices are not a list such as .*\.\.\..*"),
    "one choice": ({"choices": ["tea"]}, "1 choices; must be 2 to 26"),
    "more choices than letters": (
        {"choices": [str(i) for i in range(27)], "answer": "3"},
        "27 choices; must be 2 to 26",
    ),
    "two choices that read the same": ({"choices": ["tea", "milk", " tea"]}, "two choices read the same"),
    "half a character": ({"question": "\ud800"}, "half of a surrogate pair, which is not a character"),
    "a question of ten megabytes": ({"question": "tea " * 2_500_000}, "longer than 1024 tokens"),
    "an answer of ten megabytes": (
        {"answer": "tea " * 2_500_000},
        r"the answer 'tea .*\.\.\..*' is neither a choice nor a letter",
    ),
}


@table(ROWS)
def test_an_unusable_row_is_reported_with_its_file(refused, place, own_preset, given, message):
    (place / "mine.jsonl").write_bytes(lines(rows(**given)))
    message = rf"data set own train: 1 rows \(2\.5%\) cannot be used: {message}: 1 \(r7\); fix them in .*mine\.jsonl"
    refused(
        "stage", "teacher", "own", "--preset", own_preset(place / "mine.jsonl"), "--runs", "PLACE/runs", message=message
    )


def empty(path):
    none = pa.array([], pa.string())
    pq.write_table(pa.table({"question": none, "choices": none, "answer": none}), path)


FILES = {
    "no file": ("mine.jsonl", None, r"there is no .*mine\.jsonl; check data.folder or data.own"),
    "a file of another kind": (
        "mine.txt",
        b"hello",
        r"mine\.txt: not one of \.json, .*; save it as CSV",
    ),
    "an empty file": ("mine.jsonl", b"", r"mine\.jsonl: has no rows"),
    "JSON broken on line 7": (
        "mine.jsonl",
        b"\n".join(lines(rows()).splitlines()[:6]) + b'\n{"question": "What',
        r"mine\.jsonl: .*line 7: Unterminated string",
    ),
    "a line that is not UTF-8": (
        "mine.jsonl",
        lines(rows(question="KOELN")).replace(b"KOELN", "Köln".encode("latin-1")),
        r"mine\.jsonl: .*line 7: 'utf-8' codec",
    ),
    "a line that is no row": ("mine.jsonl", lines(rows()) + b"3\n", r"mine\.jsonl: .*line 41: .*fields, not int"),
    "a list with something that is no row": ("mine.json", b'[{"question": "a"}, 3]', "row 2: .*fields, not int"),
    "bytes of anything": ("mine.jsonl", bytes(range(256)), r"mine\.jsonl: not readable as json: line 1"),
    "an id twice": ("mine.jsonl", lines(rows(id="r1")), "two rows have the id 'r1'; make ids unique"),
    "an id with a command to the terminal": ("mine.jsonl", lines(rows(id="\x1b[2J")), r"row 7 has the id '\\x1b\[2J'"),
    "an id of two lines": ("mine.jsonl", lines(rows(id="a\nb")), r"row 7 has the id 'a\\nb'"),
    "an id that is half a character": ("mine.jsonl", lines(rows(id="\ud800")), r"row 7 has the id '\\ud800'"),
    "an empty CSV": ("mine.csv", b"", r"mine\.csv: has no rows"),
    "a CSV of names alone": ("mine.csv", b"question,choices,answer\n", r"mine\.csv: has no rows"),
    "a CSV without choices": (
        "mine.csv",
        b"question,answer\na,b\n",
        r"its rows have the fields question, answer; not found: choices \(choices, options, .*tasks\.own\.fields",
    ),
    "a CSV with a field too many": (
        "mine.csv",
        b"question,answer\na,b\nc,d,e\n",
        r"line 3: 3 cells, but 2 columns",
    ),
    "a CSV in no encoding": (
        "mine.csv",
        b"question,answer\n\x81\xff,b\n",
        "neither UTF-8 nor Windows' cp1252",
    ),
    "a broken Parquet": ("mine.parquet", b"PAR1nothingPAR1", r"mine\.parquet: not readable as parquet"),
    "a Parquet without rows": ("mine.parquet", empty, r"mine\.parquet: has no rows"),
    "fewer rows than are cut off": ("mine.jsonl", lines(rows(10)), "no rows are left for the train split; lower sizes"),
}


@table({name: ((file, content), message) for name, (file, content, message) in FILES.items()})
def test_an_unreadable_file_is_reported(refused, place, own_preset, given, message):
    name, content = given
    file = place / name
    if callable(content):
        content(file)
    elif content is not None:
        file.write_bytes(content)
    refused("stage", "teacher", "own", "--preset", own_preset(file), "--runs", "PLACE/runs", message=message)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_reported(refused, place, own_preset, split):
    folder = place / "mine"
    folder.mkdir()
    for name in ("train", "validation", "test"):
        (folder / f"{name}.jsonl").write_bytes(b"" if name == split else lines(rows()))
    message = rf"{split}\.jsonl: has no rows; add some, or delete the file"
    refused("stage", "teacher", "own", "--preset", own_preset(folder), "--runs", "PLACE/runs", message=message)


def test_an_id_that_looks_like_a_path_is_only_a_name(place, own_preset):
    (place / "mine.jsonl").write_bytes(lines(rows(32, id="../../../climbed")))
    experiment = Experiment(str(own_preset(place / "mine.jsonl")), run_folder=str(place / "runs"))
    stores = [experiment.knowledge("own", split=split) for split in ("train", "validation", "test")]
    assert sum("../../../climbed" in store for store in stores) == 1
    assert {path.name for path in place.iterdir()} == {"file", "foreign", "mine.jsonl", "own.yaml", "runs"}
    assert not list(place.rglob("*climbed*"))


def test_labels_of_one_class_give_complete_results(place, own_preset):
    (place / "mine.jsonl").write_bytes(lines({**row, "answer": "a"} for row in rows()))
    results = Experiment(str(own_preset(place / "mine.jsonl")), run_folder=str(place / "runs")).results()
    assert len(results["rows"]) == 5
    numbers = [row[name] for row in results["rows"] for name in ("accuracy", "ece", "trust", "nll", "brier")]
    assert all(math.isfinite(number) for number in numbers)


# -- tokens and models -------------------------------------------------------------------------------------------


def test_a_candidate_that_is_not_one_token_is_reported(refused, place, own_preset):
    (place / "mine.jsonl").write_bytes(lines(rows()))
    preset = own_preset(place / "mine.jsonl", base="data/microworld/student")
    message = "question r1: the candidate 'a' is not a single token after .*choose another model, or reword the prompt"
    refused("stage", "teacher", "own", "--preset", preset, "--runs", "PLACE/runs", message=message)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ((" yesterday", " no"), "the candidate ' yesterday' is not a single token"),
        (("Q", "Q"), "two of the candidates .* are the same token"),
    ],
    ids=["two-tokens", "two-alike"],
)
def test_indistinguishable_candidates_are_reported(bytes_folder, candidates, message):
    question = Question("q", "Q: Is it so? A:", "", candidates, "", 0, candidates)
    with pytest.raises(UserError, match=f"question q: {message}"):
        encode_question(AutoTokenizer.from_pretrained(bytes_folder), question)


def test_a_response_that_nothing_stands_before_is_reported(bytes_folder):
    tokenizer = AutoTokenizer.from_pretrained(bytes_folder)
    assert encode(tokenizer, Example("e", "", "Yes")).start == 1  # its beginning token predicts the first
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    with pytest.raises(UserError, match="example e: has no prompt, and this tokenizer puts no token before a text"):
        encode(tokenizer, Example("e", "", "Yes"))


def test_a_response_without_tokens_is_reported(bytes_folder):
    with pytest.raises(UserError, match="example e: this tokenizer has no token for the response ''; omit the example"):
        encode(AutoTokenizer.from_pretrained(bytes_folder), Example("e", "Q: Is it so?", ""))


def pickled(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


MODELS = {
    "a model that is not there": (lambda folder: shutil.rmtree(folder), "no folder .*model with a config.json"),
    "a model without a configuration": (lambda folder: (folder / "config.json").unlink(), "with a config.json"),
    "a configuration that is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
    "a configuration of nothing": (lambda folder: (folder / "config.json").write_text("{}"), "Unrecognized model"),
    "a configuration of another kind": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "abacus"}'),
        "model type `abacus`",
    ),
    "weights that are pickled": (pickled, r"no file named model\.safetensors"),
    "weights that are missing": (lambda folder: (folder / "model.safetensors").unlink(), r"named model\.safetensors"),
    "a tokenizer that is no JSON": (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
}


@table(MODELS)
def test_a_bad_model_is_reported(refused, place, bytes_folder, given, message):
    shutil.copytree(bytes_folder, place / "model")
    given(place / "model")
    both = ("--set", "teacher.base=PLACE/model", "--set", "student.base=PLACE/model")
    refused("stage", "teacher", "csqa", *SMOKE, *both, message=rf"base model '.*model'.*{message}")


def test_different_vocabularies_are_reported(refused, bytes_folder):
    both = ("--set", f"teacher.base={bytes_folder}", "--set", "student.base=data/microworld/student")
    message = "token 0 is '<s>' for the teacher .* and '<unk>' for the student .*; choose a pair with one vocabulary"
    refused("stage", "teacher", "csqa", *SMOKE, *both, message=message)


# -- responses ---------------------------------------------------------------------------------------------------


def response(name="csqa-test-00000", logprob=-0.1):
    logprobs = {"tokens": ["a"], "token_logprobs": [logprob], "top_logprobs": [{"a": logprob}]}
    return json.dumps({"custom_id": name, "choices": [{"logprobs": logprobs}]}).encode()


RESPONSES = {
    "no responses": (b"", "nothing can be imported.* 16 x no response"),
    "a response cut short": (response() + b"\n" + response()[:-5], r"answers\.jsonl, line 2: not JSON"),
    "a response without a name": (b'{"choices": []}', "line 1: no `custom_id` and no `id`"),
    "a response without log-probabilities": (
        b'{"custom_id": "csqa-test-00000", "choices": [{}]}',
        r"nothing can be imported.* has no log-probabilities",
    ),
    "two responses to one example": (
        response() + b"\n" + response(),
        "line 2: a second response to example 'csqa-test-",
    ),
    "responses to another task": (response("boolq-test-00000"), "nothing can be imported.* 1 x no example has this id"),
    "a log-probability that is no number": (response(logprob=math.nan), "line 1: .*finite number .*not nan"),
    "an infinite log-probability": (response(logprob=math.inf), "line 1: .*finite number .*not inf"),
    "a probability above one": (response(logprob=0.7), "line 1: .*less than or equal to 0.02, not 0.7"),
}


@table(RESPONSES)
def test_bad_responses_are_reported_by_line(refused, place, tiny_preset_file, given, message):
    (place / "answers.jsonl").write_bytes(given)
    options = ("--task", "csqa", "--split", "test", "--to", "PLACE/stores", "--preset", tiny_preset_file)
    refused("import-logprobs", "PLACE/answers.jsonl", *options, message=message)
    assert not (place / "stores").exists()


# -- input that only a notebook or a program can give ------------------------------------------------------------

PARAMETERS = {
    "a preset that is a number": ({"preset": 7}, "preset: must be text, not 7"),
    "a seed that is text": ({"seed": "0"}, "seed: must be a whole number, not '0'"),
    "a seed that is true": ({"seed": True}, "seed: must be a whole number, not True"),
    "a run folder that is nothing": ({"run_folder": None}, "run_folder: must be text, not None"),
    "overrides that are one text": ({"overrides": "training.epochs=1"}, "overrides: must be a list of texts"),
    "overrides that are settings": ({"overrides": [{"epochs": 1}]}, "overrides: must be a list of texts"),
}


@table(PARAMETERS)
def test_a_bad_notebook_parameter_is_shown_in_one_line(given, message):
    with pytest.raises(UserError) as error:
        Experiment(**{"preset": "smoke", **given})
    [shown] = error.value._render_traceback_()
    assert_one_line(shown, rf"^UserError: {message}")


NAN, GOOD = math.nan, np.array([[0.6, 0.3], [0.5, 0.2]])


def with_second(*row):
    return np.array([[0.6, 0.3], row])


def distil(probabilities):
    ids = torch.tensor([[0, 1], [2, 3]])
    return top_k_kl(torch.zeros(2, 3), torch.ones(5, 3), ids, torch.tensor(probabilities, dtype=torch.float32))


ROW_1 = "row 1: "
NUMBERS = {
    "ECE of a confidence that is no number": (lambda: metrics.ece([0.5, NAN], [1, 0]), r"confidence\[1\] is nan"),
    "ECE of a logit": (lambda: metrics.ece([0.5, 3.2], [1, 0]), r"confidence\[1\] is 3\.2: pass probabilities"),
    "ECE of a negative": (lambda: metrics.smooth_ece([0.5, -0.1], [1, 0]), r"confidence\[1\] is -0\.1"),
    "ECE of nothing": (lambda: metrics.debiased_ece([], []), "confidence is empty"),
    "ECE of half an answer": (lambda: metrics.ece([0.5], [0.5]), r"correct\[0\] is 0\.5: pass True or False"),
    "log-likelihood of more than all": (lambda: metrics.nll([[0.9, 0.9]], [0]), r"probabilities\[0\] sums to 1\.8"),
    "a sweep over infinite logits": (lambda: sweep([[math.inf, 0.0]], [0], [1.0]), r"scores\[0\] has .*plus infinity"),
    "a map of NaN": (lambda: recalibrate(with_second(NAN, 0.1), "temperature", 0.3), f"{ROW_1}.*negative or NaN"),
    "a map of a negative": (lambda: recalibrate(with_second(0.5, -0.1), "none", 0), f"{ROW_1}.*negative or NaN"),
    "a map of more than all": (lambda: recalibrate(with_second(0.9, 0.4), "temperature", 1), f"{ROW_1}.*more than 1"),
    "a map of infinity": (lambda: recalibrate(with_second(math.inf, 0), "temperature", 1), f"{ROW_1}.*more than 1"),
    "a logit temperature of nothing": (lambda: logit_temperature(with_second(0, 0), 2), f"{ROW_1}all .*are 0"),
    "a temperature of infinity": (lambda: recalibrate(GOOD, "temperature", math.inf), "above 0 and finite, not inf"),
    "smoothing of NaN": (lambda: label_smoothing(with_second(NAN, 0)), f"{ROW_1}.*negative or NaN"),
    "smoothing by NaN": (lambda: label_smoothing(GOOD, NAN), "between 0 and 1, not nan"),
    "distilling NaN": (lambda: distil(with_second(NAN, 0.1)), f"{ROW_1}a probability is NaN"),
    "distilling a negative": (lambda: distil(with_second(0.5, -0.1)), f"{ROW_1}a probability is negative"),
    "distilling more than all": (lambda: distil(with_second(0.9, 0.4)), f"{ROW_1}.*sum to more than 1"),
}


@table(NUMBERS)
def test_a_bad_number_is_reported_by_row(given, message):
    with pytest.raises(ValueError, match=message) as error:
        given()
    assert_one_line(str(error.value), "")


def test_more_tokens_than_the_vocabulary_are_refused(bytes_folder):
    model = loading.load_base(Model(base=str(bytes_folder)))
    with pytest.raises(ValueError, match=r"k = 100000, but the vocabulary has \d+ tokens"):
        list(extract_top_k(model, [], 100_000))
