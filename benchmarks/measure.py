"""Measures one variant in its own process: `python -m benchmarks.measure <module> <variant>` prints JSON."""

import gc
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Work = Callable[[], dict[str, Any]]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(kind: str) -> float:
    """This process's memory in MiB: the current value (`VmRSS`) or the peak since the last reset (`VmHWM`)."""
    found = re.search(rf"{kind}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024


def measured(work: Work) -> dict[str, Any]:
    """Runs `work` and adds to its report its seconds and its peak above the starting memory, in MiB.

    If `work` reports `seconds` itself (because it repeats something short), that value is kept.
    """
    gc.collect()
    CLEAR.write_text("5")
    before, started = memory("VmRSS"), time.perf_counter()
    report = work()
    took = time.perf_counter() - started
    return {"seconds": took, "MiB": max(memory("VmHWM") - before, 0.0), **report}


def best_of(times: int, work: Callable[[], Any]) -> float:
    """The seconds of the fastest of several runs, after a warm-up run."""
    work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def output_of(name: str, command: Sequence[str], variables: Mapping[str, str]) -> str:
    """Runs a command from the repository's root with more environment variables, and returns its standard output.

    Stops the benchmark with the end of the command's messages where it fails.
    """
    environment, root = {**os.environ, **variables}, Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}:\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    module, variant = importlib.import_module(f"benchmarks.{sys.argv[1]}"), sys.argv[2]
    result = module.parity() if variant == "parity" else measured(module.VARIANTS[variant]())
    print("\n" + json.dumps(result or {}))
