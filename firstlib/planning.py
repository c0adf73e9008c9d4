"""What a run would take, by arithmetic, before anything is run."""

from dataclasses import dataclass
from typing import Any

from firstlib import models
from firstlib.settings import STUDENT_METHODS, Settings, Task, load_preset
from firstlib.tasks import microworld
from firstlib.tasks.encoding import encode

BYTES_PER_ENTRY = 12  # the paper's count: a token id and its probability
FLOPS_TO_TRAIN, FLOPS_TO_ASK = 6, 2  # per parameter and token: forward and backward, or forward alone


@dataclass(frozen=True)
class TaskPlan:
    """One training task's tokens (all, and those of responses alone) over the training split."""

    task: Task
    examples: int
    tokens: int
    positions: int


def plan_task(settings: Settings, task: Task, sample: int = 200) -> TaskPlan:
    """Counts a task's tokens on a sample of its examples."""
    tokenizer = models.load_tokenizer(settings.student)
    count = settings.count(task, "train")
    questions = microworld.ask(microworld.make_world(), task, "train", min(sample, count), seed=0)
    encoded = [encode(tokenizer, question.example()) for question in questions]
    scale = count / len(encoded)
    tokens = sum(len(example.token_ids) for example in encoded)
    positions = sum(len(example.token_ids) - example.start for example in encoded)
    return TaskPlan(task, count, round(scale * tokens), round(scale * positions))


def training_flops(parameters: int, tokens: int, epochs: int) -> float:
    """Floating-point operations of a training: 6 per parameter and token.

    >>> training_flops(parameters=1_000_000, tokens=1_000, epochs=3)
    18000000000.0
    """
    return float(FLOPS_TO_TRAIN) * parameters * tokens * epochs


def store_bytes(positions: int, k: int) -> int:
    """The paper's count of a store: 12 bytes for each token kept.

    >>> store_bytes(positions=100_000 * 2048, k=5)  # the paper prints 1.2 GB here; its own count gives 12.3
    12288000000
    """
    return positions * k * BYTES_PER_ENTRY


def plan_table(preset: str, overrides: tuple[str, ...] = ()) -> Any:
    """Parameters, tokens, operations and store sizes of a preset, as a table for the terminal."""
    from rich.table import Table

    settings = load_preset(preset, overrides)
    sizes = {role: models.parameter_count(getattr(settings, role)) for role in ("teacher", "student")}
    vocabulary = models.vocabulary_size(settings.teacher)
    table = Table(title=f"{preset}: " + ", ".join(f"{role} {n:,} parameters" for role, n in sizes.items()))
    columns = ("task", "examples", "tokens", "teacher\nGFLOP", "students\nGFLOP")
    for heading in (*columns, *(f"store\nk = {k}" for k in (1, 5, 100, vocabulary))):
        table.add_column(heading, justify="right")
    for task in dict.fromkeys(column.train for column in settings.columns):
        plan = plan_task(settings, task)
        epochs = settings.training.epochs
        teacher = training_flops(sizes["teacher"], plan.tokens, epochs)
        students = len(STUDENT_METHODS) * training_flops(sizes["student"], plan.tokens, epochs)
        stores = [_size(store_bytes(plan.positions, k)) for k in (1, 5, 100, vocabulary)]
        table.add_row(
            task,
            f"{plan.examples:,}",
            f"{plan.tokens:,}",
            f"{teacher / 1e9:,.0f}",
            f"{students / 1e9:,.0f}",
            *stores,
        )
    return table


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
