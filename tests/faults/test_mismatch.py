"""What was made for other inputs is refused, naming both sides and the remedy, or is made again."""

import hashlib
import json
import shutil

import pyarrow.parquet as pq
import pytest
import yaml
from served_answers import responses, written
from transformers import AutoTokenizer

from firstlib import Experiment
from firstlib.experiment import stages
from firstlib.experiment.import_logprobs import import_knowledge
from firstlib.knowledge import Origin
from firstlib.knowledge.servers.matching import Rules
from firstlib.results.verify import verify
from firstlib.runtime import artefacts
from firstlib.runtime.errors import UserError

COLUMNS = [{"setting": "in-domain", "train": "own", "test": ["own"]}]
TEMPLATE = "{% for turn in messages %}<user>{{ turn.content }}</user>{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def home(tmp_path_factory, bytes_folder):
    """A preset on 40 questions from a user's own file, and a model with a chat template."""
    home = tmp_path_factory.mktemp("mismatch")
    shutil.copytree(bytes_folder, home / "model")
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(home / "model")
    rows = [
        {
            "id": f"r{i}",
            "question": f"What is drunk at {i}?",
            "choices": ["tea", "milk", "wine"],
            "answer": "abc"[i % 3],
        }
        for i in range(40)
    ]
    written(home / "mine.jsonl", rows)
    model = {"base": str(home / "model")}
    content = {
        "columns": COLUMNS,
        "data": {"source": "hub", "own": str(home / "mine.jsonl")},
        "sizes": {"train": 16, "validation": 8, "test": 8},
        "teacher": model,
        "student": model,
        "training": {"epochs": 1, "global_batch_size": 8},
    }
    (home / "own.yaml").write_text(yaml.safe_dump(content))
    return home


@pytest.fixture
def opened(home, tmp_path):
    """Opens that preset, with some settings changed, in the test's own run folder."""
    return lambda *changes: Experiment(str(home / "own.yaml"), run_folder=str(tmp_path / "runs"), overrides=changes)


@pytest.fixture(scope="module")
def imported(home, tmp_path_factory):
    """Imported answers of a teacher behind a server to the test questions."""
    plain = Experiment(str(home / "own.yaml"), run_folder=str(tmp_path_factory.mktemp("runs")))
    file = written(home / "answers.jsonl", responses(plain, "own", "test"))
    import_knowledge(plain.run, file, "own", "test", home / "stores", Rules(5, shared_ids=True))
    return home / "stores"


@pytest.fixture
def stores(imported, tmp_path):
    """A copy of the imported stores, which the test may damage."""
    return shutil.copytree(imported, tmp_path / "stores")


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


# -- imported knowledge ------------------------------------------------------------------------------------------


def test_imported_knowledge_is_used_if_nothing_has_changed(opened, stores):
    assert len(opened(f"knowledge.imported={stores}").knowledge("own", split="test")) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.chat_template=true", r"its data is \w{12}, expected \w{12}"),
        ("sizes.test=7", r"its data is \w{12}, expected \w{12}"),
        ("knowledge.k=4", "its k is 5, expected 4"),
    ],
    ids=["prompt-format", "questions", "k"],
)
def test_imported_knowledge_of_another_experiment_is_refused(opened, stores, change, message):
    with pytest.raises(UserError, match=rf"own-test: {message}; remove it and import the responses again"):
        opened(f"knowledge.imported={stores}", change).knowledge("own", split="test")


def test_imported_knowledge_of_another_tokenizer_is_refused(opened, stores, home, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(shutil.copytree(home / "model", tmp_path / "other"))
    tokenizer.add_tokens(["teapot"])
    tokenizer.save_pretrained(tmp_path / "other")
    both = [f"{role}.base={tmp_path / 'other'}" for role in ("teacher", "student")]
    with pytest.raises(UserError, match=r"its tokenizer is \w{12}, expected \w{12}; .*import the responses again"):
        opened(f"knowledge.imported={stores}", *both).knowledge("own", split="test")


def test_imported_knowledge_of_another_split_is_refused(opened, stores):
    (stores / "own-test").rename(stores / "own-train")
    with pytest.raises(
        UserError, match=r"own-train: its data is \w{12}, expected \w{12}; .*import the responses again"
    ):
        opened(f"knowledge.imported={stores}").knowledge("own")


def test_imported_knowledge_of_another_version_is_refused(opened, stores):
    file = stores / "own-test" / "knowledge.parquet"
    found = pq.read_table(file)
    origin = {**json.loads(found.schema.metadata[b"first"]), "format": 1}
    pq.write_table(found.replace_schema_metadata({"first": json.dumps(origin)}), file)
    with pytest.raises(UserError, match="its format is 1, expected 2; remove it and import the responses again"):
        opened(f"knowledge.imported={stores}").knowledge("own", split="test")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "knowledge.parquet").unlink(),
        lambda folder: (folder / "knowledge.parquet").write_bytes(b"PAR1nothingPAR1"),
        lambda folder: pq.write_table(pq.read_table(folder / "knowledge.parquet").replace_schema_metadata(),
                                      folder / "knowledge.parquet"),
        lambda folder: (folder / "report.json").unlink(),
        lambda folder: (folder / "report.json").write_text("{"),
        lambda folder: (folder / "report.json").write_text("{}"),
    ],
    ids=["no-file", "broken", "another-program's", "no-report", "half-a-report", "an-older-report"],
)  # fmt: skip
def test_damaged_imported_knowledge_is_refused(opened, stores, damage):
    damage(stores / "own-test")
    with pytest.raises(UserError, match=r"own-test: is damaged \(.*\); remove it and import the responses again"):
        opened(f"knowledge.imported={stores}").knowledge("own", split="test")


# -- a run's own stages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ("training.epochs=2", {"teacher-own", "knowledge-own-train-top5"}),
        ("sizes.train=15", {"teacher-own", "knowledge-own-train-top5"}),
        ("data.chat_template=true", {"teacher-own", "knowledge-own-train-top5"}),
        ("knowledge.k=4", {"knowledge-own-train-top4"}),
    ],
    ids=["teacher", "split", "prompt-format", "k"],
)
def test_knowledge_is_extracted_again_if_its_origin_changes_and_the_old_is_kept(home, tmp_path, change, made):
    preset = str(shutil.copy(home / "own.yaml", tmp_path / "own.yaml"))
    first = Experiment(preset, run_folder=str(tmp_path / "runs"))
    first.knowledge("own")
    before, stages = contents(first.folder), set(first.folder.glob("*-*"))
    edit(tmp_path / "own.yaml", change)
    second = Experiment(preset, run_folder=str(tmp_path / "runs"))
    second.knowledge("own")
    assert second.folder == first.folder
    assert {path.name.rpartition("-")[0] for path in set(second.folder.glob("*-*")) - stages} == made
    assert before.items() <= contents(second.folder).items()


def edit(file, change):
    """Changes a setting in the preset file itself."""
    (part, name), value = change.partition("=")[0].split("."), yaml.safe_load(change.partition("=")[2])
    content = yaml.safe_load(file.read_text())
    content.setdefault(part, {})[name] = value
    file.write_text(yaml.safe_dump(content))


def test_a_new_store_format_makes_a_new_store(opened, monkeypatch):
    old = opened()
    old.knowledge("own")
    before = contents(old.folder)
    monkeypatch.setattr(Origin, "__init__", of_format_3(Origin.__init__))
    new = opened()
    assert new.knowledge("own").origin.format == 3
    assert len(list(new.folder.glob("knowledge-own-train-top5-*"))) == 2
    assert before.items() <= contents(new.folder).items()


def of_format_3(make):
    return lambda self, *given, **named: make(self, *given, **{**named, "format": 3})


def test_a_store_in_the_place_of_another_is_refused_naming_both(opened):
    train, test = (opened().knowledge("own", split=split) for split in ("train", "test"))
    ours, theirs = (artefacts.Path(store.path).parent for store in (train, test))
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    artefacts.check.cache_clear()
    with pytest.raises((UserError, ValueError), match=rf"its data is {test.origin.data}, expected {train.origin.data}"):
        opened().knowledge("own")


# -- results -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    Experiment(str(home / "own.yaml"), run_folder=str(folder)).results()
    return folder


@pytest.fixture
def run(home, finished, tmp_path):
    """Opens a copy of a finished run, which the test may damage."""
    shutil.copytree(finished, tmp_path / "runs")
    return lambda: Experiment(str(home / "own.yaml"), run_folder=str(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda found: {**found, "rows_by_vocabulary": []},
            "rows_by_vocabulary/0/accuracy is None, but the kept .* give",
        ),
        (lambda found: {**found, "verdict": "good"}, "verdict is 'good', but the kept answers give None; run again"),
        (lambda found: found["rows"], r"0/accuracy is [\d.]+, but the kept answers give None; run again"),
        (lambda found: {**found, "seed": 1}, "seed is 1, but the kept answers give 0; run again"),
    ],
    ids=["without-a-part", "with-a-part-more", "a-list", "of-another-seed"],
)
def test_results_of_another_version_are_not_verified(run, write, message):
    file = run().folder / "results.json"
    file.write_text(json.dumps(write(json.loads(file.read_text()))))
    with pytest.raises(UserError, match=rf"results\.json: {message}"):
        verify(run())


@pytest.mark.parametrize("content", [b"{", b"\xff", b""], ids=["half", "not-UTF-8", "empty"])
def test_unreadable_results_are_reported(run, content):
    (run().folder / "results.json").write_bytes(content)
    with pytest.raises(UserError, match=r"results\.json: is not readable as JSON .*; run again"):
        verify(run())


def test_answers_of_another_format_count_as_missing_and_are_not_made(run, monkeypatch):
    before = contents(run().folder)
    monkeypatch.setitem(stages.FORMATS, "predictions", 0)
    with pytest.raises(UserError, match=r"predictions-.* is missing; run again"):
        verify(run())
    assert contents(run().folder) == before
