"""An exported student answers as before, and its card is correct for any text in the data."""

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
from firstlib.experiment import students
from firstlib.models import loading
from firstlib.results.export import ExportedStudent, export_student, folder, making, model_card
from firstlib.results.export.card import metadata
from firstlib.results.export.markdown import escaped
from firstlib.results.export.measured import TOLERANCE, Repeat, in_plain_words, measure
from firstlib.results.provenance import folder_name
from firstlib.runtime.errors import UserError
from firstlib.settings.loading import load_preset
from firstlib.settings.methods import PAPER_METHODS
from firstlib.settings.schema import Measures

AGREEING = {"learns": "answers", "afterwards": "agreement-temperature"}
SCALED = {"learns": "top-k", "map": "temperature", "afterwards": "student-temperature"}
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
    """The answers of an exported student, loaded as its card shows."""
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return asking.ask(model.eval(), tokenizer, experiment.questions(test))


def unchanged(student):
    """The repeats of an export in which no answer differs."""
    for setting, test in student.tests:
        found = student.answers(test)
        measured = student.measure(found, setting, test)
        yield Repeat(test, found, found, measured, measured)


def card(student, name="student", diagram=False):
    return model_card(student, name, 1234, list(unchanged(student)), diagram)


def test_the_card_names_the_licence_that_the_base_models_file_states(experiment, monkeypatch):
    student = ExportedStudent(experiment, "first", "csqa")
    stated = "apache-2.0 *and* more"
    assert "- No licence of its own is stated" in str(card(student))
    monkeypatch.setattr("firstlib.results.export.card.licence", lambda model: stated)
    assert f"file states the licence *{escaped(stated)}*." in str(card(student))


def test_the_card_names_how_the_base_models_file_stored_its_weights(experiment, monkeypatch):
    assert "stored as" not in making.base_name(experiment.settings.student)
    monkeypatch.setattr(making, "quantisation", lambda model: {"Q5_0": 133, "F32": 121, "<Q8>": 13})
    assert making.base_name(experiment.settings.student).endswith(
        f"(a local folder, whose weights were stored as {escaped('Q5_0, <Q8>')})"
    )


def predictions(probabilities, answer):
    p = np.array(probabilities, dtype=float)
    ids = np.tile(10 + np.arange(p.shape[1]), (len(p), 1))
    names = np.array([f"q{i}" for i in range(len(p))])
    return Predictions(names, ids, p, np.array(answer), ids, p, np.full(p.shape, np.nan), np.empty((len(p), 0)))


def said_of(probabilities, answer):
    return in_plain_words(measure(predictions(probabilities, answer), "a test", Measures()))


# -- the folder --------------------------------------------------------------------------------------------------


def test_the_exported_folder_gives_the_same_answers(exported, experiment):
    for test in ("csqa", "obqa"):
        kept, found = experiment.predictions("first", "csqa", test), asked(exported, experiment, test)
        np.testing.assert_allclose(found.probabilities, kept.probabilities, atol=1e-6)
        np.testing.assert_array_equal(found.candidate_ids, kept.candidate_ids)
    untuned = experiment.base_predictions("student", "obqa")
    assert np.abs(untuned.shares() - kept.shares()).max() > 10 * TOLERANCE["float32"]


def test_the_folder_holds_everything_needed_and_no_pickle(exported):
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    needed = {"README.md", "manifest.json", "config.json", "generation_config.json", "reliability.png"}
    assert needed | {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {Path(name).suffix for name in names} == {".md", ".json", ".png", ".safetensors"}
    assert (exported / "reliability.png").read_bytes() == PNG


def test_the_export_names_no_folder_of_this_machine(exported, home, base_folder, open_run):
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
    assert "A LoRA adapter (rank 4, alpha 32; in `adapter/`)" in (folder / "README.md").read_text()


def test_half_precision_is_exported_as_it_was_evaluated(open_run, home):
    experiment = open_run("training.mixed_precision=bf16")
    folder = export_student(experiment, "fine-tune", "csqa", home / "half")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    kept = experiment.predictions("fine-tune", "csqa", "csqa")
    np.testing.assert_allclose(asked(folder, experiment, "csqa").probabilities, kept.probabilities, atol=1e-6)


def test_qlora_is_merged_into_unquantised_weights_and_measured_there(open_run, home):
    experiment = open_run("student.tuning=qlora")
    folder = export_student(experiment, "first", "csqa", home / "qlora")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    found, kept = asked(folder, experiment, "csqa"), experiment.predictions("first", "csqa", "csqa")
    assert np.abs(found.shares() - kept.shares()).max() > TOLERANCE["float32"]
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert results[0].metric_value == found.correct().mean()
    text = (folder / "README.md").read_text()
    assert "merges it into the *unquantised* weights, in float32" in text
    assert "allowed" not in text


def test_weights_that_answer_differently_are_not_written(experiment, home, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "float32", -1.0)
    with pytest.raises(
        UserError, match=r"change a probability by .*, more than the -1 that rounding to float32 explains; nothing was"
    ):
        export_student(experiment, "first", "csqa", home / "off")
    assert not (home / "off").exists()


# -- complete or absent ------------------------------------------------------------------------------------------


def test_other_files_are_not_overwritten(experiment, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than an earlier result; name a new folder") as error:
        export_student(experiment, "first", "csqa", tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"thesis.txt: is a file; name a folder"):
        export_student(experiment, "first", "csqa", tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_trained_students_folder_is_not_overwritten(experiment):
    with pytest.raises(UserError, match="holds something else"):
        export_student(experiment, "first", "csqa", experiment.student("first", "csqa"))


def test_an_earlier_export_is_replaced_as_a_whole(experiment, tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    assert export_student(experiment, "fine-tune", "csqa", str(folder)) == folder
    before = (folder / "model.safetensors").read_bytes()
    (folder / "mine.json").write_text("{}")
    with pytest.raises(UserError, match=r"mine\.json does not belong there, and would be lost"):
        export_student(experiment, "distill", "csqa", folder)
    (folder / "mine.json").unlink()
    export_student(experiment, "distill", "csqa", folder)
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


def test_unknown_tasks_and_methods_are_reported(experiment, tmp_path):
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
    scores = row.scores
    assert cells[6:] == [f"{100 * scores.trust:.1f}", f"{scores.nll:.3f}", f"{scores.brier:.3f}"]


def test_measures_by_hand():
    answers = predictions([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 1, 0, 1])
    found = measure(answers, "x", Measures())
    scores = found.scores
    assert (scores.n, scores.accuracy, found.guessing) == (4, 0.75, 0.5)
    assert scores.confidence == pytest.approx(0.775)
    assert scores.ece == pytest.approx((2 * 0.4 + 0.4 + 0.3) / 4)
    assert scores.trust == pytest.approx(0.75 - 0.375)
    assert found.interval.low <= scores.ece <= found.interval.high
    assert scores.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.18) / 4)


def test_plain_words_by_hand():
    text = said_of([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], [0, 1, 0, 1])
    assert "its mean confidence is 77.5 % and it answers 75.0 % of 4 questions correctly: it is over-confident" in text
    assert "it is over-confident by 2.5 points." in text
    assert "Over-confidence contributes 20.0 points to its ECE and under-confidence 17.5." in text
    assert "The bin from 80 to 90 % (2 answers) contributes most: its accuracy is 40.0 points below" in text
    assert "not significantly better than guessing, which is right in 50.0 %" in text
    assert "Chance may explain its ECE" in text


def test_plain_words_for_bad_cautious_and_calibrated_answers():
    wrong = said_of([[0.95, 0.05]] * 100, [1] * 100)
    assert "over-confident by 95.0 points" in wrong
    assert "Chance does not explain its ECE" in wrong
    assert "It is worse than guessing" in wrong
    cautious = said_of([[0.55, 0.45]] * 100, [0] * 100)
    assert "under-confident by 45.0 points" in cautious
    assert "guessing" not in cautious
    assert "(100 answers) contributes most: its accuracy is 45.0 points above its confidence" in cautious
    even = said_of([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    assert "calibrated on average" in even


# -- the card's text ---------------------------------------------------------------------------------------------


def run_card(folder, monkeypatch):
    """Runs the code in a card and returns its variables."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(folder.parent)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    return names


def test_the_code_of_the_card_gives_the_experiments_answer(exported, experiment, monkeypatch, capsys):
    names = run_card(exported, monkeypatch)
    row = [q.prompt + q.lead for q in experiment.questions("csqa")].index(names["prompt"])
    kept = experiment.predictions("first", "csqa", "csqa")
    np.testing.assert_allclose(names["confidence"].numpy(), kept.shares()[row], atol=1e-5)
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(kept.confidence()[row], abs=1e-5)


def test_a_students_temperature_is_in_the_code_and_in_the_numbers(experiment, home, monkeypatch):
    scaled = experiment.change(methods={"scaled": SCALED})
    folder = export_student(scaled, "scaled", "csqa", home / "scaled")
    [temperature] = set(ExportedStudent(scaled, "scaled", "csqa").temperatures.values())
    text = (folder / "README.md").read_text()
    assert abs(temperature - 1) > 0.01
    assert f"The student's logits are divided by T = {temperature:g}" in text
    names = run_card(folder, monkeypatch)
    row = [q.prompt + q.lead for q in scaled.questions("csqa")].index(names["prompt"])
    kept = scaled.predictions("scaled", "csqa", "csqa")
    np.testing.assert_allclose(names["confidence"].numpy(), kept.shares()[row], atol=1e-5)
    plain = asked(folder, scaled, "csqa")
    assert np.abs(plain.shares() - kept.shares()).max() > TOLERANCE["float32"]
    [row] = [row for row in scaled.rows() if (row.method, row.dataset) == ("scaled", "csqa")]
    results = ModelCard.load(folder / "README.md").data.eval_results
    [ece] = [one.metric_value for one in results if (one.dataset_type, one.metric_type) == ("microworld-csqa", "ece")]
    assert ece == pytest.approx(row.ece, abs=1e-6)


def test_a_temperature_for_each_test_set_is_in_the_code_and_in_the_numbers(experiment, home, monkeypatch):
    agreeing = experiment.change(methods={"agreeing": AGREEING})
    folder = export_student(agreeing, "agreeing", "csqa", home / "agreeing")
    fitted = {test: students.student_temperature(agreeing.run, "agreeing", "csqa", test) for test in ("csqa", "obqa")}
    assert len({1, *fitted.values()}) == 3
    told = f"divided by T = {fitted['csqa']:g} for microworld CSQA and T = {fitted['obqa']:g} for microworld OBQA"
    assert (folder / "README.md").read_text().count(told) == 2
    names = run_card(folder, monkeypatch)
    row = [q.prompt + q.lead for q in agreeing.questions("csqa")].index(names["prompt"])
    kept = agreeing.predictions("agreeing", "csqa", "csqa")
    np.testing.assert_allclose(names["confidence"].numpy(), kept.shares()[row], atol=1e-5)
    results = ModelCard.load(folder / "README.md").data.eval_results
    found = {one.dataset_type: one.metric_value for one in results if one.metric_type == "ece"}
    for row in agreeing.rows():
        if row.method == "agreeing":
            assert found[f"microworld-{row.dataset}"] == pytest.approx(row.ece, abs=1e-6)


@pytest.mark.parametrize("method", PAPER_METHODS)
def test_the_card_describes_the_papers_methods(experiment, method):
    text = card(ExportedStudent(experiment, method, "csqa")).text
    search = experiment.search("csqa")
    lowest = np.concatenate([search.coarse, search.fine])[:, 1].min()
    expected = {
        "fine-tune": ["fine-tuned on microworld CSQA", "The right answers alone, without a teacher."],
        "distill": ["direct distillation", "The map is *none*.\n"],
        "label-smoothing": ["with d = 0.1 moved", "The map is *label-smoothing*. The preset gives the coefficient."],
        "first": [f"with c = {search.best:g} (Eq. 4)", f"lowest ECE on 20 validation answers, {100 * lowest:.1f} %"],
    }
    assert [words for words in expected[method] if words not in text] == []
    assert "trained on 24 examples of microworld CSQA for 1 epoch." in text
    assert ("Its k = 5 most probable tokens" in text) == (method != "fine-tune")
    assert "After training" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coefficient": "validation-nll"}, r"lowest negative log-likelihood on 20 validation answers, [\d.]+ nats"),
        ({"coefficient": "validation-smooth-ece"}, r"lowest smooth ECE on 20 validation answers, [\d.]+ %"),
        ({"map": "logit-temperature"}, r"within the stored tokens: q ~ p\^\(1/T\) with T = "),
        ({"map": "exact-temperature"}, r"over the whole vocabulary: q ~ p\^\(1/T\) with T = .* Of 3 coefficients, "),
        ({"map": "stored", "tail": "ghost"}, r"is one more bucket, matched with .* \(\*ghost\*\)"),
        ({"student": "renormalised"}, "probabilities are taken over these tokens alone;"),
        ({"knowledge": "cross-fitted", "folds": 2}, "fine-tuned 2 times, .* Of .* on 40 validation answers"),
        ({"tuning": "lora"}, r"A LoRA adapter \(rank 4, alpha 32; in `adapter/`\)"),
    ],
)
def test_the_card_describes_any_method(experiment, changes, words):
    methods = {"mine": {"learns": "top-k", "map": "temperature", **changes}}
    other = experiment.change(methods=methods, knowledge__temperatures=[0.5, 1.0, 2.0])
    text = card(ExportedStudent(other, "mine", "csqa")).text
    assert re.search(words, text.replace("\n", " "))


def test_further_methods_can_be_exported(experiment):
    further = experiment.change(beyond={"plain": {"learns": "answers"}})
    assert "The right answers alone" in card(ExportedStudent(further, "plain", "csqa")).text


def test_the_card_says_whether_a_coefficient_is_fixed_or_chosen_by_hand(open_run, experiment):
    fixed = {"first": {"learns": "top-k", "map": "temperature", "coefficient": 0.55}}
    text = card(ExportedStudent(experiment.change(methods=fixed), "first", "csqa")).text
    assert "with c = 0.55 (Eq. 4). The map is *temperature*. The preset gives the coefficient." in text
    own = open_run("description=by hand")
    own.choose("csqa", 0.45)
    text = card(ExportedStudent(own, "first", "csqa")).text
    assert "with c = 0.45 (Eq. 4). The map is *temperature*. The coefficient was chosen by hand." in text


def test_the_card_follows_the_settings_reading(experiment):
    student = ExportedStudent(experiment.change(measures__confidence="vocabulary"), "first", "csqa")
    text = card(student).text
    assert "confidence = probabilities\n" in text
    row = next(row for row in student.experiment.rows("vocabulary") if (row.method, row.dataset) == ("first", "csqa"))
    assert f"| microworld CSQA, out-of-domain | 16 | {100 * row.accuracy:.1f} | {100 * row.ece:.1f} (" in text


def test_a_card_without_a_diagram_says_how_to_get_one(experiment):
    student = ExportedStudent(experiment, "first", "csqa")
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

    student = ExportedStudent(experiment, "first", "csqa")
    repeats = list(unchanged(student))
    plain = model_card(student, "student", 1234, repeats, False)
    monkeypatch.setattr(Experiment, "questions", hostile)
    student = ExportedStudent(experiment.change(description=HOSTILE), "first", "csqa")
    broken = model_card(student, HOSTILE.splitlines()[0], 1234, repeats, False)
    before, after = (MarkdownIt("commonmark").enable("table").render(one.text) for one in (plain, broken))
    tags = r"</?([a-zA-Z0-9]+)"
    assert re.findall(tags, after) == re.findall(tags, before)
    assert "script" not in re.findall(tags, after)
    assert after.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # title, prompt, choice, settings
    namespace = {}
    exec(re.search(r"^prompt = \(\n.*?^\)", broken.text, re.MULTILINE | re.DOTALL)[0], namespace)
    assert namespace["prompt"].startswith(HOSTILE)


def test_metadata_uses_the_hubs_names_of_models_and_data():
    settings = load_preset("smoke", ["student.base=maker/small", "student.tuning=lora", "data.source=hub"])
    run = SimpleNamespace(settings=settings)
    student = ExportedStudent(SimpleNamespace(settings=settings, tasks=["alpaca"], run=run), "first", "alpaca")
    found = predictions([[0.9, 0.1]], [0])
    one = student.measure(found, "out-of-domain", "obqa")
    data = metadata(student, "x", [Repeat("obqa", found, found, one, one)]).to_dict()
    assert (data["base_model"], data["datasets"]) == ("maker/small", ["tatsu-lab/alpaca"])
    assert data["model-index"][0]["results"][0]["dataset"] == {
        "name": "OBQA, out-of-domain",
        "type": "allenai/openbookqa",
    }
    assert {"lora", "knowledge-distillation"} <= set(data["tags"])


# -- provenance --------------------------------------------------------------------------------------------------


def test_the_lineage_holds_every_stage_of_the_student_and_no_other(experiment):
    experiment.student("distill", "csqa")
    names = [one["stage"] for one in ExportedStudent(experiment, "first", "csqa").lineage()]
    assert names == [
        "teacher-csqa", "predictions-teacher-csqa-on-csqa-validation", "knowledge-csqa-train-top5",
        "student-temperature-csqa", "predictions-student-temperature-csqa-on-csqa-test",
        "predictions-student-temperature-csqa-on-obqa-test",
    ]  # fmt: skip


def test_the_lineage_holds_the_teachers_of_every_fold(experiment):
    mine = {"learns": "top-k", "map": "temperature", "knowledge": "cross-fitted", "folds": 2}
    names = [
        one["stage"] for one in ExportedStudent(experiment.change(methods={"mine": mine}), "mine", "csqa").lineage()
    ]
    assert {f"teacher-csqa-without-fold-{fold}-of-2" for fold in range(2)} <= set(names)


def test_provenance_names_every_stage_with_its_hashes(exported, experiment):
    text, manifest = (exported / "README.md").read_text(), json.loads((exported / "manifest.json").read_text())
    for stage in manifest["inputs"]["artefacts"]:
        assert f"| `{folder_name(stage)}` |" in text
        assert all(digest[:12] in text for digest in stage["files"].values())
    own = experiment.student("first", "csqa")
    coefficient = experiment.coefficient("csqa")
    assert f"| student on CSQA&#58; Eq. 4, c = {coefficient:g} (FIRST) | `{own.name}` |" in text
    assert f"torch {torch.__version__}" in text
    settings = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1])
    assert settings["sizes"] == {"train": 24, "validation": 20, "test": 16}
    assert settings["student"]["base"] == experiment.settings.student.base.rpartition("/")[2]
