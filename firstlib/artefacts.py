"""Where results live: one folder a stage, named by the hash of all that went into it, complete or absent."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from firstlib import processes
from firstlib.errors import UserError
from firstlib.progress import steps

PROJECT = Path(__file__).resolve().parents[1]
PAPER_TABLE = PROJECT / "data" / "paper_table1.csv"
MANIFEST = "manifest.json"
CHOSEN = "chosen.json"  # in a run's folder: coefficients chosen by hand
_RECORDED = ("firstlib", "torch", "transformers", "peft", "numpy", "pyarrow")


def project_path(path: str | Path) -> Path:
    """The path as it is if absolute, else below the project's own folder, wherever a notebook runs.

    `~` and `$VARIABLES` are filled in.
    """
    return PROJECT / Path(os.path.expandvars(path)).expanduser()


def preset_name(preset: str) -> str:
    """What a preset is called, given by name or as a file.

    >>> preset_name("qwen2.5-7b-0.5b"), preset_name("my/own.yaml")
    ('qwen2.5-7b-0.5b', 'own')
    """
    path = Path(preset)
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def run_folder(runs: str, preset: str, seed: int, overrides: Sequence[str] = ()) -> Path:
    """Where a run keeps everything: `runs/<preset>/seed-<n>`, with a mark where settings were overridden.

    Raises:
        UserError: Something on the way is a file, or the name cannot be one.
    """
    if "\0" in runs:
        raise UserError(f"run folder {runs!r}: a name cannot hold that character; give another")
    mark = f"-{content_key(sorted(overrides))[:6]}" if overrides else ""
    folder = project_path(runs) / f"{preset_name(preset)}{mark}" / f"seed-{seed}"
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"run folder {folder}: {place} is a file; give a folder")
    return folder


def content_key(content: Any) -> str:
    """A short hash of anything that JSON can hold, independent of the order of keys.

    >>> content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(_canonical(content)).hexdigest()[:12]


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def contents_key(contents: Iterable[Any]) -> str:
    """The same of many, one after the other, never all in memory.

    >>> contents_key([{"a": 1, "b": 2}, 3]) == contents_key([{"b": 2, "a": 1}, 3]) != contents_key([3])
    True
    """
    found = hashlib.sha256()
    for content in contents:
        found.update(_canonical(content) + b"\n")
    return found.hexdigest()[:12]


def number_of(text: str) -> int:
    """A number of 64 bits that depends on the text alone: for an order, or a share, that nothing else decides.

    >>> number_of("q1") == number_of("q1") != number_of("q2")
    True
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def files_key(files: Iterable[Path]) -> str:
    """A hash of files' names and bytes."""
    return content_key([(path.name, sha256(path)) for path in sorted(files)])


@dataclass(frozen=True)
class Artefacts:
    """The finished stages below one folder."""

    folder: Path
    sealed: bool = False  # then nothing is made, and what is missing is an error

    def get(self, stage: str, inputs: dict[str, Any], make: Callable[[Path], None], *, together: bool = False) -> Path:
        """The folder of a stage: the one there is, or else what `make` writes to a temporary one, renamed when done.

        Who finds that another run is making the same stage waits for it. Of several processes of one run
        the first makes it while the others wait, or, `together`, all of them do, in the same temporary folder.

        Raises:
            UserError: The folder that there is has been damaged.
        """
        key = content_key(inputs)
        final = self.folder / f"{stage}-{key}"
        if processes.agree((final / MANIFEST).is_file()):
            check(final)
            return final
        if self.sealed:
            raise UserError(f"{final} is missing; run again")
        with _room_for(final), self._alone(final.name):
            if not processes.agree((final / MANIFEST).is_file()):
                self._make(stage, key, inputs, make, final, together)
        return final

    def _make(
        self, stage: str, key: str, inputs: dict[str, Any], make: Callable[[Path], None], final: Path, together: bool
    ) -> None:
        first, started = processes.rank() == 0, time.monotonic()
        temporary = self.folder / f".{final.name}.making"
        if first:
            shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed: we hold the lock
            temporary.mkdir(parents=True)
        processes.wait()
        if first or together:
            make(temporary)
        processes.wait()
        if first:
            write_manifest(temporary, stage=stage, key=key, inputs=inputs, seconds=time.monotonic() - started)
            temporary.rename(final)
            shutil.rmtree(unfinished(temporary), ignore_errors=True)
        processes.wait()

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Only one run at a time comes past here; one that is killed lets go by itself."""
        if processes.rank() > 0:
            yield
            return
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("a+") as lock:
            _lock(lock, name)
            yield

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of all finished stages, oldest first, each with the bytes that its folder takes."""
        found = [json.loads(path.read_text()) for path in self.folder.glob(f"*-*/{MANIFEST}")]
        return sorted(found, key=lambda manifest: manifest["finished"])


def unfinished(making: Path) -> Path:
    """Beside a folder in the making: where its maker keeps what a later try goes on from, should this one be killed.

    >>> unfinished(Path(".teacher-csqa-0f.making"))
    PosixPath('.teacher-csqa-0f.unfinished')
    """
    return making.with_suffix(".unfinished")


@cache
def check(folder: Path) -> None:
    """Makes sure, once in a process, that a finished folder holds what its manifest says, bit for bit.

    Raises:
        UserError: A file is missing, was changed, or does not belong there; the first is named.
    """
    if found := damage(folder):
        raise UserError(f"{found}; remove {folder} and run again")


def damage(folder: Path) -> str | None:
    """The first difference between a folder and its manifest, in words; None where there is none."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        wrong = {name for name, written in expected.items() if sha256(folder / name) != written}
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{folder / MANIFEST} is damaged"
    foreign = {name for name in _names(folder) if name not in expected and name != MANIFEST}
    for name in sorted(wrong | foreign):
        return f"{folder / name} {'was changed after it was made' if name in wrong else 'does not belong there'}"
    return None


@contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """Turns whatever a library says when the disk is full into one line.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except UserError:
        raise  # which says where there is no room, if that is why
    except Exception as error:
        if is_full(error):
            raise UserError(
                f"no space left on the disk of {folder.parent}, while {folder.name} was made; make room and run again: "
                "what was finished is kept"
            ) from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error, or what led to it, says that a disk is full, each library in its own way.

    >>> is_full(OSError(errno.ENOSPC, "no room")), is_full(ValueError("something else"))
    (True, False)
    """
    said = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    before = error.__cause__ or error.__context__
    return said or (before is not None and is_full(before))


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _lock(file: TextIO, name: str) -> None:
    """Takes a file's lock, and says whom it waits for."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        with steps(f"waiting for {name}, made by process {file.read()}", 1):
            fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def write_manifest(folder: Path, *, stage: str, key: str, inputs: dict[str, Any], seconds: float) -> None:
    """What made this folder, with what code, versions and threads, in how long, and the hash of every file in it."""
    import torch  # which says with how many threads sums are made; this module is needed where torch is not

    files = [folder / name for name in _names(folder)]
    manifest = {
        "stage": stage,
        "key": key,
        "inputs": inputs,
        "seconds": round(seconds, 2),
        "finished": time.time(),
        "bytes": sum(path.stat().st_size for path in files),
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
        "code": _code(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _RECORDED}},
    }
    write_json(folder / MANIFEST, manifest)


def library_key() -> str:
    """A hash of the library's code, as it is on the disk now."""
    return files_key(Path(__file__).parent.rglob("*.py"))


_code = cache(library_key)  # of a process: what it runs was read when it began


def seal(folder: Path) -> None:
    """Writes down the hash of every file, last of all: a folder without it was broken off."""
    write_manifest(folder, stage="unfinished", key="", inputs={}, seconds=0)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
