"""Runs every comparison and writes the medians.

Parity is checked first. Then the variants run in interleaved rounds, each in its own process.
`python -m benchmarks [module ...]` keeps the results of modules that are not named. Without names it runs all but those
that take longer, which `make bench-real` names.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.measure import output_of
from firstlib.results.markup import with_block

HERE = Path(__file__).parent
MODULES = (
    "loss", "extraction", "reading", "store", "calibration", "audit", "answering", "step", "training", "preambles",
    "micro_batches", "bfloat16",
)  # fmt: skip
LONG = ("training", "preambles", "micro_batches", "bfloat16")  # a step of a real model's shape takes a minute
ROUNDS = {"calibration": 3, **dict.fromkeys(LONG, 1)}  # the others run two
BEGIN, END = "<!-- results: make bench -->", "<!-- end of results -->"
console = Console(stderr=True)


@dataclass(frozen=True)
class Row:
    """One comparison: two variants, the figure that is compared, and its goal."""

    name: str
    figure: str
    unit: str
    ours: str
    theirs: str
    peer: str
    goal: str


def child(module: str, variant: str) -> dict[str, Any]:
    """Runs a variant in its own process and returns its report."""
    command = [sys.executable, "-m", "benchmarks.measure", module, variant]
    told = output_of(f"{module}, {variant}", command, {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
    return json.loads(told.strip().splitlines()[-1])


def medians(module: str, variants: list[str]) -> dict[str, dict[str, float]]:
    """Runs the variants in interleaved rounds and returns the median of each figure."""
    reports: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    rounds = ROUNDS.get(module, 2)
    for turn in range(rounds):
        for variant in variants:
            reports[variant].append(child(module, variant))
            console.print(f"{module} {turn + 1}/{rounds} {variant}: {reports[variant][-1]}", highlight=False)
    return {v: {name: median(r[name] for r in found) for name in found[0]} for v, found in reports.items()}


def results(module: str) -> list[dict[str, Any]]:
    """Checks a module's parity and returns its rows."""
    console.print(f"[bold]{module}[/]: parity", child(module, "parity"))
    source = importlib.import_module(f"benchmarks.{module}")
    found = medians(module, list(source.VARIANTS))
    lines = []
    for row in (Row(*fields) for fields in source.ROWS):
        ours, theirs = found[row.ours][row.figure], found[row.theirs][row.figure]
        line = {"name": f"{module}: {row.name}", "ours": ours, "theirs": theirs, "peer": row.peer, "unit": row.unit}
        lines.append({**line, "ratio": ours / theirs, "goal": row.goal})
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    head = "| what | unit | ours | theirs | ours / theirs | beside | goal |\n|---|---|---:|---:|---:|---|---|\n"
    return head + "\n".join(_cells(line) for line in lines)


def _cells(line: dict[str, Any]) -> str:
    ours, theirs = (f"{line[side]:,.4g}" for side in ("ours", "theirs"))
    cells = (line["name"], line["unit"], ours, theirs, f"{line['ratio']:.3g}", line["peer"], line["goal"])
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Writes `results.json` and the table in `README.md`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("modules", nargs="*", choices=MODULES, help="none: all but " + ", ".join(LONG))
    started, chosen = time.monotonic(), parser.parse_args().modules or [name for name in MODULES if name not in LONG]
    file, page = HERE / "results.json", HERE / "README.md"
    old = json.loads(file.read_text()) if file.is_file() else []
    new = {module: results(module) for module in chosen}
    lines = [line for m in MODULES for line in new.get(m, [x for x in old if x["name"].startswith(f"{m}:")])]
    file.write_text(json.dumps(lines, indent=1) + "\n")
    took = f"{time.monotonic() - started:.0f} s for {', '.join(chosen)}"
    stamp = f"{os.cpu_count()} CPU cores, {platform.machine()}; {took}."
    page.write_text(with_block(page.read_text(), BEGIN, END, f"{table(lines)}\n\n{stamp}"))


if __name__ == "__main__":
    main()
