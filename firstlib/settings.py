"""Every number of an experiment, in one validated place. A preset is one of these, written as YAML."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from firstlib.errors import UserError

PRESETS = Path(__file__).parent / "presets"

Task = Literal["csqa", "boolq", "obqa", "alpaca", "own"]
Tuning = Literal["full", "lora", "qlora"]
Method = Literal["teacher", "fine-tune", "distill", "label-smoothing", "first"]
METHODS: tuple[Method, ...] = ("teacher", "fine-tune", "distill", "label-smoothing", "first")
STAGES = ("teacher", "knowledge", *METHODS[1:])
STUDENT_METHODS: tuple[Method, ...] = METHODS[1:]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Part):
    """One training task and the test sets it is measured on."""

    setting: Literal["in-domain", "out-of-domain"]
    train: Task
    test: tuple[Task, ...] = Field(min_length=1)
    at_most: int | None = Field(default=None, gt=0, description="training questions, where fewer than `sizes.train`")


class Sizes(_Part):
    """How many questions a split holds."""

    train: int | None = Field(default=None, gt=0, description="None: all that the data set has")
    validation: int = Field(gt=0)
    test: int | None = Field(default=None, gt=0, description="None: all that the data set has")


class Data(_Part):
    """Where questions come from, and which of them can be used."""

    source: Literal["microworld", "hub"] = "microworld"
    folder: str | None = Field(
        default=None, description="files instead of the hub: a folder a data set, in the hub's or the original layout"
    )
    own: str | None = Field(default=None, description="the task `own`: a user's file or folder of multiple choice")
    chat_template: bool = Field(default=False, description="ask in the model's own chat format")
    longest: int = Field(default=1024, gt=0, description="tokens of prompt and response together")
    unusable: float = Field(default=0.01, ge=0, le=1, description="share of a split that may be left out")


class Lora(_Part):
    """The adapter, where a model is not tuned in full."""

    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="adapters want a larger one than full tuning")


class Model(_Part):
    """A base model and how it is tuned."""

    base: str = Field(description="a local folder or a hub name of a causal language model")
    revision: str = Field(default="main", description="of a hub name: a branch, a tag, or, safest, a commit")
    trust_remote_code: bool = Field(default=False, description="run code that the base model brings along")
    tuning: Tuning = "full"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    lora: Lora = Lora()


class Training(_Part):
    """How teacher and student are trained: the paper's optimiser and schedule (its section 4)."""

    epochs: int = Field(default=3, gt=0)
    batch: int = Field(default=32, gt=0, description="examples a step, over all devices")
    device_batch: int | None = Field(
        default=None, gt=0, description="examples that a device takes at once; the rest is accumulated. None: its share"
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    teacher_learning_rate: float = Field(default=2e-5, gt=0)
    student_learning_rate: float = Field(default=2e-5, gt=0)
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of all steps")
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-6
    checkpoint_minutes: float = Field(
        default=10, gt=0, description="between two states kept: what a fault costs at most"
    )
    evaluate_every: int | None = Field(default=None, gt=0, description="steps between validations (ECE and Trust)")
    report_to: tuple[str, ...] = Field(default=(), description="the Trainer's loggers, for example tensorboard")


class Knowledge(_Part):
    """What is kept of the teacher."""

    k: int = Field(default=5, gt=1)
    batch: int = Field(default=64, gt=0)
    engine: Literal["transformers", "vllm"] = "transformers"
    imported: str | None = Field(
        default=None, description="a folder that `first import-logprobs` wrote, instead of a teacher of one's own"
    )
    temperatures: tuple[PositiveFloat, ...] = Field(
        default=(), description="keep log normalisers there, so that a logit temperature can be applied exactly later"
    )


class Recalibration(_Part):
    """How the kept probabilities become targets. Label smoothing's d is the paper's."""

    first_map: Literal["temperature", "logit-temperature"] = "temperature"
    coefficient: float | None = Field(default=None, gt=0, description="None: chosen on validation by ECE")
    label_smoothing: float = Field(default=0.1, ge=0, le=1)


class Distillation(_Part):
    """Eq. 5's open reading: the student's probability over the whole vocabulary, or over the k tokens."""

    student: Literal["full", "renormalised"] = "full"
    tail: Literal["drop", "renormalise", "ghost", "smooth", "gold"] = "drop"


class Measures(_Part):
    """How confidence is read and binned. The paper leaves the first open; both are always computed."""

    confidence: Literal["candidates", "vocabulary"] = "candidates"
    bins: int = Field(default=10, gt=0)


class Settings(_Part):
    """A whole experiment."""

    description: str = ""
    data: Data = Data()
    columns: tuple[Column, ...] = Field(min_length=1)
    sizes: Sizes
    teacher: Model
    student: Model
    training: Training = Training()
    knowledge: Knowledge = Knowledge()
    recalibration: Recalibration = Recalibration()
    distillation: Distillation = Distillation()
    measures: Measures = Measures()
    threads: int | None = Field(
        default=None,
        gt=0,
        description="of the processor, for each process; sums depend on it. None: torch's own choice",
    )

    @model_validator(mode="after")
    def _fits_its_data(self) -> Self:
        tests = {test for column in self.columns for test in column.test}
        invented = self.data.source == "microworld"
        if invented and (self.sizes.train is None or self.sizes.test is None):
            raise ValueError("sizes.train and sizes.test: the microworld has no end, so give numbers")
        if not invented and "alpaca" in tests:
            raise ValueError("columns: alpaca has free answers and cannot be a test set")
        if self.uses("own") and (invented or not self.data.own):
            raise ValueError("columns: the task `own` needs data.source: hub, and data.own")
        return self

    def uses(self, task: Task) -> bool:
        """Whether a column trains or tests on the task."""
        return any(task == column.train or task in column.test for column in self.columns)

    def count(self, task: Task, split: str) -> int | None:
        """How many questions a task's split holds at most: `train`, `validation` or `test`; None: all there are."""
        own = [column.at_most for column in self.columns if split == "train" and column.train == task]
        limits = [most for most in (getattr(self.sizes, split), *own) if most]
        return min(limits, default=None)

    def change(self, **changes: Any) -> "Settings":
        """A copy with some values changed; a dotted key is written with two underscores.

        Raises:
            UserError: A key does not exist or its value does not fit.
        """
        return _validated(_overlay(self.model_dump(mode="json"), _dotted(changes).items()), "changes")


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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"preset {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"preset {path}: must hold settings by name, not {type(content).__name__}")
    return _validated(_overlay(content, map(_parse_override, overrides)), str(preset))


def _preset_path(preset: str) -> Path:
    known, file = preset_names(), Path(preset)
    if preset in known:
        return PRESETS / f"{preset}.yaml"
    if file.suffix in (".yaml", ".yml") and file.is_file():
        return file
    raise UserError(f"preset {preset!r}: there is no such preset; choose {', '.join(known)}, or give a .yaml file")


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text!r}: write it as key=value, for example training.epochs=1")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {text!r}: the value is not readable as YAML") from error


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
        raise UserError("; ".join(_complaint(source, item) for item in error.errors())) from error


def _complaint(source: str, item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if not key:  # a rule on several settings together, which names them itself
        return f"settings of {source}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _known_keys(item["loc"][:-1]), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(_known_keys(item['loc'][:-1]))}"
        return f"settings of {source}: unknown key {key!r}{hint}"
    return f"settings of {source}: {key}: {item['msg']}, not {item['input']!r}"


def _known_keys(path: tuple[Any, ...]) -> list[str]:
    part: Any = Settings
    for name in path:
        if isinstance(name, str) and name in getattr(part, "model_fields", {}):
            part = part.model_fields[name].annotation
    return list(getattr(part, "model_fields", Settings.model_fields))
