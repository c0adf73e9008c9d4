"""Audits of many answers: a million rows from Parquet, and a log of MMLU's size, beside packages that measure less."""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import calibration
from benchmarks.measure import Work
from firstlib.metrics import ece

MILLION, MMLU, SUBJECTS = 1_000_000, 14_042, 57
PROMPT = "The following are multiple choice questions with answers.\n\n" + "An example question and its answer. " * 60


def parquet(folder: Path, n: int = MILLION) -> Path:
    """Writes confidences and correctness of n answers."""
    confidence, correct = calibration.answers(n)
    pq.write_table(pa.table({"confidence": confidence, "correct": correct}), folder / "answers.parquet")
    return folder / "answers.parquet"


def mmlu(folder: Path, n: int = MMLU) -> Path:
    """Writes logs of lm-evaluation-harness for n questions with four choices on 57 subjects."""
    rng = np.random.default_rng(0)
    scores = rng.normal(-4, 2, (n, 4)).clip(max=-0.01)
    for number in range(SUBJECTS):
        rows = [json.dumps(_sample(i, scores[i])) for i in range(number, n, SUBJECTS)]
        (folder / f"samples_mmlu_{number}_2026-01-01T00-00-00.000000.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def _sample(number: int, scores: np.ndarray) -> dict[str, Any]:
    pairs = {f"gen_args_{i}": {"arg_0": f"{PROMPT}{number}", "arg_1": f" {letter}"} for i, letter in enumerate("ABCD")}
    found = [[str(score), "False"] for score in scores]
    target = number % 4
    return {
        "doc_id": number, "doc": {"question": f"question {number}", "answer": target}, "target": str(target),
        "arguments": pairs, "resps": [[one] for one in found], "filtered_resps": found, "filter": "none",
        "metrics": ["acc"], "doc_hash": f"{number:064x}", "acc": float(scores.argmax() == target),
    }  # fmt: skip


def ours(make: Callable[[Path], Path]) -> Work:
    """Times a whole audit: reading, every measure with its intervals, and both files; peak memory of the process."""

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            place = make(Path(name))
            started = perf_counter()
            from firstlib import audit

            audit(place).save(Path(name) / "audit")
            return {"seconds": perf_counter() - started}

    return work


def theirs(measure: Callable[[np.ndarray, np.ndarray], Any]) -> Work:
    """Times a package's one measure on a million rows from Parquet, without any interval."""

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            place = parquet(Path(name))
            started = perf_counter()
            table = pq.read_table(place)
            measure(table["confidence"].to_numpy(), table["correct"].to_numpy())
            return {"seconds": perf_counter() - started}

    return work


def parity() -> dict[str, float]:
    """Checks that the audit's ECE is the packages' own."""
    from firstlib import audit

    confidence, correct = calibration.answers(calibration.MIDDLE)
    found = audit(confidence=confidence, correct=correct, bins=calibration.BINS)
    assert abs(found.ece - ece(confidence, correct, calibration.BINS)) < 1e-12
    peers = (calibration.torchmetrics_ece, calibration.netcal_ece, calibration.sklearn_ece)
    gaps = [abs(found.ece - peer(confidence, correct)) for peer in peers]
    gaps.append(abs(found.first.errors.smooth_ece - calibration.relplot_smooth(confidence, correct)))
    assert max(gaps) < 1e-6, gaps
    return {"largest difference": max(gaps)}


VARIANTS = {
    "a million rows": partial(ours, parquet),
    "a log of MMLU": partial(ours, mmlu),
    "netcal": partial(theirs, calibration.netcal_ece),
    "torchmetrics": partial(theirs, calibration.torchmetrics_ece),
    "relplot": partial(theirs, calibration.relplot_smooth),
}
_ALL = "1M rows of Parquet, every measure with intervals (theirs: one measure, no interval)"
ROWS = [
    (_ALL, "seconds", "s", "a million rows", "netcal", "netcal 1.4, ECE", "at most 10"),
    (_ALL, "seconds", "s", "a million rows", "torchmetrics", "torchmetrics 1.9, ECE", "at most 10"),
    (_ALL, "seconds", "s", "a million rows", "relplot", "relplot 1.0, smooth ECE", "at most 10"),
    ("1M rows, peak memory", "MiB", "MiB", "a million rows", "relplot", "relplot 1.0, smooth ECE", "at most 477"),
    ("a log of MMLU's size", "seconds", "s", "a log of MMLU", "netcal", "netcal 1.4, ECE of 1M rows", "at most 5"),
]  # fmt: skip
