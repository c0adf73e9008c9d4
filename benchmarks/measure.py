"""One variant in a process of its own: `python -m benchmarks.measure <module> <variant>` prints its cost as JSON."""

import gc
import importlib
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[], dict[str, Any]]
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(kind: str) -> float:
    """MiB of this process now (`VmRSS`) or at its highest since the last reset (`VmHWM`)."""
    found = re.search(rf"{kind}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024


def measured(work: Work) -> dict[str, Any]:
    """What `work` reports, with its seconds and its peak above what was there before, in MiB.

    A work that reports `seconds` itself (because it repeats something short) is believed.
    """
    gc.collect()
    CLEAR.write_text("5")
    before, started = memory("VmRSS"), time.perf_counter()
    report = work()
    took = time.perf_counter() - started
    return {"seconds": took, "MiB": max(memory("VmHWM") - before, 0.0), **report}


def best_of(times: int, work: Callable[[], Any]) -> float:
    """The least seconds of several runs, after one that does not count."""
    work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    module, variant = importlib.import_module(f"benchmarks.{sys.argv[1]}"), sys.argv[2]
    result = module.parity() if variant == "parity" else measured(module.VARIANTS[variant]())
    print("\n" + json.dumps(result or {}))
