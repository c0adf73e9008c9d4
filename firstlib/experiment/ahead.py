"""Stages computed ahead of the notebooks, by processes beside theirs: `jobs` in the settings.

Two trainings of one CPU thread each finish sooner than one after the other on two threads. The notebooks work from the
first column on; helpers work from the last one backwards, until they meet. Every stage is locked while it is computed,
so nothing is computed twice, and no value depends on who computed it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from firstlib.experiment.experiment import Experiment


@contextmanager
def computed_ahead(preset: str, seed: int, runs: str, overrides: Sequence[str], jobs: int) -> Iterator[None]:
    """Runs `jobs - 1` helpers as long as the block lasts. One that fails is silent: the notebooks meet the error."""
    given = json.dumps([preset, seed, runs, list(overrides)])
    commands = [[sys.executable, "-m", __name__, given, str(number)] for number in range(jobs - 1)]
    helpers = [subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for one in commands]
    try:
        yield
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.wait()


def steps(experiment: Experiment, helper: int = 0) -> Iterator[Callable[[], Any]]:
    """Yields what a helper computes, in its order: every method's answers, each helper from a column of its own on.

    What the report asks last comes last: the untuned student's answers.
    """
    columns = experiment.settings.columns[::-1]
    start = helper % len(columns)
    for column in columns[start:] + columns[:start]:
        for name in experiment.methods[::-1]:
            for test in column.test:
                yield partial(experiment.predictions, name, column.train, test)
    for test in dict.fromkeys(test for column in columns for test in column.test):
        yield partial(experiment.base_predictions, "student", test)


def main(given: str, helper: str) -> None:
    """Computes the answers of every model, as long as the process that asked for it lives."""
    parent = os.getppid()
    experiment = Experiment(*json.loads(given))
    for compute in steps(experiment, int(helper)):
        if os.getppid() != parent:
            return
        compute()


if __name__ == "__main__":
    main(*sys.argv[1:])
