"""Real data sets: from the hub through `datasets`, or from files in the hub's or the original layout.

Our splits follow one rule. Published splits without answers are ignored. Our test split is the published test split,
or else the published validation split; splits that are then missing are taken from the training rows. Rows are taken
and limited in the order of a hash of seed and id, which depends on nothing else.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.hashing import number_from
from firstlib.runtime.sequences import LazySequence, in_pieces, on_disk, select
from firstlib.settings.schema import Data, Task
from firstlib.tasks.question import Item, characters, from_json
from firstlib.tasks.rows import NO_ANSWER, Row, UnusableRow, read_row, row_id

NAMES: dict[Task, tuple[str, str | None]] = {
    "csqa": ("tau/commonsense_qa", None),
    "boolq": ("google/boolq", None),
    "obqa": ("allenai/openbookqa", "main"),
    "alpaca": ("tatsu-lab/alpaca", None),
}
Fits = Callable[[Sequence[Item]], Sequence[str | None]]

_KINDS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
_SPLIT = re.compile(r"(?:^|[-_.])(train|validation|valid|val|dev|test)(?=[-_.]|$)")
_SHOWN = 3  # ids listed per reason in a message
PEEK_BYTES = 2**12  # bytes of a JSON file read to see whether it is a list
BATCH_ROWS = 2**9  # rows of a Parquet file in memory at once

datasets.disable_progress_bars()


@dataclass(frozen=True)
class PublishedSplit:
    """A split as published.

    Attributes:
        items: The usable rows.
        unusable: For each other row, by id, why it is unusable.
    """

    items: Sequence[Item]
    unusable: dict[str, str]

    @property
    def lost(self) -> float:
        """Share of unusable rows, a fraction."""
        return len(self.unusable) / max(1, len(self.items) + len(self.unusable))


def read(task: Task, data: Data, place: Path | None, fits: Fits) -> dict[str, PublishedSplit]:
    """Reads every published split of a data set that has answers; usable rows are stored on disk, not in memory.

    Args:
        task: The data set.
        data: Settings, with the share of rows that may be unusable.
        place: The file or folder that holds the data set; None: the hub.
        fits: Returns, for each item, None, or why it is unusable with the tokenizer.

    Raises:
        UserError: The data set is not available, a file is not readable, two rows share an id, or too many rows are
            unusable.
    """
    labelled = _labelled(task, data, _tables(task, place), place, fits)
    if not labelled.get("train"):
        raise UserError(f"data set {task}: {place or NAMES[task][0]} has no training rows with answers")
    return labelled


def read_split(task: Task, data: Data, place: Path | None, fits: Fits, split: str) -> tuple[str, PublishedSplit]:
    """Returns one published split to ask a model, with its name; other splits are not read.

    A data set without a test split with answers is asked its validation split, and one with a single split that one.
    Takes and raises what `read` does; training rows are not needed.
    """
    tables = _tables(task, place)
    wanted = [split, *(["validation"] if split == "test" else [])] if len(tables) > 1 else list(tables)
    for name in wanted:
        found = _labelled(task, data, {name: tables[name]}, place, fits) if name in tables else {}
        if name in found:
            return name, found[name]
    has = f"it has {', '.join(tables)}" if split not in tables else "its rows have no answers"
    raise UserError(
        f"data set {task}: {place or NAMES[task][0]} has no {split} rows to ask: {has}; choose another split"
    )


def _labelled(
    task: Task, data: Data, tables: Mapping[str, Iterable[Row]], place: Path | None, fits: Fits
) -> dict[str, PublishedSplit]:
    """Reads splits and returns those that have answers."""
    found = {split: _publish(task, split, rows, fits) for split, rows in tables.items()}
    labelled = {split: published for split, published in found.items() if not _without_answers(published)}
    for split, published in labelled.items():
        _check_loss(f"{task} {split}", published, data.max_unusable, place or NAMES[task][0])
        if published.unusable:
            rows = f"{len(published.unusable)} of {len(published.unusable) + len(published.items)} rows"
            print(f"{task} {split}: {rows} cannot be used: {summary(published.unusable)}", file=sys.stderr)
    return labelled


def choose(
    published: dict[str, PublishedSplit], split: str, *, seed: int, count: int | None, validation: int, test: int | None
) -> Sequence[Item]:
    """Returns the items of our `train`, `validation` or `test` split, by the rule of this module.

    Args:
        published: The result of `read`.
        split: The split to return.
        seed: Seed of the order in which rows are taken.
        count: Maximum number of items; None: all.
        validation: Size of the validation split, if it is taken from the training rows.
        test: Size of the test split, if it is taken from the training rows; None: that of the validation split.

    Raises:
        UserError: There are too few training rows to take splits from.
    """
    ours: dict[str, Sequence[Item]] = {name: ranked(part.items, seed) for name, part in published.items()}
    if "test" not in ours and "validation" in ours:
        ours["test"] = ours.pop("validation")
    training = ours["train"]
    for name, size in (("validation", validation), ("test", test or validation)):
        if name not in ours:
            ours[name], training = training[:size], training[size:]
    ours["train"] = training
    if not ours.get(split):
        raise UserError(f"no rows are left for the {split} split; lower sizes.validation or sizes.test")
    return ours[split][:count]


def ranked(items: Sequence[Item], seed: int) -> LazySequence[Item]:
    """Returns the items in the order of `sha256("<seed>:<id>")`, whatever their input order."""
    ranks = np.fromiter((number_from(f"{seed}:{item.id}") for item in items), np.uint64, len(items))
    return select(items, np.argsort(ranks, kind="stable"))


def summary(unusable: dict[str, str]) -> str:
    """Counts unusable rows by reason, for a message.

    >>> summary({"q1": "no answer", "q2": "too long", "q3": "no answer"})
    'no answer: 2 (q1, q3); too long: 1 (q2)'
    """
    counts = Counter(unusable.values())
    ids = {reason: [name for name, why in unusable.items() if why == reason] for reason in counts}
    shown = {reason: ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN) for reason, names in ids.items()}
    return "; ".join(f"{reason}: {count} ({shown[reason]})" for reason, count in counts.most_common())


def _publish(task: Task, split: str, rows: Iterable[Row], fits: Fits) -> PublishedSplit:
    unusable: dict[str, str] = {}
    usable = _fitting(_read(task, split, rows, unusable), fits, unusable)
    return PublishedSplit(on_disk(usable, vars, from_json), unusable)


def _fitting(items: Iterable[Item], fits: Fits, unusable: dict[str, str]) -> Iterator[Item]:
    for piece in in_pieces(items, characters):
        for item, reason in zip(piece, fits(piece), strict=True):
            if reason is None:
                yield item
            else:
                unusable[item.id] = reason


def _read(task: Task, split: str, rows: Iterable[Row], unusable: dict[str, str]) -> Iterator[Item]:
    """Yields the items of all usable rows; records the reason for each other row in `unusable`."""
    seen: set[str] = set()
    for index, row in enumerate(rows):
        name = row_id(task, split, row, index)
        if not name.isprintable():
            raise UserError(
                f"data set {task} {split}: row {index + 1} has the id {name!r}; remove its unprintable characters"
            )
        if name in seen:
            raise UserError(f"data set {task} {split}: two rows have the id {name!r}; make ids unique")
        seen.add(name)
        try:
            yield read_row(task, row, name)
        except UnusableRow as error:
            unusable[name] = str(error)


def _without_answers(published: PublishedSplit) -> bool:
    return not published.items and set(published.unusable.values()) <= {NO_ANSWER}


def _check_loss(name: str, published: PublishedSplit, allowed: float, place: Path | str) -> None:
    if published.lost > allowed:
        raise UserError(
            f"data set {name}: {len(published.unusable)} rows ({published.lost:.1%}) cannot be used: "
            f"{summary(published.unusable)}; fix them in {place}, or raise data.max_unusable"
        )


def _tables(task: Task, place: Path | None) -> dict[str, Iterable[Row]]:
    if place is None:
        return {("validation" if s not in ("train", "test") else s): rows for s, rows in _from_hub(task).items()}
    if not place.exists():
        raise UserError(f"data set {task}: there is no {place}; check data.folder or data.own")
    folder = place / config if (config := NAMES.get(task, ("", None))[1]) and (place / config).is_dir() else place
    files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    by_split: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix in _KINDS and file.is_file():
            by_split.setdefault(split_of(file.stem), []).append(file)
    if not by_split:
        raise UserError(f"data set {task}: {place} holds no {', '.join(_KINDS)} file")
    return {split: chain.from_iterable(map(_from_file, files)) for split, files in by_split.items()}


def split_of(stem: str) -> str:
    """Returns the split that a file's name indicates.

    >>> [split_of(stem) for stem in ("dev_rand_split", "train-00000-of-00001", "test", "questions")]
    ['validation', 'train', 'test', 'train']
    """
    found = _SPLIT.search(stem.lower())
    name = found.group(1) if found else "train"
    return name if name in ("train", "test") else "validation"


def _from_hub(task: Task) -> dict[str, Any]:
    if task not in NAMES:
        raise UserError(f"data set {task}: set data.own to your file or folder")
    name, config = NAMES[task]
    try:
        return dict(datasets.load_dataset(name, config))
    except Exception as error:  # datasets raises errors of several libraries
        raise UserError(
            f"data set {name}: neither cached nor available from the hub ({first_line(error)}); "
            "check the connection, or set data.folder to a folder that holds it"
        ) from error


def _from_file(file: Path) -> Iterator[Row]:
    kind, number = _KINDS[file.suffix], 0
    try:
        for number, row in enumerate(_FORMATS[kind](file), 1):  # noqa: B007 used after the loop
            yield row
    except (OSError, ValueError, RecursionError) as error:  # includes those of pandas and pyarrow
        raise UserError(f"data file {file}: not readable as {kind}: {first_line(error)}") from error
    if not number:
        raise UserError(f"data file {file}: has no rows; add some, or delete the file")


def _from_json(file: Path) -> Iterator[Row]:
    """Yields the rows of a JSON Lines file one at a time, or of a JSON list, which is read as a whole."""
    with file.open("rb") as lines:
        if lines.read(PEEK_BYTES).lstrip().startswith(b"["):
            yield from (_as_row(row, f"row {n}") for n, row in enumerate(json.loads(file.read_bytes()), 1))
            return
        lines.seek(0)
        yield from (_as_row(_from_line(line, n), f"line {n}") for n, line in enumerate(lines, 1) if line.strip())


def _from_line(line: bytes, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error.msg} (column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"line {number}: {error}") from error


def _as_row(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: must be an object with fields, not {type(row).__name__}")
    return row


def _from_csv(file: Path) -> list[Row]:
    """Returns all rows; only empty fields are missing: `None` and `NA` may be answers.

    The file is read as a whole, because a column's type depends on all its rows.
    """
    table = pd.read_csv(file, keep_default_na=False, na_values=[""]).astype(object)
    return [
        {str(key): value for key, value in row.items()} for row in table.where(table.notna(), None).to_dict("records")
    ]


def _from_parquet(file: Path) -> Iterator[Row]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(BATCH_ROWS):
            yield from batch.to_pylist()


_FORMATS: dict[str, Callable[[Path], Iterable[Row]]] = {"json": _from_json, "csv": _from_csv, "parquet": _from_parquet}
