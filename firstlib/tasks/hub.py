"""Real data sets through `datasets`: from the hub, or from files in the hub's or the original layout.

Which rows train and which test is one rule. A published split whose answers are hidden does not count. The test
questions are those of the published test split, else of the published validation split; what then is missing is cut
from the training rows. Rows are cut, and limited, in the order of a hash of seed and id: it depends on nothing else.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_SHOWN = 3  # ids in an error
LOOKED_AT = 2**12  # bytes of a JSON file that show whether it is one list
ROWS = 2**9  # of a Parquet file in memory at once

datasets.disable_progress_bars()


@dataclass(frozen=True)
class Published:
    """One split as it was published.

    Attributes:
        items: The rows that can be used.
        unusable: Why each of the others cannot, by row id.
    """

    items: Sequence[Item]
    unusable: dict[str, str]

    @property
    def lost(self) -> float:
        """Share of the rows that cannot be used."""
        return len(self.unusable) / max(1, len(self.items) + len(self.unusable))


def read(task: Task, data: Data, place: Path | None, fits: Fits) -> dict[str, Published]:
    """Every published split of a data set that has answers. What can be used of it is kept on disk, not in memory.

    Args:
        task: the data set.
        data: how many rows may be lost.
        place: the file or folder that holds it; None: the hub.
        fits: says of each of some items why it cannot be used, or None; where a tokenizer has its say.

    Raises:
        UserError: The data set cannot be had, a file cannot be read, two rows have one id, too many rows are unusable.
    """
    found = {split: _publish(task, split, rows, fits) for split, rows in _tables(task, place).items()}
    labelled = {split: published for split, published in found.items() if not _hidden(published)}
    for split, published in labelled.items():
        _check_loss(f"{task} {split}", published, data.max_unusable, place or NAMES[task][0])
        if published.unusable:
            rows = f"{len(published.unusable)} of {len(published.unusable) + len(published.items)} rows"
            print(f"{task} {split}: {rows} cannot be used: {summary(published.unusable)}", file=sys.stderr)
    if not labelled.get("train"):
        raise UserError(f"data set {task}: {place or NAMES[task][0]} has no training rows with answers")
    return labelled


def choose(
    published: dict[str, Published], split: str, *, seed: int, count: int | None, validation: int, test: int | None
) -> Sequence[Item]:
    """The items of our `train`, `validation` or `test` split, by the rule of this module.

    Args:
        published: what `read` gave.
        split: which one.
        seed: of the order that rows are taken in.
        count: how many at most.
        validation: size of the validation split, where it is cut from the training rows.
        test: size of the test split, where it is cut; None: as many as for validation.

    Raises:
        UserError: There are too few training rows to cut from.
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
    """Items in the order of `sha256("<seed>:<id>")`, whatever order they came in."""
    ranks = np.fromiter((number_from(f"{seed}:{item.id}") for item in items), np.uint64, len(items))
    return select(items, np.argsort(ranks, kind="stable"))


def summary(unusable: dict[str, str]) -> str:
    """What cannot be used, counted by reason.

    >>> summary({"q1": "no answer", "q2": "too long", "q3": "no answer"})
    'no answer: 2 (q1, q3); too long: 1 (q2)'
    """
    counts = Counter(unusable.values())
    ids = {reason: [name for name, why in unusable.items() if why == reason] for reason in counts}
    shown = {reason: ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN) for reason, names in ids.items()}
    return "; ".join(f"{reason}: {count} ({shown[reason]})" for reason, count in counts.most_common())


def _publish(task: Task, split: str, rows: Iterable[Row], fits: Fits) -> Published:
    unusable: dict[str, str] = {}
    usable = _fitting(_read(task, split, rows, unusable), fits, unusable)
    return Published(on_disk(usable, vars, from_json), unusable)


def _fitting(items: Iterable[Item], fits: Fits, unusable: dict[str, str]) -> Iterator[Item]:
    for piece in in_pieces(items, characters):
        for item, reason in zip(piece, fits(piece), strict=True):
            if reason is None:
                yield item
            else:
                unusable[item.id] = reason


def _read(task: Task, split: str, rows: Iterable[Row], unusable: dict[str, str]) -> Iterator[Item]:
    """The items of all rows but those that cannot be read, which are noted with the reason."""
    seen: set[str] = set()
    for index, row in enumerate(rows):
        name = row_id(task, split, row, index)
        if not name.isprintable():
            raise UserError(
                f"data set {task} {split}: row {index + 1} has the id {name!r}; leave out what is not shown"
            )
        if name in seen:
            raise UserError(f"data set {task} {split}: two rows have the id {name!r}; give each its own")
        seen.add(name)
        try:
            yield read_row(task, row, name)
        except UnusableRow as error:
            unusable[name] = str(error)


def _hidden(published: Published) -> bool:
    return not published.items and set(published.unusable.values()) <= {NO_ANSWER}


def _check_loss(name: str, published: Published, allowed: float, place: Path | str) -> None:
    if published.lost > allowed:
        raise UserError(
            f"data set {name}: {len(published.unusable)} rows ({published.lost:.1%}) cannot be used: "
            f"{summary(published.unusable)}; mend them in {place}, or allow more with data.max_unusable"
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
    """The split that a file's name speaks of.

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
    except Exception as error:  # datasets raises many kinds, of several libraries
        raise UserError(
            f"data set {name}: neither cached nor to be had from the hub ({first_line(error)}); "
            "check the connection, or set data.folder to a folder that holds it"
        ) from error


def _from_file(file: Path) -> Iterator[Row]:
    kind, number = _KINDS[file.suffix], 0
    try:
        for number, row in enumerate(_FORMATS[kind](file), 1):  # noqa: B007 counted for what comes after
            yield row
    except (OSError, ValueError, RecursionError) as error:  # those of pandas and pyarrow are among them
        raise UserError(f"data file {file}: not readable as {kind}: {first_line(error)}") from error
    if not number:
        raise UserError(f"data file {file}: holds no rows; fill it, or take it away")


def _from_json(file: Path) -> Iterator[Row]:
    """A row a line, as they come; or a list of rows, which is read whole."""
    with file.open("rb") as lines:
        if lines.read(LOOKED_AT).lstrip().startswith(b"["):
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
    """Only what is empty is missing: `None` and `NA` may be answers. Read whole, for a column's type is of all rows."""
    table = pd.read_csv(file, keep_default_na=False, na_values=[""]).astype(object)
    return [
        {str(key): value for key, value in row.items()} for row in table.where(table.notna(), None).to_dict("records")
    ]


def _from_parquet(file: Path) -> Iterator[Row]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS):
            yield from batch.to_pylist()


_FORMATS: dict[str, Callable[[Path], Iterable[Row]]] = {"json": _from_json, "csv": _from_csv, "parquet": _from_parquet}
