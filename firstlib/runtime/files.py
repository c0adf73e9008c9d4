"""Atomic writes, and what a full disk looks like to every library."""

import errno
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes a file atomically: a reader sees the old content or the new, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    return temporary.replace(path)


def write_text(path: Path, content: str) -> Path:
    """Writes UTF-8 text atomically."""
    return write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> Path:
    """Writes indented JSON atomically."""
    return write_text(path, json.dumps(content, indent=1) + "\n")


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or its cause, reports a full disk; each library words it differently.

    >>> disk_is_full(OSError(errno.ENOSPC, "no room")), disk_is_full(ValueError("something else"))
    (True, False)
    """
    reported = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    earlier = error.__cause__ or error.__context__
    return reported or (earlier is not None and disk_is_full(earlier))
