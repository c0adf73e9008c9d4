"""Hashes of content, streams, files and the library itself."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from firstlib.runtime.cache import remembered

LIBRARY = Path(__file__).resolve().parents[1]


def content_hash(content: Any) -> str:
    """Returns a short hash of JSON content, independent of the order of keys.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(_canonical(content)).hexdigest()[:12]


def stream_hash(items: Iterable[Any]) -> str:
    """Returns a short hash of a stream of JSON contents, read one at a time.

    >>> stream_hash([{"a": 1, "b": 2}, 3]) == stream_hash([{"b": 2, "a": 1}, 3]) != stream_hash([3])
    True
    """
    found = hashlib.sha256()
    for item in items:
        found.update(_canonical(item) + b"\n")
    return found.hexdigest()[:12]


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def number_from(text: str) -> int:
    """Returns a 64-bit number that depends on the text alone, for an arbitrary but reproducible order or split.

    >>> number_from("q1") == number_from("q1") != number_from("q2")
    True
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def file_hash(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal; that of a large file is remembered until it changes."""
    return remembered(path, _digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_hash(files: Iterable[Path]) -> str:
    """Returns a short hash of the files' names and bytes."""
    return content_hash([(path.name, file_hash(path)) for path in sorted(files)])


def library_hash() -> str:
    """Returns a short hash of the library's Python files as they are on disk now."""
    return files_hash(LIBRARY.rglob("*.py"))
