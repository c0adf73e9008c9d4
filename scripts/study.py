"""Computes the study's cells that are not kept yet: `make seeds`, `make beyond`, `make map`, `make pretrained`.

Each cell runs in its own process and is kept as `data/results/<cell>.json`. A killed study resumes: finished cells are
kept, and an unfinished one continues from its finished stages.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from firstlib.results import study
from firstlib.results.study import Cell
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import PROJECT
from firstlib.runtime.progress import steps


def main() -> None:
    """Computes the named cells or groups, or lists the cells of a group that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", help=f"cells, or groups of them: {', '.join(study.GROUPS)}")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each in its own process")
    parser.add_argument("--list", action="store_true", help="print the cells that are missing; compute nothing")
    parser.add_argument("--here", action="store_true", help="compute one cell in this process")
    options = parser.parse_args()
    cells = missing(options.names)
    if options.list:
        print("\n".join(cell.name for cell in cells))
    elif options.here:
        compute_here(cells)
    else:
        compute(cells, options.jobs)


def missing(names: Sequence[str]) -> list[Cell]:
    """Returns the cells of these names and groups that are not kept yet, or lack a method."""
    groups = [list(study.GROUPS[name]()) if name in study.GROUPS else [_cell(name)] for name in names]
    return [cell for cells in groups for cell in cells if not study.is_complete(cell)]


def _cell(name: str) -> Cell:
    try:
        return study.cell_of(name)
    except KeyError:
        sys.exit(f"{name}: no such cell or group; the groups are {', '.join(study.GROUPS)}")


def compute_here(cells: Sequence[Cell]) -> None:
    """Computes cells in this process; a missing model or data set is told in one line."""
    for cell in cells:
        try:
            study.compute(cell)
        except UserError as error:
            sys.exit(f"{cell.name}: {error}")


def compute(cells: Sequence[Cell], jobs: int) -> None:
    """Computes cells, each in its own process; a failed one is reported at the end and does not stop the others."""
    failed = []
    with ThreadPoolExecutor(jobs) as pool, steps("cells", len(cells)) as at:
        started = {pool.submit(_in_own_process, cell): cell for cell in cells}
        for done, future in enumerate(as_completed(started), 1):
            if future.result():
                failed.append(started[future].name)
            at(done)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; run again to resume")


def _in_own_process(cell: Cell) -> int:
    command = [sys.executable, "-m", "scripts.study", "--here", cell.name]
    return subprocess.run(command, cwd=PROJECT, env={**os.environ, "TQDM_DISABLE": "1"}, check=False).returncode


if __name__ == "__main__":
    main()
