"""Estimates the memory, storage and time of a run before it starts: `first plan`."""

from firstlib.planning.anatomy import Anatomy, anatomy_of
from firstlib.planning.memory import Batch, Memory, asking_memory, training_memory
from firstlib.planning.plan import make_scene, stages
from firstlib.planning.table import plan_table, size
from firstlib.planning.tokens import TaskPlan, plan_task
from firstlib.planning.work import (
    BYTES_PER_ENTRY,
    FLOPS_TO_ASK,
    FLOPS_TO_TRAIN,
    our_store_bytes,
    store_bytes,
    training_flops,
)

__all__ = [
    "BYTES_PER_ENTRY",
    "FLOPS_TO_ASK",
    "FLOPS_TO_TRAIN",
    "Anatomy",
    "Batch",
    "Memory",
    "TaskPlan",
    "anatomy_of",
    "asking_memory",
    "make_scene",
    "our_store_bytes",
    "plan_table",
    "plan_task",
    "size",
    "stages",
    "store_bytes",
    "training_flops",
    "training_memory",
]
