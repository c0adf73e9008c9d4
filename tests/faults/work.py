"""Makes stages in separate processes, which log what they do and may be killed at any moment."""

import multiprocessing
import os
import time
from pathlib import Path

from transformers import Trainer, TrainerCallback

from firstlib import Experiment
from firstlib.knowledge import extraction, store

ROWS = 40  # positions per row group

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["firstlib.experiment.experiment", "firstlib.distillation.training"]
)  # importing takes seconds, but only once


def make(stage: str, preset: str, runs: str, log: str) -> None:
    """Makes a stage of the tiny preset with small row groups, and logs each example and each training step."""
    os.environ["TQDM_DISABLE"] = "1"
    store.ROW_GROUP_SIZE = ROWS
    with Path(log).open("a", buffering=1) as notes:
        _note_batches(notes)
        _note_steps(notes)
        Experiment(preset, run_folder=runs).stage(stage, "csqa")


def _note_batches(notes):
    of_batch = extraction._top_k_of_batch

    def noting(reader, batch, *rest):
        notes.write("".join(f"{example.id}\n" for example in batch.examples))
        return of_batch(reader, batch, *rest)

    extraction._top_k_of_batch = noting


def _note_steps(notes):
    class Noting(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            notes.write(f"{state.global_step + 1}\n")

    begin = Trainer.__init__

    def with_notes(self, *arguments, **named):
        begin(self, *arguments, **named)
        self.add_callback(Noting())

    Trainer.__init__ = with_notes


def finish(*arguments) -> float:
    """Makes a stage undisturbed, and returns how long it took."""
    started = time.monotonic()
    process = context.Process(target=make, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - started


def kill_after(seconds: float, *arguments) -> None:
    """Starts to make a stage, and kills the process (SIGKILL) after some time, wherever it is."""
    process = context.Process(target=make, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
