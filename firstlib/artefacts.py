"""Where results live: one folder a stage, named by the hash of all that went into it, complete or absent."""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from firstlib.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
PAPER_TABLE = PROJECT / "data" / "paper_table1.csv"
MANIFEST = "manifest.json"
_RECORDED = ("firstlib", "torch", "transformers", "peft", "numpy", "pyarrow")


def project_path(path: str | Path) -> Path:
    """The path as it is if absolute, else below the project's own folder, wherever a notebook runs."""
    return PROJECT / Path(path).expanduser()


def run_folder(runs: str, preset: str, seed: int, overrides: Sequence[str] = ()) -> Path:
    """Where a run keeps everything: `runs/<preset>/seed-<n>`, with a mark where settings were overridden.

    Raises:
        UserError: Something on the way is a file.
    """
    mark = f"-{content_key(sorted(overrides))[:6]}" if overrides else ""
    folder = project_path(runs) / f"{Path(preset).stem}{mark}" / f"seed-{seed}"
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"run folder {folder}: {place} is a file; give a folder")
    return folder


def content_key(content: Any) -> str:
    """A short hash of anything that JSON can hold, independent of the order of keys.

    >>> content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def files_key(files: Iterable[Path]) -> str:
    """A hash of files' names and bytes."""
    return content_key([(path.name, _sha256(path)) for path in sorted(files)])


@dataclass(frozen=True)
class Artefacts:
    """The finished stages below one folder."""

    folder: Path

    def get(self, stage: str, inputs: dict[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder of a stage: the one there is, or else what `make` writes to a temporary one, renamed when done."""
        key = content_key(inputs)
        final = self.folder / f"{stage}-{key}"
        if (final / MANIFEST).is_file():
            return final
        temporary = self.folder / f".{stage}-{key}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        started = time.monotonic()
        make(temporary)
        write_manifest(temporary, stage=stage, key=key, inputs=inputs, seconds=time.monotonic() - started)
        return _publish(temporary, final)

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of all finished stages, oldest first, each with the bytes that its folder takes."""
        found = [json.loads(path.read_text()) for path in self.folder.glob(f"*-*/{MANIFEST}")]
        return sorted(found, key=lambda manifest: manifest["finished"])


def write_manifest(folder: Path, *, stage: str, key: str, inputs: dict[str, Any], seconds: float) -> None:
    """What made this folder, with what versions, in how long, and the hash of every file in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "stage": stage,
        "key": key,
        "inputs": inputs,
        "seconds": round(seconds, 2),
        "finished": time.time(),
        "bytes": sum(path.stat().st_size for path in files),
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _RECORDED}},
    }
    write_json(folder / MANIFEST, manifest)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _publish(temporary: Path, final: Path) -> Path:
    try:
        temporary.rename(final)
    except OSError:  # another process finished the same stage first: its result is the same
        if not (final / MANIFEST).is_file():
            raise
        shutil.rmtree(temporary)
    return final


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
