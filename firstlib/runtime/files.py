"""Atomic writes, and detection of a full disk."""

import errno
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes a file atomically: a reader sees either the old content or the new. Returns the path."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    return temporary.replace(path)


def write_text(path: Path, content: str) -> Path:
    """Writes UTF-8 text atomically and returns the path."""
    return write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> Path:
    """Writes indented JSON atomically and returns the path."""
    return write_text(path, json.dumps(content, indent=1) + "\n")


def disk_is_full(error: BaseException) -> bool:
    """Returns whether an error, or one of its causes, reports a full disk; each library words it differently.

    >>> disk_is_full(OSError(errno.ENOSPC, "no room")), disk_is_full(ValueError("something else"))
    (True, False)
    """
    reported = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    earlier = error.__cause__ or error.__context__
    return reported or (earlier is not None and disk_is_full(earlier))
