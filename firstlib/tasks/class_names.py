"""Fields of the library `datasets` that hold integers for names (`ClassLabel`), read as the names.

The order of the names is the data set's own: 0 may stand for yes, or for the choice whose text comes first in the
alphabet. The integers alone do not tell.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

Row = Mapping[str, Any]
_KEY = b"huggingface"  # under which the library keeps its features in a Parquet or Arrow schema


def features_in(schema: pa.Schema) -> Mapping[str, Any]:
    """Returns the features that the library has kept in a file's schema; empty if it did not write the file."""
    kept = json.loads((schema.metadata or {}).get(_KEY) or b"{}")
    return (kept.get("info") or {}).get("features") or {}


def with_names(rows: Iterable[Row], features: Mapping[str, Any]) -> Iterator[Row]:
    """Yields rows in which every class is its name, and a class of -1, which says that there is no label, None.

    Args:
        rows: With the integers.
        features: As the library's `Features.to_dict` writes them.

    Raises:
        ValueError: A row has a class that has no name.

    >>> list(with_names([{"answer": 1}, {"answer": -1}], {"answer": {"names": ["yes", "no"], "_type": "ClassLabel"}}))
    [{'answer': 'no'}, {'answer': None}]
    """
    found = {name: read for name, feature in features.items() if (read := _reader(name, feature))}
    if not found:
        yield from rows
        return
    for row in rows:
        yield {name: found[name](value) if name in found else value for name, value in row.items()}


def _reader(field: str, feature: Any) -> Callable[[Any], Any] | None:
    """Returns what reads a field's values; None: they hold no classes with names, and stay as they are."""
    if isinstance(feature, list):
        return _each(_reader(field, feature[0])) if feature else None
    if not isinstance(feature, Mapping):
        return None
    kind = feature.get("_type")
    if kind == "ClassLabel":
        return _class(field, feature.get("names") or [])
    if isinstance(kind, str):  # one of the library's lists, or a plain value
        return _each(_reader(field, feature.get("feature")))
    inner = {name: read for name, each in feature.items() if (read := _reader(f"{field}.{name}", each))}
    return _object(inner) if inner else None


def _class(field: str, names: list[str]) -> Callable[[Any], Any] | None:
    if names == [str(number) for number in range(len(names))]:
        return None  # each number is its own name, and stays a number

    def read(value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if value >= len(names) or value < -1:
            raise ValueError(f"{field[:40]} says class {value}, but the classes are 0 to {len(names) - 1}; correct it")
        return names[value] if value >= 0 else None

    return read


def _each(inner: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """Returns what reads lists; older versions of the library keep a list of objects as an object of lists."""
    if inner is None:
        return None

    def read(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: [inner({name: each})[name] for each in cells or []] for name, cells in value.items()}
        return [inner(each) for each in value] if isinstance(value, list) else value

    return read


def _object(inner: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: inner[name](each) if name in inner else each for name, each in value.items()}

    return read
