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
from firstlib.runtime.paths import YAML
from firstlib.settings.data import OWN
from firstlib.settings.methods import PAPER_METHODS, Method
from firstlib.settings.schema import Settings

PRESETS = Path(__file__).parent / "presets"
LARGEST_FILE = 2**18  # bytes of a preset: those that come with the library take one or two thousand
MOST_ALIASES = 10
_COMPLAINTS = 3  # listed in an error; the others are counted
_LONGEST_NAME = 40  # characters compared in the search for a similar name

_OF_DISTILLATION = "of every method that learns top-k"
# What to write instead of a key of earlier versions.
RENAMED = {
    "training.batch": "training.global_batch_size",
    "training.device_batch": "training.micro_batch_size",
    "training.warmup": "training.lr_warmup_fraction",
    "training.evaluate_every": "training.eval_steps",
    "knowledge.batch": "knowledge.batch_size",
    "data.longest": "data.max_length",
    "data.unusable": "data.max_unusable",
    "data.answers": "tasks.own.answers",
    "data.fields": "tasks.own.fields",
    "columns.at_most": "columns.max_train_examples",
    "recalibration": "methods.first.map and methods.first.coefficient",
    "recalibration.first_map": "methods.first.map",
    "recalibration.coefficient": "methods.first.coefficient",
    "recalibration.label_smoothing": "methods.label-smoothing.coefficient",
    "distillation": f"tail and student {_OF_DISTILLATION}, for example methods.first.tail",
    "distillation.student": f"student {_OF_DISTILLATION}, for example methods.first.student",
    "distillation.tail": f"tail {_OF_DISTILLATION}, for example methods.first.tail",
}


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
    changes = [_parse_override(override) for override in overrides]
    settings = _validated(_overlay(content, changes), str(preset))
    if not any(key == "columns" for key, _ in changes):  # who chooses columns leaves tasks out on purpose
        _check_used(settings, str(preset))
    return settings


def _check_used(settings: Settings, preset: str) -> None:
    used = {task for column in settings.columns for task in (column.train, *column.test)}
    for name in settings.tasks.keys() - used:
        column = f"{{setting: in-domain, train: {name}, test: [{name}]}}"
        raise UserError(f"preset {preset}: no column trains or tests on tasks.{name}; add columns: [{column}]")


def change_settings(settings: Settings, **changes: Any) -> Settings:
    """A copy with some values changed; a dotted key is written with two underscores.

    Raises:
        UserError: A key does not exist or its value does not fit.
    """
    content = settings.model_dump(mode="json")
    if content["data"]["own"]:
        del content["tasks"][OWN]["file"]  # written there by `data.own`, which may change
    return _validated(_overlay(content, _dotted(changes).items()), "changes")


def _preset_path(preset: str) -> Path:
    known, file = preset_names(), Path(preset)
    if preset in known:
        return PRESETS / f"{preset}.yaml"
    if file.suffix in YAML and file.stem.strip(".") and _is_file(file):  # a run's folder has its stem
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
    """Plain YAML: each key once, and few aliases, since many can expand without bound."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Counts aliases."""
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > MOST_ALIASES:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"over {MOST_ALIASES} aliases (*); write them out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuses a repeated key."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = Counter(str(key.value) for key, _ in node.value)
            [(name, _)] = names.most_common(1)
            raise yaml.MarkedYAMLError(problem=f"{name!r} is there twice", problem_mark=node.start_mark)
        return mapping


def _from_yaml(text: str) -> Any:
    """Parses YAML.

    Raises:
        ValueError: The text is not YAML, or a value is invalid, such as 45 May.
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
        *parents, last = _split(key)
        if parents[:1] == ["methods"] and "methods" not in result:
            result["methods"] = PAPER_METHODS
        place = result
        for parent in parents:
            inner = place.get(parent)
            place[parent] = {**inner} if isinstance(inner, dict) else {}
            place = place[parent]
        place[last] = value
    return result


def _split(key: str) -> list[str]:
    """A dotted key's parts; a method's name may hold dots itself.

    >>> _split("training.epochs"), _split("methods.first-c0.1.map"), _split("methods.first-c0.1")
    (['training', 'epochs'], ['methods', 'first-c0.1', 'map'], ['methods', 'first-c0.1'])
    """
    group, _, rest = key.partition(".")
    if group not in ("methods", "beyond") or not rest:
        return key.split(".")
    name, _, field = rest.rpartition(".")
    return [group, name, field] if name and field in Method.model_fields else [group, rest]


def _validated(content: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        found = _innermost(error.errors(include_url=False))
        more = [f"and {len(found) - _COMPLAINTS} more"] if len(found) > _COMPLAINTS else []
        raise UserError("; ".join([_complaint(source, item) for item in found[:_COMPLAINTS]] + more)) from error


def _innermost(errors: Sequence[Any]) -> list[Any]:
    """Drops errors that only say that something inside is wrong."""
    outer = {item["loc"][:depth] for item in errors for depth in range(len(item["loc"]))}
    return [item for item in errors if item["loc"] not in outer]


def _complaint(source: str, item: Any) -> str:
    key, message = ".".join(str(part) for part in item["loc"]), item["msg"].removeprefix("Value error, ")
    if not item["loc"]:  # a rule on several settings together, which names them itself
        return f"settings of {source}: {message}"
    if item["type"] == "extra_forbidden":
        return f"settings of {source}: {_unknown(item['loc'], key, item['input'])}"
    if item["type"] == "missing":
        return f"settings of {source}: {key} is missing"
    shown = (
        "" if isinstance(item["input"], dict) and item["type"] == "value_error" else f", not {_short(item['input'])}"
    )
    return f"settings of {source}: {key}: {message}{shown}"


def _unknown(location: tuple[Any, ...], key: str, value: Any) -> str:
    named = ".".join(part for part in location if isinstance(part, str))
    if named in RENAMED and isinstance(value, dict):  # a group that is gone: name the first key in it
        inner = next((name for name in value if f"{named}.{name}" in RENAMED), None)
        named, key = (f"{named}.{inner}", f"{key}.{inner}") if inner else (named, key)
    if named in RENAMED:
        return f"{key} is now {RENAMED[named]}"
    known = _known_keys(location[:-1])
    near = difflib.get_close_matches(str(location[-1])[:_LONGEST_NAME], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
    return f"unknown key {_short(key)}{hint}"


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    part: Any = Settings
    for name in path:
        if hasattr(part, "model_fields"):
            part = part.model_fields[name].annotation
        else:  # a tuple of columns, or the methods by name
            part = next(each for each in get_args(part) if hasattr(each, "model_fields"))
    if not hasattr(part, "model_fields"):
        part = next(each for each in get_args(part) if hasattr(each, "model_fields"))
    return list(part.model_fields)


class _Short(reprlib.Repr):
    """A user's value in a few words, however long it is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist = 2, 3, 3
        self.maxstring, self.maxother = 100, 60

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print very long integers."""
        return super().repr_int(x, level) if x.bit_length() < 100 else f"a number of {x.bit_length()} bits"


_short = _Short().repr
