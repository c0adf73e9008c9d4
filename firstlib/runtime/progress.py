"""How far long work has come: in a notebook as a bar, under `first run` as a line that the runner shows."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm

from firstlib.runtime import distributed

# Set by `first run`: the file through which a notebook's kernel tells the runner how far it is.
PROGRESS_FILE = "FIRST_PROGRESS_FILE"
_PAUSE = 0.2  # seconds between two reports, so that reporting costs nothing


@contextmanager
def steps(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function to be called with the number of steps done so far.

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
        if done < total and time.monotonic() - last < _PAUSE:
            return
        last = time.monotonic()
        temporary = target.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"label": label, "done": done, "total": total}))
        temporary.replace(target)

    report(0)
    return report
