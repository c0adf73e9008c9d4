"""Where things are: the project's folder, and each run's."""

import os
from collections.abc import Sequence
from pathlib import Path

from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import content_hash

PROJECT = Path(__file__).resolve().parents[2]
PAPER_TABLE = PROJECT / "data" / "paper_table1.csv"
CHOSEN = "chosen.json"  # in a run's folder: coefficients chosen by hand


def project_path(path: str | Path) -> Path:
    """An absolute path as it is, a relative one below the project's folder, wherever a notebook runs.

    `~` and `$VARIABLES` are expanded.
    """
    return PROJECT / Path(os.path.expandvars(path)).expanduser()


def preset_name(preset: str) -> str:
    """A preset's name, whether it is given by name or as a file.

    >>> preset_name("qwen2.5-7b-0.5b"), preset_name("my/own.yaml")
    ('qwen2.5-7b-0.5b', 'own')
    """
    path = Path(preset)
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def run_folder(runs: str, preset: str, seed: int, overrides: Sequence[str] = ()) -> Path:
    """A run's folder: `runs/<preset>/seed-<n>`; overrides add a hash to the preset's name.

    Raises:
        UserError: A part of the path is a file, or is not a valid name.
    """
    if "\0" in runs:
        raise UserError(f"run folder {runs!r}: a name cannot hold that character; give another")
    mark = f"-{content_hash(sorted(overrides))[:6]}" if overrides else ""
    folder = project_path(runs) / f"{preset_name(preset)}{mark}" / f"seed-{seed}"
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"run folder {folder}: {place} is a file; give a folder")
    return folder
