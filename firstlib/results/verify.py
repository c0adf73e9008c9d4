"""Verification: recomputes every number of a run's results from the answers that the run keeps."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from firstlib.experiment import Experiment
from firstlib.runtime.artefacts import MANIFEST, check
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import RESULTS

Leaf = str | float | bool | None


def verify(experiment: Experiment) -> int:
    """Compares files with their manifests, and results with what the kept answers give. Returns how many values agree.

    Nothing is trained or asked: a missing artefact is an error.

    Raises:
        UserError: There are no results, a file was changed, an artefact is missing, or a value differs; names it.
    """
    file = check_ran(experiment)
    for manifest in sorted(experiment.folder.glob(f"*-*/{MANIFEST}")):
        check(manifest.parent)
    written, computed = _written(file), _read(json.dumps(experiment.sealed().results()))
    for place in sorted(written.keys() | computed.keys()):
        if not _same(written.get(place), computed.get(place)):
            has, gives = written.get(place), computed.get(place)
            raise UserError(f"{file}: {place} is {has!r}, but the kept answers give {gives!r}; run again")
    return len(written)


def check_ran(experiment: Experiment) -> Path:
    """Returns the file of a run's results.

    Raises:
        UserError: There is no run.
    """
    file = experiment.folder / RESULTS
    if not file.is_file():
        raise UserError(f"run folder {experiment.folder}: there is no results.json; run it first, with `first run`")
    return file


def _written(file: Path) -> dict[str, Leaf]:
    try:
        return _read(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: is not readable as JSON ({error}); run again") from error


def _read(text: str) -> dict[str, Leaf]:
    """Returns every value of a JSON text by its place.

    >>> _read('{"rows": [{"n": 8}], "seed": 0}')
    {'rows/0/n': 8, 'seed': 0}
    """
    return dict(_leaves(json.loads(text), ""))


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from _leaves(inner, f"{place}/{name}" if place else str(name))
    else:
        yield place, value


def _same(first: Leaf, second: Leaf) -> bool:
    """Whether two values are equal; numbers up to rounding, which differs between processors."""
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    return first == second
