"""A cold run: how long the notebooks take, how much of it is computation, and what two cores could do at best.

`python -m benchmarks.cold` runs the microworld's notebooks in a new folder, in about seven minutes, and again. Then it
times the commands that read the finished run, and writes `cold.json` and the table.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import output_of
from firstlib.results.markup import with_block
from firstlib.runtime.artefacts import Artefacts
from firstlib.runtime.files import write_json, write_text
from firstlib.runtime.paths import run_folder

KEPT, README = Path(__file__).parent / "cold.json", Path(__file__).parent / "README.md"
BEGIN, END = "<!-- cold: python -m benchmarks.cold -->", "<!-- end of cold -->"
CORES = 2
TIMES = 3  # of each short command; the fastest counts
FIRST = ("-m", "firstlib.cli")
IMPORT = "import time; started = time.perf_counter(); import firstlib; print(time.perf_counter() - started)"
LLAMA = "from transformers import LlamaForCausalLM"  # what an export cannot do without


def measure(runs: str, preset: str = "microworld") -> dict[str, Any]:
    """Runs a preset's notebooks in a new folder, and again; returns seconds, shares and bytes."""
    whole = _seconds(runs, preset)
    folder = run_folder(runs, preset, 0)
    cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
    stages = [(one["finished"] - one["seconds"], one["finished"]) for one in Artefacts(folder).manifests()]
    notebooks = sum(cost["seconds"].values())
    return {
        "run": whole,
        "again": _seconds(runs, preset),
        "notebooks": notebooks,
        "in stages": union(stages) / notebooks,
        "stages": sum(end - start for start, end in stages),
        "peak": cost["peak_memory_bytes"],
        "commands": commands(runs, preset),
    }


def commands(runs: str, preset: str) -> dict[str, float]:
    """Returns the seconds that short commands take on a finished run, each the fastest of a few."""
    finished = ("--preset", preset, "--runs", runs)
    short = {
        "first --help": (*FIRST, "--help"),
        "first table": (*FIRST, "table", *finished),
        "first export": (*FIRST, "export", "first", "csqa", "--to", f"{runs}/exported", *finished),
        "import Llama": ("-c", LLAMA),
    }
    return {
        "import firstlib": min(float(output_of("import", [sys.executable, "-c", IMPORT], {})) for _ in range(TIMES)),
        **{name: min(_timed(*command) for _ in range(TIMES)) for name, command in short.items()},
    }


def _seconds(runs: str, preset: str) -> float:
    return _timed(*FIRST, "run", "--preset", preset, "--runs", runs)


def _timed(*command: str) -> float:
    started = time.monotonic()
    output_of(" ".join(command), [sys.executable, *command], {})
    return time.monotonic() - started


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Returns how much time at least one of the spans covers.

    >>> union([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    covered, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def table(found: dict[str, Any]) -> str:
    """Returns the measurements in Markdown."""
    rows = {
        "all notebooks, s": f"{found['notebooks']:.0f}",
        "of it with a stage in progress": f"{found['in stages']:.0%}",
        "stages, core-seconds": f"{found['stages']:.0f}",
        f"stages alone on {CORES} cores, never waiting, s": f"{found['stages'] / CORES:.0f}",
        "peak memory of all processes, GB": f"{found['peak'] / 1e9:.2f}",
        "the whole command, s": f"{found['run']:.0f}",
        "the same again, s": f"{found['again']:.1f}",
        "`import firstlib`, ms": f"{1000 * found['commands']['import firstlib']:.0f}",
        "`first --help`, s": f"{found['commands']['first --help']:.2f}",
        "`first table`, s": f"{found['commands']['first table']:.1f}",
        "`first export first csqa`, s": f"{found['commands']['first export']:.1f}",
        f"of it `{LLAMA}`, s": f"{found['commands']['import Llama']:.1f}",
    }
    return "| a cold run of the microworld | |\n|---|---:|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows.items())


def main() -> None:
    """Measures in a temporary folder and writes the results."""
    with tempfile.TemporaryDirectory() as runs:
        found = measure(runs)
    write_json(KEPT, found)
    write_text(README, with_block(README.read_text(encoding="utf-8"), BEGIN, END, table(found)))


if __name__ == "__main__":
    main()
