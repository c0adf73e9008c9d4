"""Writes down what a preset may hold, from the settings themselves: `make settings-docs`.

`docs/settings.md` is for readers. `firstlib/settings/preset.schema.json` is for editors, which use it to complete and
check presets.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from firstlib.runtime.files import write_json
from firstlib.runtime.paths import PROJECT
from firstlib.settings.base import LARGEST_COUNT
from firstlib.settings.data import PUBLISHED, TASK_NAME
from firstlib.settings.loading import PRESETS
from firstlib.settings.methods import NAME, RESERVED
from firstlib.settings.schema import Settings

PAGE = PROJECT / "docs" / "settings.md"
SCHEMA = PRESETS.parent / "preset.schema.json"
DIALECT = "http://json-schema.org/draft-07/schema#"  # the newest that every YAML editor reads

Json = dict[str, Any]

_START = f"""\
# Settings

<!-- written by `make settings-docs`; do not edit -->

A preset is a YAML file with these settings. `first run --preset my.yaml` takes a file, and
`--set training.epochs=1` changes one setting of a preset. A relative path in a preset starts at the repository's
folder; `~` and `$VARIABLES` are expanded. In the headings below, `[]` marks a list and `NAME` a name that you choose.
An unknown key, or a value that does not fit, is an error that names the key. Whole numbers go up to
{LARGEST_COUNT:,} unless the table says otherwise.

An editor with a YAML language server completes and checks a preset that starts with this line, where the path leads
from the preset to the schema:

```yaml
# yaml-language-server: $schema=firstlib/settings/preset.schema.json
```
"""
_HEAD = "| key | type | default | meaning |\n| --- | --- | --- | --- |"
_TYPES = {"integer": "whole number", "string": "text", "boolean": "`true` or `false`", "null": "`null`"}
_GROUPS = {"": "group", "[]": "list of groups", ".NAME": "groups by name"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def main() -> None:
    """Writes both files."""
    write_json(SCHEMA, schema())
    PAGE.write_text(page(), encoding="utf-8")


def schema() -> Json:
    """The JSON schema of a preset."""
    made = {"$schema": DIALECT, **Settings.model_json_schema()}
    made["title"] = "A preset of FIRST"
    for name in ("methods", "beyond"):
        made["properties"][name]["propertyNames"] = {"pattern": rf"^(?!({'|'.join(RESERVED)})$){NAME.pattern}$"}
    made["properties"]["tasks"]["propertyNames"] = {"pattern": rf"^(?!({'|'.join(PUBLISHED)})$){TASK_NAME.pattern}$"}
    for group in made["$defs"].values():
        group["description"] = group["description"].partition("\n")[0]  # without the examples for developers
    return made


def page() -> str:
    """The page of all settings: a section for each group."""
    whole = schema()
    headings = {group: ", ".join(f"`{place}`" for place in found) for group, found in places(whole).items()}
    titled = {"The whole preset": whole} | {heading: whole["$defs"][group] for group, heading in headings.items()}
    sections = [_section(heading, content, whole["$defs"], headings) for heading, content in titled.items()]
    return "\n".join([_START, *sections])


def _section(heading: str, content: Json, groups: Json, headings: dict[str, str]) -> str:
    rows = []
    for name, prop in content["properties"].items():
        kind, meaning = _listed(list(_kinds(prop))), prop.get("description", "")
        for group, after in _groups(prop):
            kind = f"{_GROUPS[after]}: [{headings[group]}](#{_anchor(headings[group])})"
            meaning = meaning or groups[group]["description"]
        cells = (f"`{name}`", kind, _default(name, prop, content), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"## {heading}\n\n{content['description']}\n\n{_HEAD}\n" + "\n".join(rows) + "\n"


def places(whole: Json) -> dict[str, list[str]]:
    """Where each group of the schema stands in a preset, in the order of the settings."""
    found: dict[str, list[str]] = {}

    def visit(content: Json, before: str) -> None:
        for name, prop in content["properties"].items():
            for group, after in _groups(prop):
                found.setdefault(group, []).append(f"{before}{name}{after}")
                visit(whole["$defs"][group], f"{before}{name}{after}.")

    visit(whole, "")
    return found


def _groups(prop: Json) -> Iterator[tuple[str, str]]:
    """The groups that a setting holds, and what follows its name in their keys."""
    for inner, after in ((prop, ""), (prop.get("items"), "[]"), (prop.get("additionalProperties"), ".NAME")):
        if isinstance(inner, dict) and "$ref" in inner:
            yield inner["$ref"].rpartition("/")[2], after


def _kinds(prop: Json) -> Iterator[str]:
    """The kinds of value that a setting takes, in words."""
    if "anyOf" in prop:
        for one in prop["anyOf"]:
            yield from _kinds(one)
    elif "enum" in prop:
        yield from map(_yaml, prop["enum"])
    elif "const" in prop:
        yield _yaml(prop["const"])
    elif prop.get("type") == "array":
        yield f"list of {_listed(list(_kinds(prop['items'])))}"
    elif "type" in prop:
        kind: str = prop["type"]
        yield _TYPES.get(kind, kind) + _bounds(prop)


def _bounds(prop: Json) -> str:
    told = [
        f" {sign} {prop[bound]:,}" for bound, sign in _BOUNDS.items() if prop.get(bound) not in (None, LARGEST_COUNT)
    ]
    return " and".join(told)


def _listed(words: list[str]) -> str:
    """Words in a row.

    >>> _listed(["a", "b", "c"])
    'a, b or c'
    """
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _default(name: str, prop: Json, content: Json) -> str:
    if name in content.get("required", ()):
        return "required"
    if "default" not in prop:  # created for each preset: the methods
        made = Settings.model_fields[name].get_default(call_default_factory=True)
        return ", ".join(f"`{each}`" for each in made) or "none"
    if "$ref" in prop:
        return ""  # its own section tells
    return _yaml(prop["default"])


def _yaml(value: Any) -> str:
    """A value as a preset writes it.

    >>> _yaml("no"), _yaml(2e-5)
    ("`'no'`", '`2.0e-05`')
    """
    return f"`{yaml.safe_dump(value).splitlines()[0]}`"


def _anchor(heading: str) -> str:
    """The name of a heading's link, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    main()
