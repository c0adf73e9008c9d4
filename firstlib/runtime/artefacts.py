"""Finished stages on disk: one folder each, named by the hash of its inputs, complete or absent."""

import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from firstlib.runtime import distributed
from firstlib.runtime.errors import MissingStageError, UserError
from firstlib.runtime.files import disk_is_full, write_json
from firstlib.runtime.hashing import content_hash, file_hash, library_hash
from firstlib.runtime.progress import steps
from firstlib.runtime.threads import cpu_threads

MANIFEST = "manifest.json"
_RECORDED = ("firstlib", "torch", "transformers", "peft", "numpy", "pyarrow")


@dataclass(frozen=True)
class Artefacts:
    """The finished stages in one folder.

    Attributes:
        folder: Holds one folder for each stage, and the locks.
        sealed: Whether a missing stage is an error instead of being computed.
        on_get: Called with the folder of every stage that is asked for.
    """

    folder: Path
    sealed: bool = False
    on_get: Callable[[Path], None] | None = None

    def get(
        self,
        stage: str,
        inputs: dict[str, Any],
        make: Callable[[Path], None],
        *,
        together: bool = False,
        threads: int | None = None,
    ) -> Path:
        """Returns the folder of a stage, computing it if it does not exist yet.

        `make` writes to a temporary folder, which is renamed when complete. Waits if another run is already building
        this stage. Under `accelerate launch`, only rank 0 calls `make` and the others wait; with `together`, all ranks
        call it, on the same temporary folder. Torch then has so many CPU `threads`.

        Raises:
            UserError: The existing folder is damaged, the stage is missing and `sealed` is set, or the disk is full.
        """
        key = content_hash(inputs)
        final = self.folder / f"{stage}-{key}"
        if self.on_get:
            self.on_get(final)
        if distributed.broadcast((final / MANIFEST).is_file()):
            check(final)
            return final
        if self.sealed:
            raise MissingStageError(f"{final} is missing; run again")
        with _explain_full_disk(final), self._locked(final.name), cpu_threads(threads):
            if not distributed.broadcast((final / MANIFEST).is_file()):
                self._make(stage, key, inputs, make, final, together)
        return final

    def _make(
        self, stage: str, key: str, inputs: dict[str, Any], make: Callable[[Path], None], final: Path, together: bool
    ) -> None:
        first, started = distributed.rank() == 0, time.monotonic()
        temporary = self.folder / f".{final.name}.making"
        if first:
            shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run: we hold the lock
            temporary.mkdir(parents=True)
        distributed.barrier()
        if first or together:
            make(temporary)
        distributed.barrier()
        if first:
            write_manifest(temporary, stage=stage, key=key, inputs=inputs, seconds=time.monotonic() - started)
            temporary.rename(final)
            shutil.rmtree(unfinished(temporary), ignore_errors=True)
        distributed.barrier()

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Holds a stage's lock; the operating system releases it if the process is killed."""
        if distributed.rank() > 0:
            yield
            return
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("a+") as lock:
            _lock(lock, name)
            yield

    def manifests(self) -> list[dict[str, Any]]:
        """Returns the manifests of all finished stages, oldest first."""
        found = [json.loads(path.read_text()) for path in self.folder.glob(f"*-*/{MANIFEST}")]
        return sorted(found, key=lambda manifest: manifest["finished"])


def unfinished(making: Path) -> Path:
    """The folder for checkpoints of a stage in progress; the next attempt resumes from them.

    >>> unfinished(Path(".teacher-csqa-0f.making"))
    PosixPath('.teacher-csqa-0f.unfinished')
    """
    return making.with_suffix(".unfinished")


@cache
def check(folder: Path) -> None:
    """Compares a finished folder with its manifest, once per process.

    Raises:
        UserError: A file is missing, has changed, or does not belong there; the message names the first.
    """
    if found := damage(folder):
        raise UserError(f"{found}; remove {folder} and run again")


def damage(folder: Path) -> str | None:
    """Describes the first difference between a folder and its manifest; None if they agree."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        missing = [name for name in expected if not (folder / name).is_file()]
        return f"{folder / missing[0]} is missing" if missing else _alien(folder, expected)
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{folder / MANIFEST} is damaged"


def _alien(folder: Path, expected: dict[str, str]) -> str | None:
    """Describes the first file that is not as a manifest says; None if all that are there are."""
    for name in _names(folder):
        if name != MANIFEST and name not in expected:
            return f"{folder / name} does not belong there"
        if name != MANIFEST and file_hash(folder / name) != expected[name]:
            return f"{folder / name} was changed after it was made"
    return None


def check_replaceable(folder: Path, stage: str) -> None:
    """Checks that writing a folder anew loses nothing: it is new, empty, or all that a stage of this name wrote.

    Args:
        folder: What is to be written.
        stage: How the stage's name begins.

    Raises:
        UserError: It is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: is a file; name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        made_here, found = str(manifest["stage"]).startswith(stage), _alien(folder, manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        made_here, found = False, None
    if not made_here:
        raise UserError(f"--to {folder}: holds something else than an earlier result; name a new folder")
    if found:
        raise UserError(f"--to {folder}: {found}, and would be lost; name a new folder")


@contextmanager
def _explain_full_disk(folder: Path) -> Iterator[None]:
    """Reports a full disk in one line, whichever library noticed it.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except UserError:
        raise  # already explains itself
    except Exception as error:
        if disk_is_full(error):
            raise UserError(
                f"no space left on the disk of {folder.parent} while building {folder.name}; free some space and run "
                "again: finished stages are kept"
            ) from error
        raise


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _lock(file: TextIO, name: str) -> None:
    """Locks a file; while another process holds the lock, the progress bar names that process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        with steps(f"waiting for process {file.read()}, which is building {name}", 1):
            fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def write_manifest(folder: Path, *, stage: str, key: str, inputs: dict[str, Any], seconds: float) -> None:
    """Records a folder's inputs, code, versions, threads and duration, and the hash of every file in it."""
    import torch  # not at the top: importing this module must not import torch

    files = [folder / name for name in _names(folder)]
    manifest = {
        "stage": stage,
        "key": key,
        "inputs": inputs,
        "seconds": round(seconds, 2),
        "finished": time.time(),
        "bytes": sum(path.stat().st_size for path in files),
        "files": {path.relative_to(folder).as_posix(): file_hash(path) for path in files},
        "code": _code(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _RECORDED}},
    }
    write_json(folder / MANIFEST, manifest)


_code = cache(library_hash)  # cached: a process runs the code that it read at its start


def write_checksums(folder: Path) -> None:
    """Writes a checkpoint's manifest. Call it last: a folder without a manifest is incomplete."""
    write_manifest(folder, stage="unfinished", key="", inputs={}, seconds=0)
