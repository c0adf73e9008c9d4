"""Presets that load, and mistakes that are reported."""

from typing import get_args

import pytest

from firstlib.distillation.options import Student, Tail
from firstlib.distillation.recalibration import Map
from firstlib.runtime.errors import UserError
from firstlib.settings.loading import PRESETS, change_settings, load_preset, preset_names
from firstlib.settings.methods import MapName, Softmax, TailName


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads(name):
    assert load_preset(name).columns


def test_overrides_reach_nested_keys():
    settings = load_preset("smoke", ["training.epochs=2", "student.tuning=lora", "student.lora.rank=4"])
    assert (settings.training.epochs, settings.student.tuning, settings.student.lora.rank) == (2, "lora", 4)


def test_a_change_is_validated_and_changes_nothing_else():
    settings = load_preset("smoke")
    changed = change_settings(settings, methods__first__student="renormalised")
    assert changed.methods["first"].student == "renormalised"
    assert changed.methods["distill"] == settings.methods["distill"]
    assert changed.training == settings.training
    with pytest.raises(UserError, match=r"methods\.first\.student"):
        change_settings(settings, methods__first__student="half")


@pytest.mark.parametrize(
    ("preset", "overrides", "complaint"),
    [
        ("nowhere", [], "'nowhere'.*smoke"),
        ("nowhere.yaml", [], r"nowhere\.yaml.*no such preset"),
        ("../presets/smoke", [], "no such preset"),
        ("smoke", ["training.epoch=1"], r"unknown key 'training\.epoch'; did you mean 'epochs'"),
        ("smoke", ["xyz=red"], "unknown key 'xyz'; known here"),
        ("smoke", ["training.epochs=many"], r"training\.epochs: .*integer.*'many'"),
        ("smoke", ["training.epochs=0"], r"training\.epochs: .*greater than 0"),
        ("smoke", ["student.tuning=half"], r"student\.tuning: .*'full', 'lora' or 'qlora'"),
        ("smoke", ["training.epochs"], "write it as key=value"),
        ("smoke", ["=1"], "write it as key=value"),
        ("smoke", ["training.epochs=[1"], "not readable"),
        ("smoke", ["training=1"], "settings of smoke: training"),
    ],
)
def test_mistakes_are_reported_in_one_line(preset, overrides, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        load_preset(preset, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"columns: [", b"\xff\xfe", b"- 1", b"", b"!!python/object/apply:os.getcwd []"])
def test_a_broken_preset_file_is_reported(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.yaml") as error:
        load_preset(str(path))
    assert "\n" not in str(error.value)


def test_a_column_may_train_on_fewer_questions():
    settings = load_preset("microworld")
    assert [settings.count(task, "train") for task in ("csqa", "boolq", "alpaca")] == [1200, 600, 1000]
    assert settings.count("boolq", "test") == settings.sizes.test
    fewer = load_preset("microworld", ["sizes.train=100"])
    assert [fewer.count(task, "train") for task in ("csqa", "boolq", "alpaca")] == [100, 100, 100]


# -- methods -----------------------------------------------------------------------------------------------------


def test_the_papers_five_methods_are_the_default():
    settings = load_preset("smoke")
    assert settings.method_names == ("teacher", "fine-tune", "distill", "label-smoothing", "first")
    assert settings.recalibrated == "first"
    first, smoothed = settings.methods["first"], settings.methods["label-smoothing"]
    assert (first.learns, first.map, first.rule) == ("top-k", "temperature", "validation-ece")
    assert (smoothed.map, smoothed.fixed_coefficient, smoothed.rule) == ("label-smoothing", 0.1, None)


def test_an_override_adds_a_method_to_the_default_ones():
    settings = load_preset("smoke", ["methods.first-c0.1={learns: top-k, map: temperature, coefficient: 0.1}"])
    assert settings.method_names[-2:] == ("first", "first-c0.1")
    assert settings.methods["first-c0.1"].fixed_coefficient == 0.1


def test_a_list_of_methods_replaces_the_default_ones(tmp_path):
    path = tmp_path / "two.yaml"
    smoke = (PRESETS / "smoke.yaml").read_text()
    path.write_text(smoke + "methods: {fine-tune: {learns: answers}, mine: {learns: top-k, map: logit-temperature}}\n")
    settings = load_preset(str(path))
    assert settings.method_names == ("teacher", "fine-tune", "mine")
    assert settings.recalibrated == "mine"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("methods.first.coefficient=-1", r"methods\.first: coefficient: a temperature must be greater than 0, not -1"),
        (
            "methods.first.coefficient=best",
            r"first\.coefficient: must be a number, or one of validation-ece, ",
        ),
        ("methods.first.map=wild", r"methods\.first\.map: .*'none', 'stored', 'label-smoothing'"),
        ("methods.distill.coefficient=1", r"methods\.distill: coefficient: means something only with a map"),
        ("methods.fine-tune.tail=ghost", r"methods\.fine-tune: tail: means something only with learns: top-k"),
        ("methods.distill.folds=3", r"methods\.distill: folds: means something only with knowledge: cross-fitted"),
        ("methods.label-smoothing.coefficient=2", "label smoothing moves a mass from 0 to 1, not 2"),
        (
            "methods.first={learns: top-k, map: stored, student: renormalised, tail: ghost}",
            "a renormalised student has",
        ),
        ("methods.first={learns: top-k, tail: ghost}", r"with map: none the targets sum to 1, so .* use map: stored"),
        ("methods.first={learns: top-k, map: temperature, tail: gold}", "with map: temperature the targets sum to 1"),
        (
            "methods.first={learns: top-k, map: stored, coefficient: 0.3}",
            "coefficient: means something only with a map",
        ),
        ("methods.teacher={learns: answers}", "'teacher' cannot be a method's name"),
        ("methods.a/b={learns: answers}", "'a/b' cannot be a method's name"),
        ("beyond.first={learns: answers}", "'first' is in both"),
        ("methods.x={learns: top-k, map: exact-temperature}", r"list them in knowledge\.temperatures, now \[\]"),
        ("methods.first.taill=drop", r"methods\.first\.taill"),
        ("methods={}", "at least 1 item"),
    ],
)
def test_an_invalid_method_is_refused_in_one_line(override, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        load_preset("smoke", [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "needs",
    ["knowledge: cross-fitted", "knowledge: ensemble", "map: temperature, coefficient: cross-fitted-ece", "k: 3"],
)
def test_imported_knowledge_comes_without_a_teacher(needs):
    overrides = ["knowledge.imported=stores", f"methods.x={{learns: top-k, {needs}}}"]
    field = needs.rpartition(", ")[2]
    with pytest.raises(UserError, match=rf"methods\.x: imported knowledge .* weights; leave out {field}"):
        load_preset("smoke", overrides)


def test_a_column_has_its_own_epochs():
    column = "{setting: in-domain, train: csqa, test: [csqa], epochs: 5}"
    settings = load_preset("smoke", [f"columns=[{column}]"])
    assert (settings.training_of("csqa").epochs, settings.training.epochs) == (5, 1)
    other = "{setting: out-of-domain, train: csqa, test: [obqa], epochs: 6}"
    with pytest.raises(UserError, match="trained on csqa once; give its columns the same epochs"):
        load_preset("smoke", [f"columns=[{column}, {other}]"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("training.batch=8", "training.batch is now training.global_batch_size"),
        ("training.device_batch=8", "training.device_batch is now training.micro_batch_size"),
        ("data.answers=from-0", "data.answers is now tasks.own.answers"),
        ("training.warmup=0.1", "training.warmup is now training.lr_warmup_fraction"),
        ("training.evaluate_every=2", "training.evaluate_every is now training.eval_steps"),
        ("knowledge.batch=2", "knowledge.batch is now knowledge.batch_size"),
        ("data.longest=100", "data.longest is now data.max_length"),
        ("data.unusable=0.1", "data.unusable is now data.max_unusable"),
        ("recalibration.first_map=temperature", "recalibration.first_map is now methods.first.map"),
        ("recalibration.coefficient=0.3", "recalibration.coefficient is now methods.first.coefficient"),
        (
            "recalibration.label_smoothing=0.2",
            "label_smoothing is now methods.label-smoothing.coefficient",
        ),
        ("distillation.tail=ghost", "distillation.tail is now tail of every method that learns top-k"),
        ("distillation.student=full", "distillation.student is now student of every method that learns top-k"),
        ("columns=[{setting: in-domain, train: csqa, test: [csqa], at_most: 3}]", "is now columns.max_train_examples"),
    ],
)
def test_a_key_of_earlier_versions_is_refused_naming_the_new_one(old, new):
    with pytest.raises(UserError, match=new.replace(".", r"\.")) as error:
        load_preset("smoke", [old])
    assert "\n" not in str(error.value)


# -- tasks of one's own ------------------------------------------------------------------------------------------

ON_LAW = "columns=[{setting: in-domain, train: law, test: [law, csqa]}]"


def test_tasks_are_named_in_the_preset_and_used_like_csqa():
    settings = load_preset("smoke", ["tasks.law.file=law.csv", "tasks.law.fields.question=Frage", ON_LAW])
    assert settings.tasks["law"].fields.question == "Frage"
    assert (settings.training_tasks, settings.generates("law"), settings.generates("csqa")) == (["law"], False, True)


def test_data_own_is_short_for_a_task():
    columns = "columns=[{setting: in-domain, train: own, test: [own]}]"
    short = load_preset("smoke", ["data.own=mine.csv", "tasks.own.answers=from-1", columns])
    assert (short.tasks["own"].file, short.tasks["own"].answers) == ("mine.csv", "from-1")
    assert change_settings(short, training__epochs=2).tasks == short.tasks
    assert change_settings(short, data__own="other.csv").tasks["own"].file == "other.csv"


@pytest.mark.parametrize(("written", "computed"), [(MapName, Map), (TailName, Tail), (Softmax, Student)])
def test_settings_write_what_the_library_computes(written, computed):
    assert list(get_args(written)) == list(computed)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ([ON_LAW], "there is no task 'law'.*the tasks are csqa, boolq, obqa, alpaca; add your own under tasks"),
        (["columns=[{setting: in-domain, train: cqsa, test: [csqa]}]"], "no task 'cqsa'; did you mean 'csqa'"),
        (["tasks.law.config=main"], r"tasks\.law: has no place; give file .* or hub"),
        (["tasks.law={file: a, hub: b}"], r"tasks\.law: give file or hub, not both"),
        (["tasks.a-b.file=x"], "'a-b' cannot be a task's name"),
        (["tasks.csqa.file=x"], "'csqa' cannot be a task's name"),
        (["tasks={law: {file: x}, Law: {file: y}}"], "'Law' cannot be a task's name"),
        (["tasks.law.fiel=x"], r"unknown key 'tasks\.law\.fiel'; did you mean 'fields'"),
        (["tasks.law={file: x, encoding: cp99}"], "Python knows no 'cp99'"),
        (["tasks.law={file: x, kind: free-text}", ON_LAW], "law has free answers and cannot be a test set"),
        (["data.own=x", "tasks.own.file=y"], r"data\.own and tasks\.own: both name a place"),
    ],
)
def test_a_task_that_cannot_be_is_refused_in_one_line(overrides, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        load_preset("smoke", overrides)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("override", ["data.own=mine.csv", "tasks.law.file=law.csv"])
def test_a_task_that_no_column_uses_is_refused(override):
    with pytest.raises(UserError, match=r"no column trains or tests on tasks\.\w+; add columns: \[\{setting"):
        load_preset("smoke", [override])
    assert load_preset("smoke", [override, "columns=[{setting: in-domain, train: csqa, test: [csqa]}]"]).tasks
