"""Every number of an experiment, in one validated place. A preset is one of these, written as YAML."""

import difflib
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from firstlib.errors import UserError

PRESETS = Path(__file__).parent / "presets"
LARGEST_FILE = 2**18  # bytes of a preset: those that come with the library take one or two thousand
MOST_ALIASES = 10
MOST = 10_000_000  # of anything that is counted: above it there is a slip of the hand, or memory runs out
MOST_THREADS = 4096
LARGEST_SEED = 2**32 - 1  # NumPy's, which the Trainer seeds too
_COMPLAINTS = 3  # told in an error; the rest is counted
_LONGEST_NAME = 40  # of which a name that is near is looked for

Task = Literal["csqa", "boolq", "obqa", "alpaca", "own"]
Tuning = Literal["full", "lora", "qlora"]
Method = Literal["teacher", "fine-tune", "distill", "label-smoothing", "first"]
METHODS: tuple[Method, ...] = ("teacher", "fine-tune", "distill", "label-smoothing", "first")
STAGES = ("teacher", "knowledge", *METHODS[1:])
STUDENT_METHODS: tuple[Method, ...] = METHODS[1:]


Count = Annotated[int, Field(gt=0, le=MOST)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _a_number_is_not_a_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read `true` as 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("Input should be a value of another kind")
        return value


class Column(_Part):
    """One training task and the test sets it is measured on."""

    setting: Literal["in-domain", "out-of-domain"]
    train: Task
    test: tuple[Task, ...] = Field(min_length=1)
    at_most: Count | None = Field(default=None, description="training questions, where fewer than `sizes.train`")


class Sizes(_Part):
    """How many questions a split holds."""

    train: Count | None = Field(default=None, description="None: all that the data set has")
    validation: Count
    test: Count | None = Field(default=None, description="None: all that the data set has")


class Data(_Part):
    """Where questions come from, and which of them can be used."""

    source: Literal["microworld", "hub"] = "microworld"
    folder: str | None = Field(
        default=None, description="files instead of the hub: a folder a data set, in the hub's or the original layout"
    )
    own: str | None = Field(default=None, description="the task `own`: a user's file or folder of multiple choice")
    chat_template: bool = Field(default=False, description="ask in the model's own chat format")
    longest: Count = Field(default=1024, description="tokens of prompt and response together")
    unusable: float = Field(default=0.01, ge=0, le=1, description="share of a split that may be left out")


class Lora(_Part):
    """The adapter, where a model is not tuned in full."""

    rank: Count = 16
    alpha: Count = 32
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

    epochs: Count = 3
    batch: Count = Field(default=32, description="examples a step, over all devices")
    device_batch: Count | None = Field(
        default=None, description="examples that a device takes at once; the rest is accumulated. None: its share"
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    teacher_learning_rate: float = Field(default=2e-5, gt=0)
    student_learning_rate: float = Field(default=2e-5, gt=0)
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of all steps")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: float = Field(default=1e-6, gt=0)
    checkpoint_minutes: float = Field(
        default=10, gt=0, description="between two states kept: what a fault costs at most"
    )
    evaluate_every: Count | None = Field(default=None, description="steps between validations (ECE and Trust)")
    report_to: tuple[str, ...] = Field(default=(), description="the Trainer's loggers, for example tensorboard")

    def shares(self, devices: int) -> tuple[int, int]:
        """Examples that a device takes at once, and how often it does so before a step.

        >>> Training(batch=256, device_batch=4).shares(devices=8)
        (4, 8)

        Raises:
            UserError: The batch cannot be divided so.
        """
        at_once = self.device_batch or self.batch // devices
        if not at_once or self.batch % (at_once * devices):
            raise UserError(
                f"training.batch: {self.batch} examples a step cannot be shared by {devices} devices that take "
                f"{at_once} at once; change training.batch or training.device_batch"
            )
        return at_once, self.batch // (at_once * devices)


class Knowledge(_Part):
    """What is kept of the teacher."""

    k: int = Field(default=5, gt=1, le=MOST)
    batch: Count = 64
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
    bins: Count = 10


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
        le=MOST_THREADS,
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

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Self:
        cells = Counter((column.setting, test) for column in self.columns for test in column.test)
        twice = [f"{setting} {test}" for (setting, test), count in cells.items() if count > 1]
        if twice:
            raise ValueError(f"columns: {twice[0]} is there twice, and results have one place for it; leave one out")
        return self

    @model_validator(mode="after")
    def _puts_no_mass_where_none_is_seen(self) -> Self:
        how = self.distillation
        if how.student == "renormalised" and how.tail not in ("drop", "renormalise"):
            raise ValueError(
                f"distillation: a renormalised student has no mass where tail: {how.tail} puts some; use tail: drop"
            )
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
        content = _from_yaml(_text(path))
    except (OSError, ValueError) as error:
        raise UserError(f"preset {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"preset {path}: must hold settings by name, not {type(content).__name__}")
    return _validated(_overlay(content, map(_parse_override, overrides)), str(preset))


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
