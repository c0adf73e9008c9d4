"""Paths of the project folder and of each run."""

import os
from collections.abc import Sequence
from pathlib import Path

from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import content_hash

PROJECT = Path(__file__).resolve().parents[2]
PAPER_TABLE = PROJECT / "data" / "paper_table1.csv"
YAML = (".yaml", ".yml")  # a preset with such an ending is a file, any other a name
RESULTS = "results.json"  # in a run folder: everything that the run reports
CHOSEN = "chosen.json"  # in a run folder: coefficients chosen by hand


def project_path(path: str | Path) -> Path:
    """Resolves a relative path against the project folder, whatever the working directory.

    Absolute paths are returned unchanged; `~` and `$VARIABLES` are expanded.
    """
    return PROJECT / Path(os.path.expandvars(path)).expanduser()


def preset_name(preset: str) -> str:
    """Returns the name of a preset given by name or as a YAML file.

    >>> preset_name("qwen2.5-7b-0.5b"), preset_name("my/own.yaml")
    ('qwen2.5-7b-0.5b', 'own')
    """
    path = Path(preset)
    return path.stem if path.suffix in YAML else path.name


def absolute_preset(preset: str | Path) -> str:
    """Returns a preset's name as it is, and a YAML file's path so that it holds in any working directory.

    >>> absolute_preset("qwen2.5-7b-0.5b"), absolute_preset("own.yaml") == str(Path.cwd() / "own.yaml")
    ('qwen2.5-7b-0.5b', True)
    """
    path = Path(preset)
    return str(path.absolute() if path.suffix in YAML else preset)


def run_folder(runs: str, preset: str, seed: int, overrides: Sequence[str] = ()) -> Path:
    """Returns a run's folder, `runs/<preset>/seed-<n>`; overrides append a hash to the preset's name.

    Raises:
        UserError: Part of the path is a file, or the path contains a null character.
    """
    if "\0" in runs:
        raise UserError(f"run folder {runs!r}: a path cannot contain a null character; choose another")
    mark = f"-{content_hash(sorted(overrides))[:6]}" if overrides else ""
    folder = project_path(runs) / f"{preset_name(preset)}{mark}" / f"seed-{seed}"
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"run folder {folder}: {place} is a file; choose a folder")
    return folder
