"""Coordination of the processes of one run under `accelerate launch`. In a single process, no call waits."""

import os
from typing import TypeVar

Value = TypeVar("Value")


def world_size() -> int:
    """Returns the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Returns the index of this process; rank 0 writes the files that only one process may write."""
    return int(os.environ.get("RANK", "0"))


def broadcast(value: Value) -> Value:
    """Returns rank 0's value in every process."""
    if world_size() == 1:
        return value
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState()
    return broadcast_object_list([value])[0]


def barrier() -> None:
    """Waits until every process has reached this call."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
