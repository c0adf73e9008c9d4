"""Extracts and trains, from text to student, on data a hundred times as large as the memory allowance.

python flat.py BASE_MODEL FOLDER ALLOWANCE, with the allowance in MiB.

The script first does everything twice on very little data. Then the system limits its memory (`ulimit -d`) to the peak
of these runs plus the allowance.
"""

import json
import resource
import sys
import threading
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from firstlib import Experiment
from firstlib.distillation import training
from firstlib.distillation.targets import SoftTargets
from firstlib.knowledge import KnowledgeStore, Origin, RowGroupCache, extract_top_k, write_store
from firstlib.runtime.sequences import LazySequence
from firstlib.settings.schema import Training
from firstlib.tasks.encoding import Encoded

TIMES = 100
MB = 2**20
POSITIONS = 1023  # per response
BYTES = 4 + 4 + 5 * 4 + 5 * 4 + 4  # per position: its token, its number, five tokens, five probabilities, the residual
TEXT = 100_000  # characters per question
ORIGIN = Origin(teacher="t", tokenizer="t", data="d", k=5)


def held() -> int:
    """Bytes of the process's own memory, as the limit counts them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


class Peak(threading.Thread):
    """Records the peak memory while a block runs."""

    def __init__(self, every: float) -> None:
        super().__init__(daemon=True)
        self.every, self.most, self.over = every, held(), threading.Event()

    def run(self) -> None:
        while not self.over.wait(self.every):
            self.most = max(self.most, held())

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def limit(most: int, allowance: int) -> None:
    """Limits memory from now on, and checks that holding a tenth of the data at once fails."""
    resource.setrlimit(resource.RLIMIT_DATA, (most + allowance, resource.RLIM_INFINITY))
    try:
        bytearray(TIMES * allowance // 10)
    except MemoryError:
        return
    raise AssertionError("the system does not enforce the limit")


def tiny_model() -> LlamaForCausalLM:
    """The smallest possible model, because only the data should be large."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=1024, **shape)).eval()


def example(number: int) -> Encoded:
    """The example with this number; any number is valid."""
    return Encoded(f"example-{number}", np.random.default_rng(number).integers(3, 64, POSITIONS + 1).tolist(), 1)


def knowledge(folder: Path, count: int, steps: int) -> int:
    """Extracts the knowledge on `count` examples and trains `steps` steps on some of them; returns the positions."""
    examples, model = LazySequence(count, example), tiny_model()
    folder.mkdir()
    write_store(folder, extract_top_k(model, examples, 5, 4), ORIGIN, cache=RowGroupCache(folder / "parts"))
    found = KnowledgeStore(folder)
    order = np.random.default_rng(0).permutation(count)[: steps * 4]
    targets = SoftTargets([examples[i] for i in order], found, lambda item: item.probabilities)
    training.distill(model, targets, Training(epochs=1, global_batch_size=4), training.TrainingRun(1e-3, 0))
    return found.positions


def texts(file: Path, count: int) -> Path:
    """Writes `count` questions, each with a passage of a hundred very long words."""
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            words = " ".join([chr(97 + number % 26) * (TEXT // 100 - 1)] * 100)
            row = {"id": f"q{number}", "question": "is it so", "passage": words, "answer": number % 2 == 0}
            lines.write(json.dumps(row) + "\n")
    return file


def experiment(base: str, folder: Path, count: int) -> int:
    """Makes a preset's teacher, knowledge and student on `count` long texts; returns the number of stored examples."""
    texts(folder / "boolq" / "train.jsonl", count)
    settings = {
        "columns": [{"setting": "in-domain", "train": "boolq", "test": ["boolq"]}],
        "data": {"source": "hub", "folder": str(folder)},
        "sizes": {"train": count, "validation": 8, "test": 8},
        "teacher": {"base": base},
        "student": {"base": base},
        "training": {"epochs": 1, "global_batch_size": 8},
        "knowledge": {"batch_size": 8},
    }
    (folder / "preset.yaml").write_text(yaml.safe_dump(settings))
    found = Experiment(str(folder / "preset.yaml"), run_folder=str(folder))
    found.student("first", "boolq")
    return len(found.knowledge("boolq"))


def main(base: str, folder: Path, allowance: float) -> None:
    torch.set_num_threads(1)

    data = int(TIMES * allowance * MB)
    examples, questions = data * 7 // 8 // (POSITIONS * BYTES), data // 8 // TEXT  # text takes longest
    for once in ("loads", "little"):  # the second run needs no further loading
        with Peak(0.0005) as little:
            knowledge(folder / once, 300, 2)
            experiment(base, folder / f"{once}-text", 40)
    limit(little.most, int(allowance * MB))
    found = {}
    with Peak(0.05) as much:
        found["positions"], found["of"] = knowledge(folder / "much", examples, 20), examples * POSITIONS
        found["questions"], found["asked"] = experiment(base, folder / "much-text", questions), questions
    print(json.dumps({**found, "more": (much.most - little.most) / MB}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
