"""Every number of an experiment, in one validated place. A preset is one of these, written as YAML."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from firstlib.runtime.errors import UserError

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
    max_train_examples: Count | None = Field(default=None, description="training questions, where fewer than `sizes.train`")


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
    micro_batch_size: Count | None = Field(
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
    eval_steps: Count | None = Field(default=None, description="steps between validations (ECE and Trust)")
    report_to: tuple[str, ...] = Field(default=(), description="the Trainer's loggers, for example tensorboard")

    def shares(self, devices: int) -> tuple[int, int]:
        """Examples that a device takes at once, and how often it does so before a step.

        >>> Training(global_batch_size=256, micro_batch_size=4).shares(devices=8)
        (4, 8)

        Raises:
            UserError: The batch cannot be divided so.
        """
        at_once = self.micro_batch_size or self.batch // devices
        if not at_once or self.batch % (at_once * devices):
            raise UserError(
                f"training.global_batch_size: {self.batch} examples a step cannot be shared by {devices} devices that take "
                f"{at_once} at once; change training.global_batch_size or training.micro_batch_size"
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
        own = [column.max_train_examples for column in self.columns if split == "train" and column.train == task]
        limits = [most for most in (getattr(self.sizes, split), *own) if most]
        return min(limits, default=None)
