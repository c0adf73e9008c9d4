"""A student that is exported answers as it did, and its card says what is so and breaks on nothing."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from firstlib import Experiment
from firstlib.evaluation import asking
from firstlib.evaluation.predictions import Predictions
from firstlib.models import loading
from firstlib.results.export import Student, export_student, folder, model_card
from firstlib.results.export.card import metadata
from firstlib.results.export.measured import TOLERANCE, Repeat, in_plain_words, measure
from firstlib.results.export.student import lineage
from firstlib.runtime.errors import UserError
from firstlib.settings.loading import load_preset
from firstlib.settings.schema import STUDENT_METHODS

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("card")


@pytest.fixture(scope="module")
def open_run(base_folder, home):
    content = {
        "columns": [{"setting": "out-of-domain", "train": "csqa", "test": ["csqa", "obqa"]}],
        "sizes": {"train": 24, "validation": 20, "test": 16},
        "teacher": {"base": str(base_folder)},
        "student": {"base": str(base_folder), "lora": {"rank": 4, "learning_rate": 3e-2}},
        "training": {"epochs": 1, "global_batch_size": 8, "teacher_learning_rate": 1e-2, "student_learning_rate": 1e-2},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(content))
    return lambda *overrides: Experiment(str(home / "tiny.yaml"), run_folder=str(home / "runs"), overrides=overrides)


@pytest.fixture(scope="module")
def experiment(open_run):
    return open_run()


@pytest.fixture(autouse=True)
def no_browser(monkeypatch):
    monkeypatch.setattr(folder, "picture", lambda figure, kind: None)


@pytest.fixture(scope="module")
def exported(experiment, home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "picture", lambda figure, kind: PNG)
        return export_student(experiment, "first", "csqa", home / "my-student")


def asked(folder, experiment, test, **options):
    """What anybody gets who loads the folder with two lines."""
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return asking.ask(model.eval(), tokenizer, experiment.questions(test))


def unchanged(student):
    """What is found when every test set is asked again and nothing differs."""
    for setting, test in student.tests:
        found = student.answers(test)
        measured = student.measure(found, setting, test)
        yield Repeat(test, found, found, measured, measured)


def card(student, name="student", diagram=False):
    return model_card(student, name, 1234, list(unchanged(student)), diagram)


def predictions(probabilities, answer):
    p = np.array(probabilities, dtype=float)
    ids = np.tile(10 + np.arange(p.shape[1]), (len(p), 1))
    names = np.array([f"q{i}" for i in range(len(p))])
    return Predictions(names, ids, p, np.array(answer), ids, p, np.full(p.shape, np.nan))


def said_of(probabilities, answer):
    return in_plain_words(measure(predictions(probabilities, answer), "a test", "candidates", 10))


# -- the folder --------------------------------------------------------------------------------------------------


def test_two_lines_of_transformers_give_the_same_answers(exported, experiment):
    for test in ("csqa", "obqa"):
        kept, found = experiment.predictions("first", "csqa", test), asked(exported, experiment, test)
        np.testing.assert_allclose(found.probabilities, kept.probabilities, atol=1e-6)
        np.testing.assert_array_equal(found.candidate_ids, kept.candidate_ids)
    untuned = experiment.base_predictions("student", "obqa")
    assert np.abs(untuned.shares() - kept.shares()).max() > 10 * TOLERANCE["float32"]


def test_the_folder_holds_what_travels_and_no_pickle(exported):
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    needed = {"README.md", "manifest.json", "config.json", "generation_config.json", "reliability.png"}
    assert needed | {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {Path(name).suffix for name in names} == {".md", ".json", ".png", ".safetensors"}
    assert (exported / "reliability.png").read_bytes() == PNG


def test_it_tells_no_folder_of_this_machine(exported, home, base_folder, open_run):
    lora = export_student(open_run("student.tuning=lora"), "fine-tune", "csqa", home / "told")
    texts = [
        path.read_text() for folder in (exported, lora) for path in folder.rglob("*") if path.suffix in (".md", ".json")
    ]
    assert len(texts) > 10
    for place in (home, base_folder, home.parent):
        assert not [text for text in texts if str(place) in text]


def test_a_merged_adapter_answers_as_the_adapter_does(open_run, home, base):
    experiment = open_run("student.tuning=lora")
    folder = export_student(experiment, "first", "csqa", home / "lora")
    kept = experiment.predictions("first", "csqa", "csqa")
    merged = asked(folder, experiment, "csqa")
    assert np.abs(merged.shares() - kept.shares()).max() < TOLERANCE["float32"]
    untuned = experiment.base_predictions("student", "csqa")
    assert np.abs(untuned.shares() - kept.shares()).max() > 10 * TOLERANCE["float32"]
    adapted = PeftModel.from_pretrained(loading.load_base(base), folder / "adapter").eval()
    found = asking.ask(adapted, experiment.tokenizer(), experiment.questions("csqa"))
    np.testing.assert_allclose(found.probabilities, kept.probabilities, atol=1e-6)
    assert "A LoRA adapter (rank 4, alpha 32)" in (folder / "README.md").read_text()


def test_qlora_is_merged_into_unquantised_weights_and_measured_there(open_run, home):
    experiment = open_run("student.tuning=qlora")
    folder = export_student(experiment, "first", "csqa", home / "qlora")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    found, kept = asked(folder, experiment, "csqa"), experiment.predictions("first", "csqa", "csqa")
    assert np.abs(found.shares() - kept.shares()).max() > TOLERANCE["float32"]
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert results[0].metric_value == found.correct().mean()
    text = (folder / "README.md").read_text()
    assert "merged into the *unquantised* weights, in float32" in text
    assert "allowed" not in text


def test_weights_that_answer_otherwise_are_not_written(experiment, home, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "float32", -1.0)
    with pytest.raises(UserError, match=r"off by .*, more than the -1 that rounding to float32 explains; nothing was"):
        export_student(experiment, "first", "csqa", home / "off")
    assert not (home / "off").exists()


# -- complete or absent ------------------------------------------------------------------------------------------


def test_what_is_no_export_is_not_overwritten(experiment, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than an earlier export; name another folder") as error:
        export_student(experiment, "first", "csqa", tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"thesis.txt: that is a file; name a folder"):
        export_student(experiment, "first", "csqa", tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_trained_student_is_no_export(experiment):
    with pytest.raises(UserError, match="something else"):
        export_student(experiment, "first", "csqa", experiment.student("first", "csqa"))


def test_an_earlier_export_is_replaced_as_a_whole(experiment, tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    assert export_student(experiment, "fine-tune", "csqa", str(folder)) == folder
    before = (folder / "model.safetensors").read_bytes()
    (folder / "stale.json").write_text("{}")
    export_student(experiment, "distill", "csqa", folder)
    assert not (folder / "stale.json").exists()
    assert (folder / "model.safetensors").read_bytes() != before
    assert json.loads((folder / "manifest.json").read_text())["stage"] == "export-distill-csqa"
    assert [path.name for path in folder.parent.iterdir()] == ["er"]


def test_a_failure_leaves_the_earlier_export(experiment, exported, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "model_card", stop)
    with pytest.raises(KeyboardInterrupt):
        export_student(experiment, "distill", "csqa", exported)
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before
    assert not list(exported.parent.glob(f".{exported.name}-*"))


def test_what_cannot_be_exported_is_named(experiment, tmp_path):
    with pytest.raises(UserError, match="no student is trained on 'boolq'; choose csqa"):
        export_student(experiment, "first", "boolq", tmp_path / "x")
    with pytest.raises(UserError, match=r"method: must be one of fine-tune, .*, not 'teacher'"):
        export_student(experiment, "teacher", "csqa", tmp_path / "x")
    assert not list(tmp_path.iterdir())


# -- the numbers -------------------------------------------------------------------------------------------------


def test_the_hub_reads_the_results_of_the_experiment(exported, experiment):
    data = ModelCard.load(exported / "README.md").data
    rows = {row.dataset: row for row in experiment.rows() if row.method == "first"}
    found = {(one.dataset_type, one.metric_type): one.metric_value for one in data.eval_results}
    expected = {
        (f"microworld-{test}", kind): pytest.approx(getattr(rows[test], kind), abs=1e-6)
        for test in ("csqa", "obqa")
        for kind in ("accuracy", "ece")
    }
    assert found == expected
    assert (data.library_name, data.pipeline_tag, data.model_name) == ("transformers", "text-generation", "my-student")
    assert {"base_model", "datasets", "license"}.isdisjoint(data.to_dict())  # none of them is on the hub


def test_the_table_holds_the_row_of_the_experiment(exported, experiment):
    row = next(row for row in experiment.rows() if (row.method, row.dataset) == ("first", "obqa"))
    line = next(
        line for line in (exported / "README.md").read_text().splitlines() if line.startswith("| microworld OBQA")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["microworld OBQA, out-of-domain", "16", f"{100 * row.accuracy:.1f}"]
    assert cells[3].split()[0] == f"{100 * row.ece:.1f}"
    assert cells[6:] == [f"{100 * row.trust:.1f}", f"{row.nll:.3f}", f"{row.brier:.3f}"]


def test_what_is_measured_by_hand():
    found = measure(predictions([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 1, 0, 1]), "x", "candidates", 10)
    assert (found.n, found.accuracy, found.guessing) == (4, 0.75, 0.5)
    assert found.confidence == pytest.approx(0.775)
    assert found.ece == pytest.approx((2 * 0.4 + 0.4 + 0.3) / 4)
    assert found.trust == pytest.approx(0.75 - 0.375)
    assert found.interval.low <= found.ece <= found.interval.high
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.18) / 4)


def test_plain_words_by_hand():
    text = said_of([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 1, 0, 1])
    assert "it says 77.5 % on average and is right in 75.0 % of 4 questions: over-confident by 2.5 points." in text
    assert "20.0 points are over-confidence and 17.5 under-confidence" in text
    assert "the bin from 80 to 90 % (2 answers), which is right 40.0 points less often than it says." in text
    assert "cannot be told from guessing, which is right in 50.0 %" in text
    assert "That may be luck" in text


def test_plain_words_on_the_wrong_and_on_the_modest():
    wrong = said_of([[0.95, 0.05]] * 100, [1] * 100)
    assert "over-confident by 95.0 points" in wrong
    assert "That is more than luck" in wrong
    assert "It is worse than guessing" in wrong
    modest = said_of([[0.55, 0.45]] * 100, [0] * 100)
    assert "under-confident by 45.0 points" in modest
    assert "guessing" not in modest
    assert "(100 answers), which is right 45.0 points more often" in modest
    even = said_of([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    assert "calibrated on average" in even


# -- the words ---------------------------------------------------------------------------------------------------


def test_the_code_of_the_card_runs_and_says_what_the_experiment_says(exported, experiment, monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", (exported / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(exported.parent)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    row = [q.prompt + q.lead for q in experiment.questions("csqa")].index(names["prompt"])
    kept = experiment.predictions("first", "csqa", "csqa")
    np.testing.assert_allclose(names["confidence"].numpy(), kept.shares()[row], atol=1e-5)
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(kept.confidence()[row], abs=1e-5)


@pytest.mark.parametrize("method", STUDENT_METHODS)
def test_how_it_was_made(experiment, method):
    text = card(Student(experiment, method, "csqa")).text
    search = experiment.search("csqa")
    lowest = np.concatenate([search.coarse, search.fine])[:, 1].min()
    expected = {
        "fine-tune": ["fine-tuned on microworld CSQA", "no teacher was asked"],
        "distill": ["direct distillation", "The map is *none*.\n"],
        "label-smoothing": ["with d = 0.1 moved", "The map is *label-smoothing*.\n"],
        "first": [f"with c = {search.best:g} (Eq. 4)", f"on 20 validation answers, {100 * lowest:.1f} %"],
    }
    assert [words for words in expected[method] if words not in text] == []
    assert "trained on 24 examples of microworld CSQA for 1 epoch." in text
    assert ("Its k = 5 most probable tokens" in text) == (method != "fine-tune")


def test_a_coefficient_set_by_hand_is_called_so(experiment):
    text = card(Student(experiment.change(recalibration__coefficient=0.55), "first", "csqa")).text
    assert "with c = 0.55 (Eq. 4). The map is *temperature*. The coefficient was set by hand." in text


def test_the_whole_vocabulary_where_the_settings_read_that(experiment):
    student = Student(experiment.change(measures__confidence="vocabulary"), "first", "csqa")
    text = card(student).text
    assert "confidence = probabilities\n" in text
    row = next(row for row in student.experiment.rows("vocabulary") if (row.method, row.dataset) == ("first", "csqa"))
    assert f"| microworld CSQA, out-of-domain | 16 | {100 * row.accuracy:.1f} | {100 * row.ece:.1f} (" in text


def test_a_card_without_a_diagram_says_how_to_get_one(experiment):
    student = Student(experiment, "first", "csqa")
    assert "kaleido_get_chrome" in card(student).text
    drawn = card(student, diagram=True).text
    assert "](reliability.png)" in drawn
    assert "kaleido_get_chrome" not in drawn


HOSTILE = "<script>alert(1)</script> | *x* [y](z) `` ``` ~~~ &amp; \\ </details>\n```\n# not a heading\n---"


def test_text_of_a_data_set_cannot_break_the_card(experiment, monkeypatch):
    ours = Experiment.questions

    def hostile(self, task, split="test"):
        found = ours(self, task, split)
        if split != "test":
            return found
        return [replace(q, prompt=HOSTILE + q.prompt, choices=(HOSTILE, *q.choices[1:])) for q in found]

    student = Student(experiment, "first", "csqa")
    repeats = list(unchanged(student))
    plain = model_card(student, "student", 1234, repeats, False)
    monkeypatch.setattr(Experiment, "questions", hostile)
    student = Student(experiment.change(description=HOSTILE), "first", "csqa")
    broken = model_card(student, HOSTILE.splitlines()[0], 1234, repeats, False)
    before, after = (MarkdownIt("commonmark").enable("table").render(one.text) for one in (plain, broken))
    tags = r"</?([a-zA-Z0-9]+)"
    assert re.findall(tags, after) == re.findall(tags, before)
    assert "script" not in re.findall(tags, after)
    assert after.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # title, prompt, choice, settings
    namespace = {}
    exec(re.search(r"^prompt = \(\n.*?^\)", broken.text, re.MULTILINE | re.DOTALL)[0], namespace)
    assert namespace["prompt"].startswith(HOSTILE)


def test_the_hub_s_names_of_models_and_data():
    settings = load_preset("smoke", ["student.base=maker/small", "student.tuning=lora", "data.source=hub"])
    student = Student(SimpleNamespace(settings=settings, training_tasks=lambda: ["alpaca"]), "first", "alpaca")
    found = predictions([[0.9, 0.1]], [0])
    one = student.measure(found, "out-of-domain", "obqa")
    data = metadata(student, "x", [Repeat("obqa", found, found, one, one)]).to_dict()
    assert (data["base_model"], data["datasets"]) == ("maker/small", ["tatsu-lab/alpaca"])
    assert data["model-index"][0]["results"][0]["dataset"] == {
        "name": "OBQA, out-of-domain",
        "type": "allenai/openbookqa",
    }
    assert {"lora", "knowledge-distillation"} <= set(data["tags"])


# -- where it comes from -----------------------------------------------------------------------------------------


def test_lineage_by_hand():
    def made(stage, key, **inputs):
        return {"stage": stage, "key": key, "inputs": inputs}

    manifests = [
        made("other", "0"),
        made("asked", "5", model="student-3"),
        made("asked", "6", model="other-0"),
        made("student", "3", lesson={"from": ["knowledge-2"]}),
        made("knowledge", "2", teacher="teacher-1"),
        made("teacher", "1", base="b"),
    ]
    assert [one["key"] for one in lineage(manifests, "student-3")] == ["1", "2", "3", "5"]


def test_provenance_names_every_stage_with_its_hashes(exported, experiment):
    text, manifest = (exported / "README.md").read_text(), json.loads((exported / "manifest.json").read_text())
    stages = [one["stage"] for one in manifest["inputs"]["artefacts"]]
    assert stages[:3] == ["teacher-csqa", "knowledge-csqa-train-top5", "first-csqa"]
    assert {f"predictions-first-csqa-on-{test}-test" for test in ("csqa", "obqa")} <= set(stages)
    own = json.loads((experiment.student("first", "csqa") / "manifest.json").read_text())
    assert f"| `first-csqa` | `{own['key']}` |" in text
    assert own["files"]["model.safetensors"][:12] in text
    assert f"torch {torch.__version__}" in text
    settings = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1])
    assert settings["sizes"] == {"train": 24, "validation": 20, "test": 16}
    assert settings["student"]["base"] == experiment.settings.student.base.rpartition("/")[2]
