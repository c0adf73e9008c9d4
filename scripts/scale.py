"""What 10 million examples of a 70B teacher would take on 64 GPUs: the table of `docs/scale.md`.

Arithmetic of `first plan`, and constants that `make bench` and `python -m benchmarks.growth` measured.
"""

import json
from typing import Any

from firstlib.planning.anatomy import KNOWN, Anatomy, dissect
from firstlib.planning.machines import GIB, find_machines
from firstlib.planning.memory import Batch, Memory, asking_memory, training_memory
from firstlib.planning.tokens import PUBLISHED
from firstlib.planning.work import FLOPS_TO_ASK, flops_to_train, training_flops
from firstlib.results.markup import markdown_table
from firstlib.runtime.paths import PROJECT
from firstlib.settings.schema import Model, Training

BENCHMARKS, PAGE = PROJECT / "benchmarks", PROJECT / "docs" / "scale.md"
EXAMPLES, GPUS, NODE, K = 10_000_000, 64, 8, 5
TEACHER, STUDENT = "meta-llama/Llama-2-70b-hf", "meta-llama/Llama-2-7b-hf"
LONGEST, MICRO, CARD = 1024, 4, "A100"
TRAINING = Training(epochs=1, global_batch_size=MICRO * GPUS, micro_batch_size=MICRO, gradient_checkpointing=True)
UNPACKED = 4 + 4 * K + 4 * K + 4  # bytes a position: its place, ids, probabilities and residual


def block() -> str:
    """Returns the stages' needs, and the store's, in Markdown; empty while a constant is not measured."""
    if not (BENCHMARKS / "growth.json").is_file():
        return ""
    head = ["stage", "GiB a GPU", "hours", "fits"]
    return f"{markdown_table(head, stages())}\n\n{markdown_table(['the store', ''], store())}"


def stages() -> list[list[str]]:
    """Returns a line for each stage: memory of a GPU, hours on all, and whether it fits."""
    (machine,) = find_machines(CARD)
    counts, lines = PUBLISHED["alpaca"], []
    tokens, batch = round(EXAMPLES * counts.tokens), Batch(MICRO, LONGEST, MICRO * LONGEST)
    teacher, student = (_anatomy(name) for name in (TEACHER, STUDENT))
    model = Model(base=TEACHER, dtype="bfloat16")
    each = flops_to_train(model, TRAINING)
    for name, memory, operations in (
        ("train the teacher, sharded", _trained(teacher, model), training_flops(teacher.parameters, tokens, 1, each)),
        ("extract, a whole teacher on each GPU", asking_memory(teacher, model, batch), _asked(teacher, tokens)),
        ("train a student, sharded", _trained(student, model), training_flops(student.parameters, tokens, 1, each)),
    ):
        fits = "yes" if memory.total <= machine.room else "no"
        hours = f"{machine.hours(operations, half=True, devices=GPUS):.1f}"
        lines.append([name, f"{memory.total / GIB:.0f}", hours, fits])
    return lines


def _anatomy(name: str) -> Anatomy:
    from transformers import AutoConfig

    shape = dict(KNOWN[name])
    return dissect(AutoConfig.for_model(shape.pop("model_type"), **shape), name)


def _trained(anatomy: Anatomy, model: Model) -> Memory:
    return training_memory(anatomy, model, TRAINING, Batch(MICRO, LONGEST, MICRO * LONGEST), GPUS)


def _asked(anatomy: Anatomy, tokens: int) -> float:
    return float(FLOPS_TO_ASK) * anatomy.parameters * tokens


def store() -> list[list[str]]:
    """Returns what the store takes: on disk, to write and to read it, unpacked, and its index in memory."""
    positions = EXAMPLES * PUBLISHED["alpaca"].positions
    size, writing, reading = (_measured(name) for name in ("size", "writing", "reading into"))
    index = json.loads((BENCHMARKS / "growth.json").read_text(encoding="utf-8"))["index bytes"]
    return [
        ["positions", f"{positions:.3g}"],
        ["files, at the measured size", f"{positions * size / 1e9:.0f} GB"],
        [f"writing by {GPUS} processes", f"{positions / writing / GPUS:.0f} s"],
        ["reading it once into batches, one process", f"{positions / reading / 60:.0f} min"],
        [
            f"unpacked by each of a node's {NODE} processes",
            f"{NODE * positions * UNPACKED / 1e9:.0f} GB of disk in all",
        ],
        ["index by id in these processes", f"{NODE * EXAMPLES * index / 1e9:.0f} GB of memory in all"],
    ]


def _measured(what: str) -> float:
    rows: list[dict[str, Any]] = json.loads((BENCHMARKS / "results.json").read_text(encoding="utf-8"))
    start = f"store: {what}"
    return next(float(row["ours"]) for row in rows if row["name"].startswith(start) and "real text" in row["name"])
