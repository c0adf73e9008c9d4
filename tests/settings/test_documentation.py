"""The documentation of the settings agrees with the code: generated pages, presets and the docs' examples."""

import json
import re
import sys
from typing import get_args

import pytest
import yaml
from jsonschema import Draft7Validator

from firstlib.cli import commands
from firstlib.runtime.paths import PROJECT
from firstlib.settings.loading import PRESETS, load_preset, preset_names
from firstlib.settings.methods import Method
from firstlib.settings.schema import Settings
from scripts.write_settings_docs import PAGE, SCHEMA, page, places, schema

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
TEXTS = [pytest.param(path, id=path.stem) for path in PAGES]
EXAMPLES = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in PAGES
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL), 1)
]


def preset(name):
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text())


def complaints(content):
    return [error.message for error in Draft7Validator(schema()).iter_errors(content)]


# -- generated files ---------------------------------------------------------------------------------------------


def test_the_page_of_settings_is_up_to_date():
    assert page() == PAGE.read_text(encoding="utf-8"), "run `make settings-docs`"


def test_the_schema_is_up_to_date():
    assert schema() == json.loads(SCHEMA.read_text(encoding="utf-8")), "run `make settings-docs`"
    Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("name", preset_names())
def test_an_editor_accepts_a_shipped_preset(name):
    first_line = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
    place = first_line.removeprefix("# yaml-language-server: $schema=")
    assert (PRESETS / place).resolve() == SCHEMA
    assert complaints(preset(name)) == []


@pytest.mark.parametrize(
    ("group", "content"),
    [
        ("training", {"epoch": 1}),
        ("training", {"epochs": 0}),
        ("training", {"epochs": True}),
        ("training", {"mixed_precision": False}),
        ("methods", {"mine": {"map": "temperature"}}),
        ("methods", {"mine": {"learns": "top-k", "coefficient": "validation-accuracy"}}),
        ("methods", {"teacher": {"learns": "answers"}}),
        ("methods", {"my method": {"learns": "answers"}}),
        ("methods", {}),
        ("columns", []),
    ],
)
def test_an_editor_marks_what_loading_refuses(group, content):
    wrong = {**preset("smoke"), group: content}
    assert complaints(wrong)
    with pytest.raises(ValueError, match=group):
        Settings.model_validate(wrong)


# -- hand-written pages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_is_a_valid_part_of_a_preset(block):
    content = {**preset("smoke"), **(yaml.safe_load(block) or {})}
    assert complaints(content) == []
    Settings.model_validate(content)


def test_the_default_methods_are_documented_correctly():
    text = (PROJECT / "docs" / "methods.md").read_text()
    block = text.partition("## The default methods")[2].partition("```yaml\n")[2].partition("```")[0]
    documented = {name: Method(**content) for name, content in yaml.safe_load(block)["methods"].items()}
    assert documented == load_preset("microworld").methods


def keys():
    """Every key of a preset, with NAME in place of a method's name."""
    whole = schema()
    found = {
        f"{place.removesuffix('[]')}.{key}"
        for group, at in places(whole).items()
        for place in at
        for key in whole["$defs"][group]["properties"]
    }
    return found | whole["properties"].keys()


def general(key):
    """A key with NAME in place of a method's name, which may contain dots."""
    group, _, rest = key.partition(".")
    if group not in ("methods", "beyond") or not rest:
        return key
    name, _, field = rest.rpartition(".")
    return f"{group}.NAME.{field}" if name else group


@pytest.mark.parametrize("path", TEXTS)
def test_every_setting_mentioned_exists(path):
    text = path.read_text()
    named = re.findall(rf"`((?:{'|'.join(Settings.model_fields)})\.(?!md`)[\w.+-]+)`", text)
    changed = re.findall(r"--set '?([a-z][\w.+-]*)=", text)
    assert {general(key) for key in named + changed} - {"methods.NAME.FIELD"} <= keys()


@pytest.mark.parametrize("path", TEXTS)
def test_every_link_command_and_method_exists(path):
    text = path.read_text()
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", text)
    for place, heading in links:
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), place
        assert not heading or heading in anchors(target), f"{place}#{heading}"
    verbs = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(verbs)
    assert {name for name in re.findall(r"--preset ([\w.-]+)", text) if not name.endswith(".yaml")} <= set(
        preset_names()
    )


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("field", "section"), [("map", "map"), ("coefficient", "rule"), ("tail", "tail")])
def test_every_value_of_a_field_is_described(field, section):
    text = (PROJECT / "docs" / "methods.md").read_text()
    values = [value for value in choices(Method.model_fields[field].annotation) if isinstance(value, str)]
    table = text.partition(f"| {section} |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) == values


def choices(annotation):
    return [value for one in get_args(annotation) for value in (choices(one) if get_args(one) else [one])]


def test_every_field_of_a_method_has_a_section():
    text = (PROJECT / "docs" / "methods.md").read_text()
    headings = " ".join(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert [name for name in Method.model_fields if f"`{name}`" not in headings] == []


def test_the_requests_example_runs(tmp_path, monkeypatch):
    text = (PROJECT / "docs" / "api-teachers.md").read_text()
    command = re.search(r"^first requests .*$", text, re.MULTILINE)[0].replace("my.yaml", "smoke")
    monkeypatch.setattr(sys, "argv", command.replace("--to asked", f"--to {tmp_path}").split())
    commands.main()
    assert (tmp_path / "csqa-train.jsonl").read_text().count('"csqa-train-00063"') == 1
