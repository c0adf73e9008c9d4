"""A plan: the memory and work of every stage of a run, and what to change if it does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass

from firstlib.evaluation.gathering import AT_ONCE
from firstlib.planning.anatomy import Anatomy, anatomy_of
from firstlib.planning.machines import Machine
from firstlib.planning.memory import Batch, Memory, asking_memory, training_memory
from firstlib.planning.tokens import TaskPlan, plan_task
from firstlib.planning.work import FLOPS_TO_ASK, flops_to_train, training_flops
from firstlib.settings.loading import change_settings
from firstlib.settings.schema import HALF_FORMATS, Model, Settings

_MORE_DEVICES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Stage:
    """One stage over all tasks.

    Attributes:
        name: For display.
        memory: Peak memory per device, in bytes.
        flops: Floating-point operations.
        half: Whether it computes in 16 bits.
    """

    name: str
    memory: Memory
    flops: float
    half: bool


@dataclass(frozen=True)
class Scene:
    """The parts of a plan that do not depend on the settings it varies: the models and every task's tokens.

    Attributes:
        teacher: None where its answers come from a server or from files, so that it never runs here.
    """

    teacher: Anatomy | None
    student: Anatomy
    train: tuple[TaskPlan, ...]
    validation: tuple[TaskPlan, ...]
    tests: tuple[tuple[TaskPlan, ...], ...]  # by column

    @property
    def distinct_tests(self) -> list[TaskPlan]:
        """Every test set, once each."""
        return list({test.task: test for tests in self.tests for test in tests}.values())


def make_scene(settings: Settings) -> Scene:
    """Reads the models' configurations and the data.

    Raises:
        UserError: A model's configuration or a data set is not available.
    """
    tasks, elsewhere = settings.training_tasks, settings.knowledge.server or settings.knowledge.imported
    return Scene(
        teacher=None if elsewhere else anatomy_of(settings.teacher),
        student=anatomy_of(settings.student),
        train=tuple(plan_task(settings, task) for task in tasks),
        validation=tuple(plan_task(settings, task, "validation") for task in tasks),
        tests=tuple(tuple(plan_task(settings, t, "test") for t in column.test) for column in settings.columns),
    )


def stages(settings: Settings, scene: Scene, devices: int = 1) -> list[Stage]:
    """Returns the stages: train the teacher and extract, where it runs here; train the students; answer.

    Raises:
        UserError: The batch is not divisible among the devices.
    """
    taught = _batch(settings.training.batch_sizes(devices)[0], scene.train)
    return [
        *(_teachers_stages(settings, scene, scene.teacher, taught, devices) if scene.teacher else ()),
        _students_stage(settings, scene, taught, devices),
        _answers_stage(settings, scene),
    ]


def _teachers_stages(
    settings: Settings, scene: Scene, part: Anatomy, taught: Batch, devices: int
) -> tuple[Stage, Stage]:
    """Training, and extraction from the training examples."""
    model, half = settings.teacher, _computes_in_half(settings, settings.teacher)
    read = _batch(settings.knowledge.batch_size, scene.train)
    memory = training_memory(part, model, settings.training, taught, devices)
    extraction = float(FLOPS_TO_ASK) * part.parameters * _tokens(scene.train)
    return (
        Stage("train teacher", memory, teachers_work(settings, scene, part), half),
        Stage("extract", asking_memory(part, settings.asked(model), read), extraction, half),
    )


def _students_stage(settings: Settings, scene: Scene, taught: Batch, devices: int) -> Stage:
    """Every method's student, one after the other: the largest decides on memory."""
    students = [settings.student_of(method) for method in settings.methods.values()]
    memory = [training_memory(scene.student, tuned, settings.training, taught, devices) for tuned in students]
    return Stage(
        "train students",
        max(memory, key=lambda one: one.total),
        sum(training_work(settings, tuned, scene.student, scene) for tuned in students),
        _computes_in_half(settings, settings.student),
    )


def _answers_stage(settings: Settings, scene: Scene) -> Stage:
    """Answers of the models that run here: the largest decides on memory."""
    asked = _batch(AT_ONCE * settings.knowledge.batch_size, scene.distinct_tests)
    models = ((scene.teacher, settings.teacher), (scene.student, settings.student))
    memory = [asking_memory(part, settings.asked(model), asked) for part, model in models if part]
    half = _computes_in_half(settings, settings.teacher if scene.teacher else settings.student)
    return Stage("answer", max(memory, key=lambda one: one.total), answering_work(settings, scene), half)


def training_work(settings: Settings, model: Model, part: Anatomy, scene: Scene) -> float:
    """Returns the operations of training one model once on every task."""
    each = flops_to_train(model, settings.training)
    epochs = {one.task: settings.training_of(one.task).epochs for one in scene.train}
    return sum(training_flops(part.parameters, one.tokens, epochs[one.task], each) for one in scene.train)


def teachers_work(settings: Settings, scene: Scene, part: Anatomy) -> float:
    """Returns the operations of training all teachers of every task.

    Each of n fold teachers of cross-fitted knowledge is trained on (n - 1) / n of the examples. The members of an
    ensemble are adapters; a smaller ensemble's are among a larger one's.
    """
    methods = settings.methods.values()
    folds = {method.folds for method in methods if method.knowledge == "cross-fitted"}
    members = max((method.members for method in methods if method.knowledge == "ensemble"), default=0)
    whole = (1 + sum(number - 1 for number in folds)) * training_work(settings, settings.teacher, part, scene)
    adapter = settings.teacher.model_copy(update={"tuning": "lora"})
    return whole + members * training_work(settings, adapter, part, scene)


def answering_work(settings: Settings, scene: Scene) -> float:
    """Returns the operations of all answers: all methods, the base models, and the teacher on validation."""
    teacher, student = scene.teacher.parameters if scene.teacher else 0, scene.student.parameters
    methods = _tokens([t for tests in scene.tests for t in tests]) * (teacher + len(settings.methods) * student)
    bases = _tokens(scene.distinct_tests) * (teacher + student)
    return float(FLOPS_TO_ASK) * (methods + bases + _tokens(scene.validation) * teacher)


def fits(found: Sequence[Stage], machine: Machine) -> bool:
    """Returns whether every stage fits into the machine's memory."""
    return all(stage.memory.total <= machine.room for stage in found)


def remedy(settings: Settings, scene: Scene, machine: Machine, devices: int) -> dict[str, object] | None:
    """Returns the fewest changes of settings that make every stage fit, cheapest first; None if nothing helps."""
    changes = _changes(settings)
    for count in range(1, len(changes) + 1):
        needed = changes[:count]
        if fits(_changed(settings, needed, scene, devices), machine):
            return _pruned(settings, needed, scene, machine, devices)
    return None


def devices_needed(settings: Settings, scene: Scene, machine: Machine, devices: int) -> int | None:
    """Returns the number of devices needed with unchanged settings; None if no number helps."""
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
    """Returns changes that keep the results first, then those that approximate them."""
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
    return settings.training.mixed_precision in HALF_FORMATS or model.dtype != "float32"


def _batch(examples: int, tasks: Sequence[TaskPlan]) -> Batch:
    """Returns a batch as long as the longest example of all tasks, with logits at every position."""
    longest = max(task.longest for task in tasks)
    return Batch(examples, longest, examples * longest)


def _tokens(tasks: Sequence[TaskPlan]) -> int:
    return sum(task.tokens for task in tasks)
