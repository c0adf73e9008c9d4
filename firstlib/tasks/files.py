"""The files of a data set, or the hub's splits: which split each belongs to, and how its rows are read.

A file's place tells its split (`tasks.splits`), or the preset does. A single file that tells none is the whole data
set; of several, one that tells none is refused, because it may be held out.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from firstlib.runtime.errors import UserError, first_line
from firstlib.settings.data import OWN
from firstlib.tasks import delimited, json_files
from firstlib.tasks.class_names import features_in, with_names
from firstlib.tasks.json_files import Row
from firstlib.tasks.splits import KNOWN, split_of, splits_in

BATCH_ROWS = 2**9  # rows of a Parquet or Arrow file in memory at once
KINDS = {
    ".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "csv", ".tab": "csv",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
# Held-out rows in a file of one of these kinds would be passed over without a word.
_NOT_READ = (".xlsx", ".xls", ".ods", ".txt", ".zip", ".zst", ".bz2", ".xz", ".tar", ".tgz", ".pkl", ".xml", ".gz")
# They describe data, and hold none.
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json"}
_SHOWN = 3

Placed = tuple[str | None, Row]  # a row, and the key of its split inside a file that holds several


@dataclass(frozen=True)
class Table:
    """Rows with one name: a file's, or those of a split of the hub.

    Attributes:
        name: The file's path inside the data set, or the split's name.
        split: What it tells; None: nothing, so it is the whole data set.
        rows: Reads the rows anew on each call.
    """

    name: str
    split: str | None
    rows: Callable[[], Iterator[Placed]]


@dataclass(frozen=True)
class Search:
    """Where and how the files of a data set are looked for.

    Attributes:
        task: The data set's task, for messages.
        patterns: Split -> names or patterns of files; empty: the names tell.
        config: Folder inside the data set's that holds the files; None: all of it.
        encoding: Of CSV files; None: found out.
        own: Whether a preset names the data set, and so can say which file is which.
    """

    task: str
    patterns: Mapping[str, Sequence[str]]
    config: str | None = None
    encoding: str | None = None
    own: bool = True


def tables_in(place: Path, search: Search) -> list[Table]:
    """Returns the tables of a file or a folder, each with its split.

    Raises:
        UserError: There is no such place, nothing in it is read, or a split cannot be told.
    """
    if not place.exists():
        setting = f"tasks.{search.task}" if search.own and search.task != OWN else "data.folder or data.own"
        raise UserError(f"data set {search.task}: there is no {_tail(place)}; check {setting}")
    folder = _configured(place, search)
    found = _saved(folder, folder) or ([] if folder.is_dir() else [_from_file(folder, folder.parent, search.encoding)])
    found = found or list(_walk(folder, folder, search.encoding))
    if not found:
        raise UserError(
            f"data set {search.task}: {_tail(place)} holds no {', '.join(KINDS)} file; save a spreadsheet as CSV"
        )
    tables = with_splits(found, search)
    _check_not_read(folder, tables, search)
    return tables


def from_hub(name: str, revision: str | None, search: Search) -> list[Table]:
    """Returns the tables of a data set of the hub, or of the cache, each with its split.

    Raises:
        UserError: It is not available, or a split cannot be told.
    """
    try:
        options: dict[str, Any] = {"revision": revision} if revision else {}
        found = dict(_datasets().load_dataset(name, search.config, **options))
    except Exception as error:  # datasets raises errors of several libraries
        raise UserError(
            f"data set {name}: neither cached nor available from the hub ({first_line(error)[:200]}); "
            "check the connection, or name a folder that holds it: data.folder in a preset, --data of first audit"
        ) from error
    return with_splits([_from_library(str(split), rows) for split, rows in found.items()], search)


def _from_library(name: str, rows: Any) -> Table:
    """Returns the table of a data set that the library `datasets` holds."""
    plain = rows.with_format(None)  # a format may be saved with the rows: NumPy's arrays, or fewer columns

    def read() -> Iterator[Placed]:
        try:
            yield from ((None, row) for row in with_names(plain, plain.features.to_dict()))
        except ValueError as error:
            raise UserError(f"data set {name[-60:]}: {first_line(error)[:250]}") from error

    return Table(name, None, read)


# -- splits ------------------------------------------------------------------------------------------------------


def with_splits(tables: Sequence[Table], search: Search) -> list[Table]:
    """Returns the tables with the splits that the preset or their names tell; with patterns, only those that match.

    Raises:
        UserError: A split cannot be told; names the table.
    """
    if search.patterns:
        return _matching(tables, search)
    told = [Table(table.name, _told(table.name, search), table.rows) for table in tables]
    silent = [table for table in told if table.split is None]
    if silent and (len(silent) < len(told) or len({without_numbers(table.name) for table in told}) > 1):
        known = next((table for table in told if table.split), None)
        beside = f"{known.name[-60:]} ({known.split})" if known else silent[1].name[-60:]
        raise UserError(
            f"data set {search.task}: {silent[0].name[-60:]}, beside {beside}, tells no split, and may be held out; "
            f"{_remedy(search)}. Known: {KNOWN}"
        )
    return told


def _told(name: str, search: Search) -> str | None:
    *folders, last = Path(name).parts
    try:
        return split_of([*folders, _stem(last)])
    except ValueError as error:
        raise UserError(f"data set {search.task}: {name[-60:]} {error}; {_remedy(search)}") from error


def _matching(tables: Sequence[Table], search: Search) -> list[Table]:
    found = []
    for split, patterns in search.patterns.items():
        for pattern in patterns:
            names = [t for t in tables if fnmatch(t.name, pattern) or fnmatch(Path(t.name).name, pattern)]
            if not names:
                listed = ", ".join(table.name[-60:] for table in tables[:_SHOWN])
                raise UserError(
                    f"tasks.{search.task}.splits.{split}: nothing is called {pattern[:60]!r}; there is {listed}"
                )
            found += [Table(table.name, split, table.rows) for table in names]
    all_names = [table.name for table in found]
    if twice := next((name for name in all_names if all_names.count(name) > 1), None):
        raise UserError(f"tasks.{search.task}.splits: {twice[-60:]} is in two splits; leave it in one")
    return found


def _remedy(search: Search) -> str:
    return "rename it" + (f", or list the files under tasks.{search.task}.splits" if search.own else "")


def without_numbers(name: str) -> str:
    """Returns a name by which numbered parts are one."""
    return re.sub(r"\d+", "", name)


# -- folders -----------------------------------------------------------------------------------------------------


def _configured(place: Path, search: Search) -> Path:
    if search.config and place.is_dir():
        if (place / search.config).is_dir():
            return place / search.config
        if search.own:
            inside = ", ".join(sorted(path.name for path in place.iterdir() if path.is_dir())[:_SHOWN]) or "none"
            raise UserError(
                f"tasks.{search.task}.config: {_tail(place)} has no folder {search.config[:60]!r}; it has {inside}"
            )
    return place


def entries(folder: Path) -> list[Path]:
    """Returns what a folder holds, in order, without what systems and programs leave behind."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "~", "__"))]


def _walk(folder: Path, root: Path, encoding: str | None) -> Iterator[Table]:
    for path in entries(folder):
        if path.is_dir():
            yield from _saved(path, root) or _walk(path, root, encoding)
        elif _kind(path) and path.name not in _DESCRIPTIONS:
            yield _from_file(path, root, encoding)


def _datasets() -> Any:
    """The library, without a progress bar for every file; imported only where data are read: it takes a second."""
    import datasets

    datasets.disable_progress_bars()
    return datasets


def _saved(folder: Path, root: Path) -> list[Table]:
    """Returns the tables of a folder that `save_to_disk` wrote; none if it did not."""
    if not folder.is_dir() or not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return []
    try:
        whole = _datasets().load_from_disk(str(folder))
        told = "" if isinstance(whole, dict) else json.loads((folder / "state.json").read_bytes()).get("_split") or ""
    except Exception as error:  # datasets raises errors of several libraries
        message = first_line(error)[:200]
        raise UserError(
            f"data folder {_tail(folder)}: not readable as `save_to_disk` wrote it ({message}); write it again"
        ) from error
    inside = folder.relative_to(root)
    parts = whole.items() if isinstance(whole, dict) else [(told or ("" if inside.parts else "rows"), whole)]
    return [_from_library((inside / str(name)).as_posix(), rows) for name, rows in parts]


def _check_not_read(folder: Path, tables: Sequence[Table], search: Search) -> None:
    """Refuses a folder in which a split is in files of a kind that is not read."""
    if not folder.is_dir() or search.patterns:
        return
    read = {table.split for table in tables}
    for path in sorted(folder.rglob("*")):
        unread = path.suffix.lower() in _NOT_READ and not _kind(path) and path.is_file()
        if unread and splits_in(_stem(path.name)) - read and not path.name.startswith((".", "~")):
            raise UserError(
                f"data set {search.task}: {path.name[-60:]} is named like a split, but {path.suffix} is not read; save "
                f"it as CSV or JSONL, or remove it"
            )


# -- files -------------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str | None:
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = KINDS.get(name.suffix.lower())
    return kind if kind in ("json", "csv") or name is path else None


def _stem(name: str) -> str:
    """Returns a file's name without the suffixes that tell its kind.

    >>> _stem("questions.train.jsonl.gz"), _stem("v1.2")
    ('questions.train', 'v1.2')
    """
    path = Path(name)
    while path.suffix.lower() in (*KINDS, *_NOT_READ):
        path = path.with_suffix("")
    return path.name


def _from_file(file: Path, root: Path, encoding: str | None) -> Table:
    return Table(file.relative_to(root).as_posix(), None, lambda: _rows(file, encoding))


def _rows(file: Path, encoding: str | None) -> Iterator[Placed]:
    kind, number = _kind(file), 0
    if kind is None:
        raise UserError(f"data file {_tail(file)}: not one of {', '.join(KINDS)}; save it as CSV or JSONL")
    try:
        for number, row in enumerate(_FORMATS[kind](file, encoding), 1):  # noqa: B007 used after the loop
            yield row
    except (OSError, EOFError, ValueError, LookupError, RecursionError) as error:  # pandas' and pyarrow's among them
        raise UserError(f"data file {_tail(file)}: not readable as {kind}: {first_line(error)[:250]}") from error
    if not number:
        raise UserError(f"data file {_tail(file)}: has no rows; add some, or delete the file")


def _from_parquet(file: Path, _: str | None) -> Iterator[Placed]:
    with pq.ParquetFile(file) as parquet:
        rows = (row for batch in parquet.iter_batches(BATCH_ROWS) for row in batch.to_pylist())
        yield from ((None, row) for row in with_names(rows, features_in(parquet.schema_arrow)))


def _from_arrow(file: Path, _: str | None) -> Iterator[Placed]:
    with pa.memory_map(str(file)) as source:
        try:
            opened: Any = pa.ipc.open_stream(source)
            batches = opened
        except pa.ArrowInvalid:
            opened = pa.ipc.open_file(source)
            batches = (opened.get_batch(i) for i in range(opened.num_record_batches))
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from ((None, row) for row in with_names(rows, features_in(opened.schema)))


_FORMATS: dict[str, Callable[[Path, str | None], Iterator[Placed]]] = {
    "json": lambda file, _: json_files.rows_of(file),
    "csv": lambda file, encoding: ((None, row) for row in delimited.rows_of(file, encoding)),
    "parquet": _from_parquet,
    "arrow": _from_arrow,
}


def _tail(path: Path) -> str:
    """Returns a path as messages show it: its end, where it is long."""
    text = str(path)
    return text if len(text) <= 120 else f"...{text[-117:]}"
