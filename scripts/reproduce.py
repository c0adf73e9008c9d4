"""How nearly this machine repeats kept results: a column of kept cells is computed again.

    python -m scripts.reproduce alpaca microworld-seed-0 microworld-seed-1

Prints Trust of the teacher, of fine-tuning and of FIRST on each test set, kept and here, in percent, and then the mean
difference. Nothing kept is changed.
"""

import json
import sys
from collections.abc import Iterator
from statistics import mean

from firstlib.experiment import summary
from firstlib.results import study
from firstlib.settings.schema import Task

METHODS = ("teacher", "fine-tune", "first")
Place = tuple[str, str]  # method and test set


def main(train: Task, names: list[str]) -> None:
    """Prints a line for each cell, method and test set, and the mean difference of each method and test set."""
    gaps: dict[Place, list[float]] = {}
    for name in names:
        for place, kept, here in compared(study.cell_of(name), train):
            gaps.setdefault(place, []).append(here - kept)
            print(f"{name}  {' on '.join(place)}: kept {kept:.1f}, here {here:.1f}", flush=True)
    for place, found in gaps.items():
        print(f"{' on '.join(place)}: {mean(found):+.1f} points ({min(found):+.1f} to {max(found):+.1f})")


def compared(cell: study.Cell, train: Task) -> Iterator[tuple[Place, float, float]]:
    """Yields method and test set with Trust as kept and as computed here, in percent."""
    kept = {
        (row["setting"], row["method"], row["dataset"]): row["trust"]
        for row in json.loads(cell.file.read_text(encoding="utf-8"))["rows"]
    }
    experiment = cell.experiment("runs/reproduced")
    for row in summary.rows(experiment.run, names=METHODS, tasks=(train,)):
        found = row.flat()
        place = (found["method"], found["dataset"])
        yield place, 100 * kept[found["setting"], *place], 100 * found["trust"]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])  # type: ignore[arg-type]
