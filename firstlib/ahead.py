"""Works ahead of the notebooks, on a second core: it makes first what they will ask for last. `first run` starts it.

Whoever comes second to a stage finds it made, or waits until it is. So nothing is made twice, the order in which
stages are made does not matter, and the notebooks need not know.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial

from firstlib.experiment import Experiment
from firstlib.settings import STUDENT_METHODS, Column
from firstlib.studies import variants

Stage = Callable[[], object]


def stages(experiment: Experiment) -> Iterator[Stage]:
    """Every stage that a run of all notebooks asks for, nearly in the opposite order."""
    first, *others = experiment.settings.columns
    main = experiment.main
    for column in reversed(others):
        yield from _of_column(experiment, column)
    for variant in reversed(variants(experiment, main)):
        yield partial(variant.predictions, "first", main, main)
    yield from _of_column(experiment, first)


def _of_column(experiment: Experiment, column: Column) -> Iterator[Stage]:
    yield partial(experiment.teacher, column.train)
    yield partial(experiment.knowledge, column.train)
    yield partial(experiment.coefficient, column.train)
    for method in reversed(STUDENT_METHODS):
        for test in column.test:
            yield partial(experiment.predictions, method, column.train, test)


def main(preset: str, seed: str, run_folder: str, *overrides: str) -> None:
    """Makes one stage after the other, as long as the run that asked for it lives."""
    parent = os.getppid()
    for stage in stages(Experiment(preset, int(seed), run_folder, overrides)):
        if os.getppid() != parent:
            break
        stage()


if __name__ == "__main__":
    main(*sys.argv[1:])
