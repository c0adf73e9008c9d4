"""The costly part of the explorer's numbers, computed in several processes.

Worker processes import this module. It imports NumPy and `firstlib.metrics` alone, so that they start in half a second.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

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


def measure_all(jobs: Sequence[Job]) -> Iterator[Columns]:
    """Yields the columns of every job, in order, computed on all CPU cores.

    Each worker is a new interpreter: forking a process that holds torch's or Chrome's threads can deadlock, and
    `multiprocessing` would run the caller's script again.
    """
    workers = min(_cores(), MOST_WORKERS, len(jobs))
    if workers < 2:
        yield from map(measure_slider, jobs)
        return
    with ThreadPoolExecutor(workers) as threads:
        shares = list(threads.map(_in_new_process, (jobs[first::workers] for first in range(workers))))
    for place in range(len(jobs)):
        yield shares[place % workers][place // workers]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _in_new_process(jobs: Sequence[Job]) -> list[Columns]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WORKER]
    done = subprocess.run(command, input=pickle.dumps(jobs), stdout=subprocess.PIPE, env=environment, check=True)
    return pickle.loads(done.stdout)


def work() -> None:
    """Reads jobs from standard input and writes their columns to standard output, both pickled."""
    jobs = pickle.load(sys.stdin.buffer)
    pickle.dump([measure_slider(job) for job in jobs], sys.stdout.buffer)
