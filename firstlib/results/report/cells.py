"""The costly part of the explorer's numbers, computed in several processes.

Worker processes import this module. It imports NumPy and `firstlib.metrics` alone, so that they start in half a second.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import NamedTuple, TypeAlias

import numpy as np

from firstlib.metrics import NoiseFloor, Reliability, noise_floor, reliability, smooth_ece

MOST_WORKERS = 8
_WORKER = "from firstlib.results.report.cells import work; work()"


class Job(NamedTuple):
    """Answers to N questions at P positions of the slider, and how to measure them.

    Attributes:
        confidence: `(P, N)`.
        correct: `(P, N)` bool.
        bins: Numbers of bins; each is measured by itself.
        draws: Of each noise floor.
    """

    confidence: np.ndarray
    correct: np.ndarray
    bins: tuple[int, ...]
    draws: int


class Calibration(NamedTuple):
    """Calibration at one position of the slider, with one number of bins."""

    smooth_ece: float
    floor: NoiseFloor
    diagram: Reliability


Columns = dict[int, list[Calibration]]  # number of bins -> one entry per position
Waiting: TypeAlias = SimpleQueue[Job | None]  # None: no more


def measure_slider(job: Job) -> Columns:
    """Returns the calibration at every position of the slider, for each number of bins."""
    columns: Columns = {number: [] for number in job.bins}
    for confidence, correct in zip(job.confidence, job.correct, strict=True):
        smooth = smooth_ece(confidence, correct)
        for number, column in columns.items():
            floor = noise_floor(confidence, number, job.draws)
            column.append(Calibration(smooth, floor, reliability(confidence, correct, number)))
    return columns


# -- in several processes ----------------------------------------------------------------------------------------


def measure_all(jobs: Iterable[Job]) -> Iterator[Columns]:
    """Yields the columns of every job, in order, computed on all CPU cores; jobs that are slow to make come as made.

    Each worker is a new interpreter: forking a process that holds torch's or Chrome's threads can deadlock, and
    `multiprocessing` would run the caller's script again.
    """
    workers = min(_cores(), MOST_WORKERS)
    if workers < 2:
        yield from map(measure_slider, jobs)
        return
    waiting: list[Waiting] = [SimpleQueue() for _ in range(workers)]
    count = 0
    with ThreadPoolExecutor(workers) as threads:
        shares = [threads.submit(_in_new_process, its) for its in waiting]
        try:
            for count, job in enumerate(jobs, 1):
                waiting[(count - 1) % workers].put(job)
        finally:
            for its in waiting:
                its.put(None)
    for place in range(count):
        yield shares[place % workers].result()[place // workers]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _in_new_process(jobs: Waiting) -> list[Columns]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
        assert worker.stdin
        assert worker.stdout
        with suppress(BrokenPipeError):  # its exit status tells more
            while job := jobs.get():
                pickle.dump(job, worker.stdin)
                worker.stdin.flush()
            worker.stdin.close()
        found = worker.stdout.read()
    if worker.returncode:
        raise subprocess.CalledProcessError(worker.returncode, command)
    return pickle.loads(found)


def work() -> None:
    """Reads jobs from standard input until it ends, then writes their columns to standard output, all pickled."""
    found = []
    with suppress(EOFError):
        while True:
            found.append(measure_slider(pickle.load(sys.stdin.buffer)))
    pickle.dump(found, sys.stdout.buffer)
