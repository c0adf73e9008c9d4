"""The user's cache: imported models, and what is known of large files."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from firstlib.runtime.files import write_text

LARGE = 64 * 2**20  # bytes; smaller files are hashed in less than half a second
_SETTLED = 2.0  # seconds after a file's last change; an earlier hash could miss a second change at the same time


def cache_folder() -> Path:
    """Returns `firstlib` in `$XDG_CACHE_HOME`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firstlib"


def remembered(path: Path, compute: Callable[[Path], str], what: str = "hashes") -> str:
    """Returns what `compute` gives for a file; of a large one it is kept until the file changes.

    Each process of a run checks its models, and gigabytes take a minute. A change is seen by size, times of
    modification and of the inode's last change, and number of the inode.

    Args:
        path: The file.
        compute: What is to be known of it, as text.
        what: The folder of the cache that keeps this kind of knowledge.
    """
    status = path.stat()
    if status.st_size < LARGE:
        return compute(path)
    seen = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    kept = cache_folder() / what / sha256(json.dumps(seen).encode()).hexdigest()
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    found = compute(path)
    if time.time() - status.st_ctime > _SETTLED:
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, found)
    return found
