"""Reading settings: presets by name or file, overrides, and errors that say what to write instead."""

import difflib
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Settings

PRESETS = Path(__file__).parent / "presets"
LARGEST_FILE = 2**18  # bytes of a preset: those that come with the library take one or two thousand
MOST_ALIASES = 10
_COMPLAINTS = 3  # told in an error; the rest is counted
_LONGEST_NAME = 40  # of which a name that is near is looked for


def preset_names() -> list[str]:
    """The presets that come with the library."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(preset: str, overrides: Iterable[str] = ()) -> Settings:
    """The settings of a preset by name, or of a YAML file by path, with `key.sub=value` overrides applied.

    Raises:
        UserError: No such preset or file; not YAML; an unknown key; a value that does not fit.
    """
    path = _preset_path(preset)
    try:
        content = _from_yaml(_text(path))
    except (OSError, ValueError) as error:
        raise UserError(f"preset {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"preset {path}: must hold settings by name, not {type(content).__name__}")
    return _validated(_overlay(content, map(_parse_override, overrides)), str(preset))


def change_settings(settings: Settings, **changes: Any) -> Settings:
    """A copy with some values changed; a dotted key is written with two underscores.

    Raises:
        UserError: A key does not exist or its value does not fit.
    """
    return _validated(_overlay(settings.model_dump(mode="json"), _dotted(changes).items()), "changes")


def _preset_path(preset: str) -> Path:
    known, file = preset_names(), Path(preset)
    if preset in known:
        return PRESETS / f"{preset}.yaml"
    if file.suffix in (".yaml", ".yml") and file.stem.strip(".") and _is_file(file):  # a run's folder has its stem
        return file
    raise UserError(
        f"preset {_short(preset)}: there is no such preset; choose {', '.join(known)}, or give a .yaml file"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that may not be entered
        return False


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"over {LARGEST_FILE // 2**10} KiB; settings take a page")
    return content.decode("utf-8")


class _Loader(yaml.SafeLoader):
    """Plain YAML: each key once, and few aliases, because many can make anything of a page."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Counts what refers to another place."""
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > MOST_ALIASES:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"over {MOST_ALIASES} aliases (*); write them out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuses what says a thing twice."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = Counter(str(key.value) for key, _ in node.value)
            [(name, _)] = names.most_common(1)
            raise yaml.MarkedYAMLError(problem=f"{name!r} is there twice", problem_mark=node.start_mark)
        return mapping


def _from_yaml(text: str) -> Any:
    """What a text of YAML holds.

    Raises:
        ValueError: It is not YAML, or a value is none that there is, such as the 45th of May.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("too deep") from error


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {_short(text)}: write it as key=value, for example training.epochs=1")
    try:
        return key, _from_yaml(value)
    except ValueError as error:
        raise UserError(f"--set {_short(text)}: the value is not readable as YAML") from error


def _dotted(changes: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in changes.items()}


def _overlay(content: dict[str, Any], overrides: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result = {**content}
    for key, value in overrides:
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            place[parent] = {**inner} if isinstance(inner, dict) else {}
            place = place[parent]
        place[last] = value
    return result


def _validated(content: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        found = _innermost(error.errors(include_url=False))
        more = [f"and {len(found) - _COMPLAINTS} more"] if len(found) > _COMPLAINTS else []
        raise UserError("; ".join([_complaint(source, item) for item in found[:_COMPLAINTS]] + more)) from error


def _innermost(errors: Sequence[Any]) -> list[Any]:
    """Without those that only say that something inside is wrong."""
    outer = {item["loc"][:depth] for item in errors for depth in range(len(item["loc"]))}
    return [item for item in errors if item["loc"] not in outer]


def _complaint(source: str, item: Any) -> str:
    key, message = ".".join(str(part) for part in item["loc"]), item["msg"].removeprefix("Value error, ")
    if not item["loc"]:  # a rule on several settings together, which names them itself
        return f"settings of {source}: {message}"
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1])[:_LONGEST_NAME], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
        return f"settings of {source}: unknown key {_short(key)}{hint}"
    if item["type"] == "missing":
        return f"settings of {source}: {key} is missing"
    return f"settings of {source}: {key}: {message}, not {_short(item['input'])}"


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    part: Any = Settings
    for name in path:
        part = get_args(part)[0] if isinstance(name, int) else part.model_fields[name].annotation
    return list(part.model_fields)


class _Short(reprlib.Repr):
    """What a user gave, in a few words however much it was."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist = 2, 3, 3
        self.maxstring, self.maxother = 100, 60

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write very long ones."""
        return super().repr_int(x, level) if x.bit_length() < 100 else f"a number of {x.bit_length()} bits"


_short = _Short().repr
