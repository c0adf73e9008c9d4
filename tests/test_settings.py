"""Presets that load, and mistakes that are named."""

import pytest

from firstlib.runtime.errors import UserError
from firstlib.settings.loading import change_settings, load_preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads(name):
    assert load_preset(name).columns


def test_overrides_reach_nested_keys():
    settings = load_preset("smoke", ["training.epochs=2", "student.tuning=lora", "student.lora.rank=4"])
    assert (settings.training.epochs, settings.student.tuning, settings.student.lora.rank) == (2, "lora", 4)


def test_a_change_is_validated_and_leaves_the_rest():
    settings = load_preset("smoke")
    changed = change_settings(settings, distillation__student="renormalised")
    assert changed.distillation.student == "renormalised"
    assert changed.training == settings.training
    with pytest.raises(UserError, match=r"distillation\.student"):
        change_settings(settings, distillation__student="half")


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
def test_mistakes_are_named_in_one_line(preset, overrides, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        load_preset(preset, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"columns: [", b"\xff\xfe", b"- 1", b"", b"!!python/object/apply:os.getcwd []"])
def test_a_broken_preset_file_is_named(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.yaml") as error:
        load_preset(str(path))
    assert "\n" not in str(error.value)


def test_a_column_may_train_on_fewer_questions():
    settings = load_preset("microworld")
    assert [settings.count(task, "train") for task in ("csqa", "boolq", "alpaca")] == [3600, 2000, 1000]
    assert settings.count("boolq", "test") == settings.sizes.test
    fewer = load_preset("microworld", ["sizes.train=100"])
    assert [fewer.count(task, "train") for task in ("csqa", "boolq", "alpaca")] == [100, 100, 100]
