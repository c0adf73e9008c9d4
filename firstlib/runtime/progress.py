"""Progress of long computations: a bar in notebooks and terminals; under `first run`, a line that the runner shows."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm

from firstlib.runtime import distributed
from firstlib.runtime.files import write_text

# Environment variable set by `first run`: the file in which a notebook's kernel reports its progress.
PROGRESS_FILE = "FIRST_PROGRESS_FILE"
_INTERVAL = 0.2  # seconds between two reports: frequent enough to watch, too rare to cost time


@contextmanager
def steps(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of steps completed so far.

    >>> with steps("counting", 2) as at:
    ...     at(2)
    """
    target = os.environ.get(PROGRESS_FILE)
    if distributed.rank() > 0:
        yield lambda done: None
    elif target:
        yield _file_reporter(Path(target), label, total)
    else:
        with tqdm(total=total, desc=label, leave=False) as bar:
            yield lambda done: bar.update(done - bar.n)


def _file_reporter(target: Path, label: str, total: int) -> Callable[[int], None]:
    last = 0.0

    def report(done: int) -> None:
        nonlocal last
        if done < total and time.monotonic() - last < _INTERVAL:
            return
        last = time.monotonic()
        write_text(target, json.dumps({"label": label, "done": done, "total": total}))

    report(0)
    return report
