"""Every number of an experiment, validated. A preset is one `Settings`, written as YAML."""

import difflib
from collections import Counter
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from firstlib.runtime.errors import UserError
from firstlib.settings.base import Count, Part
from firstlib.settings.data import OWN, PUBLISHED, Data, TaskData, check_task_names
from firstlib.settings.limits import LARGEST_COUNT
from firstlib.settings.methods import Method, Tuning, check_names, paper_methods

MOST_THREADS = 4096

Task = str  # a data set of the paper, or a name under `tasks`
Role = Literal["teacher", "student"]
Reading = Literal["candidates", "vocabulary"]
CandidateScore = Literal["total", "mean", "mean-by-character"]
Precision = Literal["float32", "bfloat16", "float16"]
HALF_FORMATS = {"bf16": "bfloat16", "fp16": "float16"}  # by the names of `mixed_precision`


class Column(Part):
    """One training task and the test sets it is measured on."""

    setting: Literal["in-domain", "out-of-domain"] = Field(description="where the results table shows the test sets")
    train: Task = Field(
        description="the task that models are trained on: `csqa`, `boolq`, `obqa`, `alpaca`, or one under `tasks`"
    )
    test: tuple[Task, ...] = Field(min_length=1, description="the tasks they are tested on; each once per setting")
    max_train_examples: Count | None = Field(
        default=None, description="training examples, where fewer than `sizes.train`"
    )
    epochs: Count | None = Field(default=None, description="instead of `training.epochs`")


class Sizes(Part):
    """Number of questions in each split."""

    train: Count | None = Field(default=None, description="null: all that the data set has")
    validation: Count = Field(description="validation questions, which choose the coefficients")
    test: Count | None = Field(default=None, description="null: all that the data set has")


class Lora(Part):
    """The adapter of LoRA and QLoRA."""

    rank: Count = Field(default=16, description="of the adapter's matrices")
    alpha: Count = Field(default=32, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the adapter's inputs dropped in training")
    learning_rate: float = Field(default=2e-3, gt=0, description="adapters need a larger one than full tuning")
    targets: tuple[str, ...] = Field(
        default=(), description="names of the layers with an adapter; empty: every linear layer but the output head"
    )


class Model(Part):
    """A base model and how it is tuned."""

    base: str = Field(description="a local folder, a GGUF file or a hub name of a causal language model")
    revision: str = Field(default="main", description="of a hub name: a branch, a tag, or, safest, a commit")
    trust_remote_code: bool = Field(default=False, description="run code that the base model brings along")
    tuning: Tuning = Field(default="full", description="all weights, a LoRA adapter, or one on 4-bit weights (QLoRA)")
    dtype: Precision = Field(default="float32", description="number format of the weights")
    lora: Lora = Lora()


class Training(Part):
    """How teacher and student are trained; defaults are the paper's (arXiv 2408.12168, section 4)."""

    epochs: Count = Field(default=3, description="passes over the training questions")
    global_batch_size: Count = Field(default=32, description="examples in one optimiser step, over all devices")
    micro_batch_size: Count | None = Field(
        default=None,
        description="examples in one forward pass of a device; the rest is accumulated. null: the device's share",
    )
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = Field(
        default="no",
        description="number format of the forward pass; 'no' (quoted: YAML reads a bare no as false): the weights'; "
        "auto: 'no' or bf16, whichever a trial of some seconds finds faster on this machine",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute activations in the backward pass: less memory, more time"
    )
    teacher_learning_rate: float = Field(default=2e-5, gt=0, description="peak, for full tuning")
    student_learning_rate: float = Field(default=2e-5, gt=0, description="peak, for full tuning")
    lr_warmup_fraction: float = Field(default=0.03, ge=0, lt=1, description="share of all steps")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the gradient's mean")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of the squared gradient's mean")
    adam_epsilon: float = Field(default=1e-6, gt=0, description="added to the denominator")
    checkpoint_minutes: float = Field(
        default=10, gt=0, description="between two checkpoints: a crash costs no more than this"
    )
    eval_steps: Count | None = Field(default=None, description="steps between measurements on validation questions")
    report_to: tuple[str, ...] = Field(default=(), description="the Trainer's loggers, for example tensorboard")

    def batch_sizes(self, devices: int) -> tuple[int, int]:
        """Returns the micro batch size and the number of accumulation steps.

        >>> Training(global_batch_size=256, micro_batch_size=4).batch_sizes(devices=8)
        (4, 8)

        Raises:
            UserError: The global batch cannot be divided among the devices.
        """
        micro = self.micro_batch_size or self.global_batch_size // devices
        if not micro or self.global_batch_size % (micro * devices):
            raise UserError(
                f"training.global_batch_size: {self.global_batch_size} examples cannot be shared by {devices} devices "
                f"with {micro} at a time; change training.global_batch_size or training.micro_batch_size"
            )
        return micro, self.global_batch_size // (micro * devices)


class Knowledge(Part):
    """What is stored of the teacher."""

    k: int = Field(default=5, gt=1, le=LARGEST_COUNT, description="tokens stored at each position")
    batch_size: Count = Field(default=64, description="examples in one forward pass")
    engine: Literal["transformers", "vllm"] = Field(default="transformers", description="what runs the teacher")
    imported: str | None = Field(
        default=None, description="a folder written by `first import-logprobs`, instead of a teacher with weights"
    )
    server: str | None = Field(
        default=None,
        pattern="^https?://.+",
        description="address of a live server with OpenAI's interface, asked instead of a teacher with weights",
    )
    server_model: str = Field(default="", description="the model's name on the server; empty: the first it lists")
    server_form: Literal["completions", "chat", "vllm"] = Field(
        default="completions",
        description="completions with `echo`, chat, or vLLM's completions with `prompt_logprobs`",
    )
    server_key: str = Field(default="FIRST_API_KEY", description="the environment variable with the server's key")
    server_concurrency: Count = Field(default=8, description="requests to the server at a time")
    temperatures: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="temperatures whose log normalisers are stored, for `map: exact-temperature`; must hold 1.0",
    )


class Measures(Part):
    """How confidence is read and binned. The paper leaves the reading open; both are always computed."""

    confidence: Reading = Field(
        default="candidates",
        description="a candidate's share among the candidates, or its probability in the vocabulary",
    )
    bins: Count = Field(default=10, description="equal-width bins of the ECE")
    candidate_score: CandidateScore = Field(
        default="total",
        description="what ranks candidates: their log-probability in total, or its mean over tokens "
        "or over characters; all are reported",
    )


class Settings(Part):
    """A whole experiment."""

    description: str = Field(default="", description="one sentence on the experiment")
    data: Data = Data()
    tasks: dict[str, TaskData] = Field(
        default_factory=dict, description="data sets of one's own, by the name that columns use"
    )
    columns: tuple[Column, ...] = Field(min_length=1)
    sizes: Sizes
    teacher: Model
    student: Model
    training: Training = Training()
    knowledge: Knowledge = Knowledge()
    methods: dict[str, Method] = Field(
        default_factory=paper_methods, min_length=1, description="the students of the results table, by name"
    )
    beyond: dict[str, Method] = Field(
        default_factory=dict, description="further students, computed only by the study and when asked for by name"
    )
    measures: Measures = Measures()
    threads: int | None = Field(
        default=None,
        gt=0,
        le=MOST_THREADS,
        description="CPU threads of each process; sums depend on their number. null: torch's choice",
    )
    jobs: Count = Field(
        default=1,
        description="processes that compute stages under `first run`; results do not depend on it. On a GPU: 1",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_is_a_task(cls, content: Any) -> Any:
        """`data.own` is short for `tasks.own.file`."""
        data, tasks = (content.get(key) for key in ("data", "tasks")) if isinstance(content, dict) else (None, None)
        if not isinstance(data, dict) or not isinstance(data.get("own"), str) or not isinstance(tasks or {}, dict):
            return content
        given = (tasks or {}).get(OWN) or {}
        if not isinstance(given, dict):
            return content
        if {given.get("file"), given.get("hub")} - {None, data["own"]}:
            raise ValueError("data.own and tasks.own: both name a place; leave one out")
        return {**content, "tasks": {**(tasks or {}), OWN: {**given, "file": data["own"]}}}

    @model_validator(mode="after")
    def _fits_its_data(self) -> Self:
        check_task_names(self.tasks)
        for column in self.columns:
            for task in (column.train, *column.test):
                self._check_known(task)
        if self.uses_microworld and (self.sizes.train is None or self.sizes.test is None):
            raise ValueError("sizes.train and sizes.test: the microworld has no end, so give numbers")
        for test in (test for column in self.columns for test in column.test):
            free = test == "alpaca" and not self.generates(test)
            if free or (test in self.tasks and self.tasks[test].kind == "free-text"):
                raise ValueError(f"columns: {test} has free answers and cannot be a test set")
        return self

    def _check_known(self, task: Task) -> None:
        known = (*PUBLISHED, *self.tasks)
        if task == OWN and task not in known:
            raise ValueError("columns: the task `own` needs data.own, the file or folder of your questions")
        if task not in known:
            near = difflib.get_close_matches(task[:40], known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"columns: there is no task {task[:40]!r}; {hint}the tasks are {', '.join(known)[:200]}; "
                f"add your own under tasks, for example tasks.mine.file"
            )

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> Self:
        cells = Counter((column.setting, test) for column in self.columns for test in column.test)
        twice = [f"{setting} {test}" for (setting, test), count in cells.items() if count > 1]
        if twice:
            raise ValueError(f"columns: {twice[0]} is there twice, and results have one place for it; leave one out")
        return self

    @model_validator(mode="after")
    def _trains_each_task_once(self) -> Self:
        for task in self.training_tasks:
            if len({column.epochs for column in self.columns if column.train == task}) > 1:
                raise ValueError(f"columns: models are trained on {task} once; give its columns the same epochs")
        return self

    @model_validator(mode="after")
    def _methods_can_be_made(self) -> Self:
        check_names(self.methods, self.beyond)
        for name, method in self.all_methods.items():
            if (self.knowledge.imported or self.knowledge.server) and (needs := _needs_a_teacher(method)):
                raise ValueError(
                    f"methods.{name}: imported knowledge comes without a teacher's weights; leave out {needs}"
                )
            if method.map == "exact-temperature":
                self._check_normalisers(name, method)
        return self

    def _check_normalisers(self, name: str, method: Method) -> None:
        stored, wanted = self.knowledge.temperatures, method.fixed_coefficient
        if 1.0 not in stored or len(stored) < 2 or (wanted is not None and wanted not in stored):
            raise ValueError(
                f"methods.{name}: map: exact-temperature needs the normalisers at 1.0 and at every T to choose from; "
                f"list them in knowledge.temperatures, now {list(stored)}"
            )

    def __hash__(self) -> int:
        """Frozen, but pydantic cannot hash the methods' dictionary itself."""
        return hash(self.model_dump_json())

    def under(self, method: Method) -> "Settings":
        """Returns the settings with what a method replaces: the teacher's base model and the k of its knowledge."""
        base, k = method.teacher or self.teacher.base, method.k or self.knowledge.k
        if (base, k) == (self.teacher.base, self.knowledge.k):
            return self
        teacher, knowledge = self.teacher.model_copy(update={"base": base}), self.knowledge.model_copy(update={"k": k})
        return self.model_copy(update={"teacher": teacher, "knowledge": knowledge})

    @property
    def all_methods(self) -> dict[str, Method]:
        """`methods` and `beyond` together."""
        return self.methods | self.beyond

    @property
    def training_tasks(self) -> list[Task]:
        """Every task that a model is trained on."""
        return list(dict.fromkeys(column.train for column in self.columns))

    @property
    def all_tasks(self) -> list[Task]:
        """Every task that a model is trained or tested on."""
        return list(dict.fromkeys([*self.training_tasks, *(test for column in self.columns for test in column.test)]))

    @property
    def tasks_read(self) -> list[Task]:
        """Those of them whose questions come from files or the hub."""
        return [task for task in self.all_tasks if not self.generates(task)]

    def training_of(self, task: Task) -> Training:
        """Returns how models are trained on a task: with the epochs of its column, where that gives any."""
        epochs = next((column.epochs for column in self.columns if column.train == task and column.epochs), None)
        return self.training.model_copy(update={"epochs": epochs}) if epochs else self.training

    def student_of(self, method: Method) -> Model:
        """Returns the student, tuned as a method says."""
        return self.student.model_copy(update={"tuning": method.tuning}) if method.tuning else self.student

    def asked(self, model: Model) -> Model:
        """Returns a model as it is asked: in the number format that training computes in."""
        half = HALF_FORMATS.get(self.training.mixed_precision)
        return model.model_copy(update={"dtype": half}) if half else model

    @property
    def method_names(self) -> tuple[str, ...]:
        """Rows of the results table: the teacher, then every student's method."""
        return ("teacher", *self.methods)

    @property
    def recalibrated(self) -> str | None:
        """The method that the explorer tunes: `first`, else the first one with a temperature; None if there is none."""
        tempered = [name for name, method in self.methods.items() if method.map.endswith("temperature")]
        return "first" if "first" in tempered else next(iter(tempered), None)

    def generates(self, task: Task) -> bool:
        """Whether a task's questions come from the microworld; a task of one's own never does."""
        return self.data.source == "microworld" and task not in self.tasks

    @property
    def uses_microworld(self) -> bool:
        """Whether a column trains or tests on generated questions."""
        return any(self.generates(task) for column in self.columns for task in (column.train, *column.test))

    def count(self, task: Task, split: str) -> int | None:
        """How many questions a task's split holds at most: `train`, `validation` or `test`; None: all there are."""
        own = [column.max_train_examples for column in self.columns if split == "train" and column.train == task]
        limits = [most for most in (getattr(self.sizes, split), *own) if most]
        return min(limits, default=None)


def _needs_a_teacher(method: Method) -> str | None:
    """Names the first field of a method that needs the teacher's weights."""
    if method.knowledge != "teacher":
        return f"knowledge: {method.knowledge}"
    if (method.rule or "").startswith("cross-fitted"):
        return f"coefficient: {method.rule}"
    return next((f"{name}: {value}" for name in ("k", "teacher") if (value := getattr(method, name))), None)
