"""Several processes that work on one run together, under `accelerate launch`. Alone, nothing happens here."""

import os
from typing import TypeVar

Value = TypeVar("Value")


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; 0 is the first, who writes what only one should write."""
    return int(os.environ.get("RANK", "0"))


def agree(value: Value) -> Value:
    """The first process's value, in all of them."""
    if count() == 1:
        return value
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState()
    return broadcast_object_list([value])[0]


def wait() -> None:
    """Goes on when every process has come here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
