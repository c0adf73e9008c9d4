"""Writes a store of so many megabytes of positions, trains from it, and says what memory that took.

python flat.py BASE_MODEL FOLDER HUNDREDS_OF_MEGABYTES
"""

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from firstlib import models, training
from firstlib.knowledge import KnowledgeStore, Origin, Parts, TopK, store, write_store
from firstlib.progress import steps
from firstlib.settings import Distillation, Model, Training
from firstlib.tasks.encoding import Encoded

POSITIONS = 512  # of an example's response
BYTES = 4 + 5 * 4 + 5 * 4 + 4  # of a position: its number, five tokens, five probabilities, the rest
ORIGIN = Origin(teacher="t", tokenizer="t", data="d", k=5)


class Peak(threading.Thread):
    """The most memory of its own (no files mapped) that the process has held above what it held at first."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first, self.peak, self.over = self.now(), 0, threading.Event()

    @staticmethod
    def now() -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    def run(self) -> None:
        while not self.over.wait(0.01):
            self.peak = max(self.peak, self.now() - self.first)


def knowledge(count: int):
    """As a teacher gives it: an example at a time, never all of them."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(6), POSITIONS).astype(np.float32)
    for number in range(count):
        ids = rng.integers(0, 90, (POSITIONS, 1)) + np.arange(5)
        residual, none = probabilities[:, 5], np.zeros((POSITIONS, 0), np.float32)
        yield TopK(f"example-{number}", np.arange(1, POSITIONS + 1), ids, probabilities[:, :5], residual, none)


class Examples(Sequence):
    """Texts that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        return Encoded(f"example-{index}", [5] * (POSITIONS + 1), 1)


class FewSteps(training.TrainerCallback):
    """A training is no longer than what shows whether it grows."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= 12


def train(base: str, found: KnowledgeStore, count: int) -> None:
    lessons = training.Lessons(Examples(count), found, lambda p: p)
    add = training.DistillationTrainer.__init__

    def with_end(self, *arguments, **named):
        add(self, *arguments, **named)
        self.add_callback(FewSteps())

    training.DistillationTrainer.__init__ = with_end
    model = models.load_for_training(Model(base=base), 0)
    training.distill(model, lessons, Training(epochs=1, batch=2), Distillation(), training.Course(1e-3, 0))


def main(base: str, folder: str, size: float) -> None:
    torch.set_num_threads(1)
    store.ROWS = 2**13
    count = int(100 * size * 2**20 / (POSITIONS * BYTES))
    write_store(folder, knowledge(4), ORIGIN)  # what is loaded once is not what grows
    train(base, KnowledgeStore(folder), 4)
    (Path(folder) / "knowledge.parquet").unlink()
    peaks = {}
    for what, work in (
        ("writing", lambda: write_store(folder, knowledge(count), ORIGIN, parts=Parts(Path(folder) / "parts"))),
        ("training", lambda: train(base, KnowledgeStore(folder), count)),
    ):
        peak = Peak()
        peak.start()
        with steps(what, 1):
            work()
        peak.over.set()
        peak.join()
        peaks[what] = peak.peak / 2**20
    print(json.dumps({**peaks, "data": count * POSITIONS * BYTES / 2**20}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
