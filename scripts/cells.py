"""What both searches of docs/protocol.md share: cells measured several at a time, each kept as it is finished."""

import argparse
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import TypeVar

from firstlib.runtime.progress import steps

Cell, Scores = TypeVar("Cell"), TypeVar("Scores")


def compute(
    missing: Sequence[Cell],
    measure: Callable[[Cell], tuple[Cell, Scores]],
    keep: Callable[[Cell, Scores], None],
    jobs: int,
) -> None:
    """Measures cells, so many at a time in processes of their own, and keeps each as it is finished."""
    with get_context("spawn").Pool(jobs) as pool, steps("cells", len(missing)) as at:
        for number, (cell, scores) in enumerate(pool.imap_unordered(measure, missing), 1):
            keep(cell, scores)
            at(number)


def options(description: str | None) -> argparse.Namespace:
    """Returns the options of a search: `jobs`, and `show` to compute nothing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time, one CPU thread each")
    parser.add_argument("--show", action="store_true", help="compute nothing")
    return parser.parse_args()
