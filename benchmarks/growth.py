"""How time and memory grow with the data: extraction, store, training, report and audit at 1x, 10x and 100x.

`python -m benchmarks.growth` runs each in its own process, takes about ten minutes, and writes `growth.json` and the
table. Growth is the slope between 10x and 100x on logarithmic axes: 1 is proportional, 0 is constant.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audit import parquet
from benchmarks.measure import Work, measured, output_of
from firstlib.results.markup import with_block
from firstlib.runtime.files import write_json, write_text

KEPT, README = Path(__file__).parent / "growth.json", Path(__file__).parent / "README.md"
BEGIN, END = "<!-- growth: python -m benchmarks.growth -->", "<!-- end of growth -->"
TIMES, K, RESPONSE = (1, 10, 100), 5, 7
UNITS = {"extraction": 24, "store": 2_000, "training": 64, "report": 20, "audit": 10_000}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
LAUNCH = ("--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
          "--main_process_port", "0")  # fmt: skip
WHAT = {
    "extraction": "examples",
    "store": "examples",
    "training": "examples",
    "report": "questions",
    "audit": "answers",
}


def extraction(count: int) -> Work:
    """Extracts the microworld's student on CSQA-like examples."""
    from firstlib.knowledge import extract_top_k
    from firstlib.models.loading import load_base

    encoded, model = _examples(count), load_base(_student())
    return lambda: {"done": sum(1 for _ in extract_top_k(model, encoded, K))}


def store(count: int) -> Work:
    """Writes a store and reads it into shuffled batches."""
    from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store

    rng = np.random.default_rng(0)
    ids, q = rng.integers(0, 32_000, (RESPONSE, K)), rng.dirichlet(np.ones(K + 1), RESPONSE)
    position, none = np.arange(60, 60 + RESPONSE), np.zeros((RESPONSE, 0))
    origin = Origin(teacher="bench", tokenizer="bench", data="bench", k=K)

    def entries() -> Iterator[TopK]:
        return (TopK(f"question-{i:09d}", position, ids, q[:, :K], q[:, K], none) for i in range(count))

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            write_store(folder, entries(), origin)
            opened = KnowledgeStore(folder, origin)
            return {"done": sum(len(opened[f"question-{i:09d}"].position) for i in rng.permutation(count))}

    return work


def training(count: int) -> Work:
    """Distils the microworld's student for one epoch."""
    from benchmarks.step import soft
    from firstlib.distillation.training import TrainingRun, distill
    from firstlib.models.loading import load_base
    from firstlib.settings.schema import Training

    model, targets = load_base(_student()), soft(_examples(count), 400)
    return lambda: {"done": len(distill(model, targets, Training(epochs=1), TrainingRun(1e-5, 0)))}


def report(count: int) -> Work:
    """Writes the report of a finished run with so many test questions."""
    from firstlib import Experiment
    from firstlib.results.report import write_report

    folder = tempfile.mkdtemp()
    experiment = Experiment("smoke", 0, folder, [f"sizes.test={count}"])
    experiment.results()
    return lambda: {"done": write_report(experiment).stat().st_size}


def audit(count: int) -> Work:
    """Audits a table of answers."""
    from firstlib import audit as audited

    folder = Path(tempfile.mkdtemp())
    place = parquet(folder, count)
    return lambda: {"done": len(audited(place).save(folder / "audit"))}


def _student() -> Any:
    from firstlib.settings.schema import Model

    return Model(base="data/microworld/student")


def _examples(count: int) -> list[Any]:
    from firstlib.models.loading import load_tokenizer
    from firstlib.tasks import microworld
    from firstlib.tasks.encoding import encode

    tokenizer = load_tokenizer(_student())
    questions = microworld.ask(microworld.make_world(), "csqa", "train", min(count, 960), 0)
    encoded = [encode(tokenizer, question.example()) for question in questions]
    again = (encoded * (count // len(encoded) + 1))[:count]
    return [type(one)(f"{one.id}-{i}", one.token_ids, one.start) for i, one in enumerate(again)]


STAGES: dict[str, Callable[[int], Work]] = {
    "extraction": extraction, "store": store, "training": training, "report": report, "audit": audit,
}  # fmt: skip


def child(stage: str, count: int) -> dict[str, float]:
    """Runs a stage in its own process with one thread; returns its seconds and its peak above the start, in MiB."""
    command = [sys.executable, "-m", "benchmarks.growth", "--stage", stage, "--count", str(count)]
    found: dict[str, float] = json.loads(output_of(f"{stage}, {count}", command, ONE_THREAD).splitlines()[-1])
    return found


def index_bytes(count: int = 200_000) -> float:
    """Returns the memory that an open store takes for each example: its index by id."""
    import tracemalloc

    from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store

    origin = Origin(teacher="bench", tokenizer="bench", data="bench", k=K)
    ids, q, position = np.arange(K)[None], np.full((1, K), 0.19), np.array([60])
    rest, none = np.array([0.05]), np.zeros((1, 0))
    entries = (TopK(f"question-{i:09d}", position, ids, q, rest, none) for i in range(count))
    with tempfile.TemporaryDirectory() as folder:
        write_store(folder, entries, origin)
        tracemalloc.start()
        opened = KnowledgeStore(folder, origin)
        examples = len(opened)  # builds the index
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held / examples


def processes() -> dict[str, dict[str, float]]:
    """Seconds of two stages by number of processes (gloo), one thread each."""
    found: dict[str, dict[str, float]] = {}
    for number in (1, 2):
        with tempfile.TemporaryDirectory() as runs:
            _launch(number, runs)
            for manifest in Path(runs).rglob("manifest.json"):
                content = json.loads(manifest.read_text())
                stage = {"teacher-csqa": "training", "knowledge-csqa-train-top5": "extraction"}.get(content["stage"])
                if stage:
                    found.setdefault(stage, {})[str(number)] = content["seconds"]
    return found


def _launch(number: int, runs: str) -> None:
    """Extracts in so many processes of one thread; accelerate starts several on CPUs if this variable is set."""
    launch = ["-m", "accelerate.commands.launch", *LAUNCH, "--num_processes", str(number)]
    command = ["-m", "firstlib.cli", "stage", "knowledge", "csqa", "--preset", "microworld", "--runs", runs]
    settings = ["--set", "threads=1", "--set", "sizes.train=2400"]
    parts = [sys.executable, *(launch if number > 1 else []), *command, *settings]
    output_of(f"{number} processes", parts, {**ONE_THREAD, "ACCELERATE_USE_CPU": "true"})


def growth(small: float, large: float) -> float:
    """Returns the exponent between ten times and a hundred times the data.

    >>> growth(2.0, 20.0)
    1.0
    """
    return math.log10(large / small) if small > 0 and large > 0 else float("nan")


def table(found: dict[str, Any]) -> str:
    """Returns the measurements in Markdown."""
    head = "| stage | data, 1x | s, 1x | 10x | 100x | growth | MiB, 1x | 10x | 100x |\n|---|---|" + "---:|" * 7 + "\n"
    rows = []
    for stage, by_times in found["stages"].items():
        seconds, memory = ([by_times[str(times)][key] for times in TIMES] for key in ("seconds", "MiB"))
        cells = [*(f"{one:.3g}" for one in seconds), f"{growth(*seconds[1:]):.2f}", *(f"{one:.0f}" for one in memory)]
        rows.append(f"| {stage} | {UNITS[stage]:,} {WHAT[stage]} | " + " | ".join(cells) + " |")
    shared = ", ".join(f"{stage} {of['1']:.0f} s and {of['2']:.0f} s" for stage, of in found["processes"].items())
    return f"{head}{chr(10).join(rows)}\n\nWith one and with two processes of one thread each (gloo): {shared}."


def main() -> None:
    """Measures all stages, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(measured(STAGES[options.stage](options.count))))
        return
    found: dict[str, Any] = {"stages": {}, "processes": {}}
    for stage, unit in UNITS.items():
        found["stages"][stage] = {str(times): child(stage, unit * times) for times in TIMES}
        print(stage, found["stages"][stage], flush=True)
    found["processes"], found["index bytes"] = processes(), index_bytes()
    write_json(KEPT, found)
    write_text(README, with_block(README.read_text(encoding="utf-8"), BEGIN, END, table(found)))


if __name__ == "__main__":
    main()
