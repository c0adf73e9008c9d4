"""A plan: what every stage of a run takes, and what would help where it does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from firstlib.evaluation.asking import AT_ONCE
from firstlib.planning.anatomy import Anatomy, anatomy_of
from firstlib.planning.machines import Machine
from firstlib.planning.memory import Batch, Memory, asking_memory, training_memory
from firstlib.planning.tokens import TaskPlan, plan_task
from firstlib.planning.work import FLOPS_TO_ASK, flops_to_train, training_flops
from firstlib.settings.loading import change_settings
from firstlib.settings.schema import STUDENT_METHODS, Model, Settings

_HALVES: dict[str, Literal["bfloat16", "float16"]] = {"bf16": "bfloat16", "fp16": "float16"}
_MORE_DEVICES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Stage:
    """One stage over all tasks.

    Attributes:
        half: Whether it computes in 16 bits.
    """

    name: str
    memory: Memory
    flops: float
    half: bool


@dataclass(frozen=True)
class Scene:
    """What does not change with the settings that are tried: the two models and every task's tokens."""

    teacher: Anatomy
    student: Anatomy
    train: tuple[TaskPlan, ...]
    validation: tuple[TaskPlan, ...]
    tests: tuple[tuple[TaskPlan, ...], ...]  # of each column

    @property
    def distinct_tests(self) -> list[TaskPlan]:
        """Every test set once."""
        return list({test.task: test for tests in self.tests for test in tests}.values())


def make_scene(settings: Settings) -> Scene:
    """Looks at models and data.

    Raises:
        UserError: A model's configuration or a data set's files cannot be had.
    """
    tasks = dict.fromkeys(column.train for column in settings.columns)
    return Scene(
        teacher=anatomy_of(settings.teacher),
        student=anatomy_of(settings.student),
        train=tuple(plan_task(settings, task) for task in tasks),
        validation=tuple(plan_task(settings, task, "validation") for task in tasks),
        tests=tuple(tuple(plan_task(settings, t, "test") for t in column.test) for column in settings.columns),
    )


def stages(settings: Settings, scene: Scene, devices: int = 1) -> list[Stage]:
    """The four stages: train the teacher, extract, train the students, answer.

    Raises:
        UserError: The batch cannot be divided among the devices.
    """
    training, teacher, student = settings.training, settings.teacher, settings.student
    taught = _batch(training.shares(devices)[0], scene.train)
    read = _batch(settings.knowledge.batch_size, scene.train)
    asked = _batch(AT_ONCE * settings.knowledge.batch_size, scene.distinct_tests)
    answering = (
        asking_memory(scene.teacher, asked_as(settings, teacher), asked),
        asking_memory(scene.student, asked_as(settings, student), asked),
    )
    return [
        Stage(
            "train teacher",
            training_memory(scene.teacher, teacher, training, taught, devices),
            training_work(settings, teacher, scene.teacher, scene),
            _computes_in_half(settings, teacher),
        ),
        Stage(
            "extract",
            asking_memory(scene.teacher, asked_as(settings, teacher), read),
            float(FLOPS_TO_ASK) * scene.teacher.parameters * _tokens(scene.train),
            _computes_in_half(settings, teacher),
        ),
        Stage(
            "train students",
            training_memory(scene.student, student, training, taught, devices),
            len(STUDENT_METHODS) * training_work(settings, student, scene.student, scene),
            _computes_in_half(settings, student),
        ),
        Stage(
            "answer",
            max(answering, key=lambda memory: memory.total),
            answering_work(scene),
            _computes_in_half(settings, teacher),
        ),
    ]


def training_work(settings: Settings, model: Model, part: Anatomy, scene: Scene) -> float:
    """Operations of training one model once on every task."""
    each = flops_to_train(model, settings.training)
    return sum(training_flops(part.parameters, task.tokens, settings.training.epochs, each) for task in scene.train)


def answering_work(scene: Scene) -> float:
    """Operations of all answers: every method's, both base models', and the teacher's on validation."""
    teacher, student = scene.teacher.parameters, scene.student.parameters
    methods = _tokens([t for tests in scene.tests for t in tests]) * (teacher + len(STUDENT_METHODS) * student)
    bases = _tokens(scene.distinct_tests) * (teacher + student)
    return float(FLOPS_TO_ASK) * (methods + bases + _tokens(scene.validation) * teacher)


def asked_as(settings: Settings, model: Model) -> Model:
    """A model as it is asked: in the type that it was trained to compute in."""
    half = _HALVES.get(settings.training.mixed_precision)
    return model.model_copy(update={"dtype": half}) if half else model


def fits(found: Sequence[Stage], machine: Machine) -> bool:
    """Whether every stage has room."""
    return all(stage.memory.total <= machine.room for stage in found)


def remedy(settings: Settings, scene: Scene, machine: Machine, devices: int) -> dict[str, object] | None:
    """The fewest settings to change so that every stage fits, in the order of what they cost; None: nothing helps."""
    changes = _changes(settings)
    for count in range(1, len(changes) + 1):
        needed = changes[:count]
        if fits(_changed(settings, needed, scene, devices), machine):
            return _pruned(settings, needed, scene, machine, devices)
    return None


def devices_needed(settings: Settings, scene: Scene, machine: Machine, devices: int) -> int | None:
    """How many devices it takes with the settings as they are."""
    for more in _MORE_DEVICES:
        whole = settings.training.global_batch_size % (more * (settings.training.micro_batch_size or 1)) == 0
        if more > devices and whole and fits(stages(settings, scene, more), machine):
            return more
    return None


def _pruned(
    settings: Settings, needed: Sequence[tuple[str, object]], scene: Scene, machine: Machine, devices: int
) -> dict[str, object]:
    for change in needed:
        fewer = [other for other in needed if other is not change]
        if fits(_changed(settings, fewer, scene, devices), machine):
            needed = fewer
    return dict(needed)


def _changes(settings: Settings) -> list[tuple[str, object]]:
    """What can be changed without changing what is computed comes first; then what approximates it."""
    return [
        ("knowledge.batch_size", min(8, settings.knowledge.batch_size)),
        ("training.micro_batch_size", 1),
        ("training.gradient_checkpointing", True),
        ("teacher.tuning", "qlora"),
        ("student.tuning", "qlora"),
    ]


def _changed(settings: Settings, changes: Sequence[tuple[str, object]], scene: Scene, devices: int) -> list[Stage]:
    return stages(
        change_settings(settings, **{key.replace(".", "__"): value for key, value in changes}), scene, devices
    )


def _computes_in_half(settings: Settings, model: Model) -> bool:
    return settings.training.mixed_precision != "no" or model.dtype != "float32"


def _batch(examples: int, tasks: Sequence[TaskPlan]) -> Batch:
    """The longest examples of all tasks together, with a position taken at every token."""
    longest = max(task.longest for task in tasks)
    return Batch(examples, longest, examples * longest)


def _tokens(tasks: Sequence[TaskPlan]) -> int:
    return sum(task.tokens for task in tasks)
