"""Real data sets: from the hub through `datasets`, or from files.

Our splits follow one rule. Published splits without answers are ignored. Our test split is the published test split,
or else the published validation split; splits that are then missing are taken from the training rows. Rows are taken
and limited in the order of a hash of seed and id, which depends on nothing else.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from firstlib.runtime import distributed
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import number_from
from firstlib.runtime.sequences import LazySequence, in_pieces, on_disk, select
from firstlib.settings.data import PUBLISHED, Data, Kind, TaskData
from firstlib.settings.schema import Task
from firstlib.tasks.answers import IN_WORDS, Column, plain_value
from firstlib.tasks.files import Search, Table, from_hub, tables_in, without_numbers
from firstlib.tasks.layouts import Roles, fields_of, flattened, plain, recognise
from firstlib.tasks.question import SPLITS, Item, characters, from_json
from firstlib.tasks.rivals import check_rivals
from firstlib.tasks.rows import (
    NO_ANSWER,
    UNREAD_ANSWER,
    Reading,
    Row,
    UnusableRow,
    choices_in,
    read_row,
    row_id,
)
from firstlib.tasks.splits import split_of_value, told_files

Fits = Callable[[Sequence[Item]], Sequence[str | None]]

_KINDS: Mapping[str, Kind] = {"boolq": "yes-no", "alpaca": "free-text"}
_SPLIT_FIELDS = ("split", "partition")
_SHOWN = 3  # reasons, and ids per reason, listed in a message
_LONGEST_REASON, _LONGEST_ID = 80, 12  # characters of them
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\d+")  # a value in a reason


@dataclass(frozen=True)
class PublishedSplit:
    """A split as published.

    Attributes:
        items: The usable rows.
        unusable: For each other row, by id, why it is unusable.
        files: The number of rows of each file.
    """

    items: Sequence[Item]
    unusable: dict[str, str]
    files: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> float:
        """Share of unusable rows, a fraction."""
        return len(self.unusable) / max(1, len(self.items) + len(self.unusable))


def read(
    task: Task, data: Data, place: Path | None, fits: Fits, own: TaskData | None = None
) -> dict[str, PublishedSplit]:
    """Reads every published split of a data set that has answers; usable rows are stored on disk, not in memory.

    Says in a line how the rows were read, and which file became which split.

    Args:
        task: The data set.
        data: Settings, with the share of rows that may be unusable.
        place: The file or folder that holds the data set; None: the hub.
        fits: Returns, for each item, None, or why it is unusable with the tokenizer.
        own: What the preset says of a data set of one's own; None: the data set is one of the paper's.

    Raises:
        UserError: The data set is not available, a file is not readable or its split cannot be told, the layout of
            the rows or the way of their answers cannot be told, two rows share an id, or too many rows are unusable.
    """
    source, where = _source(task, place, own), _named(task, place, own)
    found, labelled = _labelled(source, list(source.counts), data, where, fits)
    _say(source, found, labelled)
    if not labelled.get("train"):
        told = "; ".join(f"{name}: {split}" for split, part in found.items() for name in list(part.files)[:_SHOWN])
        raise UserError(f"data set {task}: {where} has no training rows with answers ({told[:200]})")
    return labelled


def read_split(
    task: Task, data: Data, place: Path | None, fits: Fits, split: str, own: TaskData | None = None
) -> tuple[str, PublishedSplit]:
    """Returns one published split to ask a model, with its name; other splits are not read whole.

    A data set without a test split with answers is asked its validation split, and one with a single split that one.
    Takes and raises what `read` does; training rows are not needed.
    """
    source, where = _source(task, place, own), _named(task, place, own)
    if split not in (*SPLITS, *source.counts):
        raise UserError(f"split: must be one of {', '.join(SPLITS)}, not {split!r:.40}")
    wanted = [split, *(["validation"] if split == "test" else [])] if len(source.counts) > 1 else list(source.counts)
    for name in (each for each in wanted if each in source.counts):
        found, labelled = _labelled(source, [name], data, where, fits)
        if name in labelled:
            _say(source, found, labelled)
            return name, labelled[name]
    has = f"it has {', '.join(source.counts)}" if split not in source.counts else "its rows have no answers"
    raise UserError(f"data set {task}: {where} has no {split} rows to ask: {has}; choose another split")


def _labelled(
    source: "_Source", splits: Sequence[str], data: Data, where: str, fits: Fits
) -> tuple[dict[str, PublishedSplit], dict[str, PublishedSplit]]:
    """Reads splits; returns all of them, and those that have answers."""
    found = {split: _publish(source, split, fits) for split in splits}
    labelled = {split: published for split, published in found.items() if not source.hides(split, published)}
    for split, published in labelled.items():
        _check_loss(source, split, published, data.max_unusable, where)
    return found, labelled


@dataclass(frozen=True)
class _Source:
    """A data set whose layout is known.

    Attributes:
        tables: Its files, or the hub's splits.
        reading: How its rows are read.
        columns: Split -> what is known of its answers; empty for answers without choices.
        counts: Split -> file -> number of rows.
        split_field: The rows' own field that names their split, if they have one.
        first_lost: Split -> the fields of the first row that cannot be used, for a message.
    """

    task: Task
    tables: Sequence[Table]
    reading: Reading
    columns: dict[str, Column]
    counts: dict[str, dict[str, int]]
    split_field: str | None
    first_lost: dict[str, list[str]] = field(default_factory=dict)

    def rows(self, split: str) -> Iterator[Row]:
        """Yields a split's rows, file by file."""
        tables = (table for table in self.tables if table.name in self.counts[split])
        placed = chain.from_iterable(_placed(self.task, table, self.split_field) for table in tables)
        return (row for told, row in placed if told == split)

    def hides(self, split: str, published: PublishedSplit) -> bool:
        """Whether a split is published without its answers: none can be read, whatever stands there."""
        reasons = set(published.unusable.values())
        if published.items or not reasons:
            return False
        if split in self.columns and self.columns[split].rows:
            return False  # written in another way than in the other splits, not hidden
        beside = any(column.rows for name, column in self.columns.items() if name != split) or not self.columns
        return reasons <= {NO_ANSWER} or (
            beside and split != "train" and all(r == NO_ANSWER or r.startswith(UNREAD_ANSWER) for r in reasons)
        )


def _source(task: Task, place: Path | None, own: TaskData | None) -> _Source:
    """Finds the files of a data set, recognises its layout, and decides how its answers are written."""
    told, name, config = _asked(task, own)
    search = Search(task, told.splits.patterns(), config, told.encoding, own=task not in PUBLISHED)
    tables = tables_in(place, search) if place else from_hub(name, told.revision, search)
    fields = fields_of(row for table in tables for _, row in table.rows())
    kind = told.kind or (None if task not in PUBLISHED else _KINDS.get(task, "multiple-choice"))
    roles = recognise(task, fields, told.fields, kind)
    split_field = _split_field(tables, fields) if search.own and not search.patterns else None
    columns, counts = _surveyed(task, tables, roles, split_field)
    whole = sum(columns.values(), Column())
    way = whole.decide(task, told.answers, roles.layout.answers) if columns else "mixed"
    if task not in PUBLISHED and not told.fields.answer:
        check_rivals(task, (flattened(row) for table in tables for _, row in table.rows()), roles, way, fields)
    return _Source(
        task, tables, Reading(roles, way, told.answers is not None, upper=task == "obqa"), columns, counts, split_field
    )


def _asked(task: Task, own: TaskData | None) -> tuple[TaskData, str, str | None]:
    """Returns what is said of a data set, its name on the hub and its configuration."""
    if task in PUBLISHED:
        name, config = PUBLISHED[task]
        return TaskData(hub=name, config=config), name, config
    told = own or TaskData()
    return told, told.hub or "", told.config


def _named(task: Task, place: Path | None, own: TaskData | None) -> str:
    name = str(place or _asked(task, own)[1])
    return name if len(name) <= 100 else f"...{name[-97:]}"


def _split_field(tables: Sequence[Table], fields: Sequence[str]) -> str | None:
    """Returns the field in which rows name their split themselves.

    One is enough that says a known split. Rows that say several other things, in a file that tells no split, may be
    held out like files with such names, so they are checked and refused too; numbers do not count.
    """
    for name in (each for each in fields if plain(each) in _SPLIT_FIELDS):
        groups: set[str | None] = set()
        for table in tables:
            for key, row in table.rows():
                value = flattened(row).get(name)
                if table.split is None and key is None:
                    groups.add(None if value is None or value == "" else without_numbers(str(value)))
                if split_of_value(value) or len(groups) > 1:
                    return name
    return None


def _placed(task: Task, table: Table, split_field: str | None) -> Iterator[tuple[str, Row]]:
    """Yields a table's rows with their split: the row's own, its key's, or the file's.

    Raises:
        UserError: Row and file name different splits, or a row names one that is not known.
    """
    for number, (key, row) in enumerate(table.rows(), 1):
        said = flattened(row).get(split_field) if split_field else None
        own, by_key = split_of_value(said), split_of_value(key)
        told = [split for split in (own, by_key, table.split) if split]
        if (said and not own) or len(set(told)) > 1:
            beside = f"the file's name {table.split}" if table.split else f"the list it is in {key}"
            other = beside if told else "which is not train, validation or test"
            raise UserError(
                f"data set {task}: row {number} of {table.name[-60:]} says split {str(said or key)[:20]!r}, {other}; "
                f"mend it, or list the files under tasks.{task}.splits to go by files alone"
            )
        yield told[0] if told else "train", row


def _surveyed(
    task: Task, tables: Sequence[Table], roles: Roles, split_field: str | None
) -> tuple[dict[str, Column], dict[str, dict[str, int]]]:
    """Reads all rows once: what is known of each split's answers, and how many rows it has in each file."""
    columns: dict[str, Column] = {}
    counts: dict[str, dict[str, int]] = {}
    for table in tables:
        for split, row in _placed(task, table, split_field):
            files = counts.setdefault(split, {})
            files[table.name] = files.get(table.name, 0) + 1
            if roles.choices:
                _add(columns.setdefault(split, Column()), roles, flattened(row))
    return columns, counts


def _add(column: Column, roles: Roles, row: Row) -> None:
    value = plain_value(row.get(roles.answer))
    if value is None or value == "":
        return
    try:
        column.add(value, choices_in(roles, row))
    except UnusableRow:
        return  # counted when it is read


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
    """Counts unusable rows by reason, for a message: the three most frequent, with three ids each.

    Reasons that differ only in a value are one, and shown with the first.

    >>> summary({"q1": "no answer", "q2": "too long", "q3": "no answer"})
    'no answer: 2 (q1, q3); too long: 1 (q2)'
    >>> summary({"q1": "the answer 'x' is no letter", "q2": "the answer 'y' is no letter"})
    "the answer 'x' is no letter, and the like: 2 (q1, q2)"
    """
    alike: dict[str, dict[str, str]] = {}
    for name, reason in unusable.items():
        alike.setdefault(_VALUE.sub("", reason), {})[name] = reason
    ranked = sorted(alike.values(), key=len, reverse=True)
    others = sum(map(len, ranked[_SHOWN:]))
    return "; ".join([*map(_reason, ranked[:_SHOWN]), *[f"and {others} more for other reasons"] * (others > 0)])


def _reason(rows: Mapping[str, str]) -> str:
    first = next(iter(rows.values()))
    like = ", and the like" if len(set(rows.values())) > 1 else ""
    ids = ", ".join(name[:_LONGEST_ID] for name in list(rows)[:_SHOWN]) + ", ..." * (len(rows) > _SHOWN)
    return f"{first[:_LONGEST_REASON]}{like}: {len(rows)} ({ids})"


def _publish(source: _Source, split: str, fits: Fits) -> PublishedSplit:
    unusable: dict[str, str] = {}
    usable = _fitting(_read(source, split, unusable), fits, unusable)
    return PublishedSplit(on_disk(usable, vars, from_json), unusable, source.counts[split])


def _fitting(items: Iterable[Item], fits: Fits, unusable: dict[str, str]) -> Iterator[Item]:
    for piece in in_pieces(items, characters):
        for item, reason in zip(piece, fits(piece), strict=True):
            if reason is None:
                yield item
            else:
                unusable[item.id] = reason


def _read(source: _Source, split: str, unusable: dict[str, str]) -> Iterator[Item]:
    """Yields the items of all usable rows; records the reason for each other row in `unusable`."""
    seen: set[str] = set()
    for index, row in enumerate(source.rows(split)):
        name = row_id(source.task, split, row, index, source.reading.roles.id)
        if not name.isprintable():
            raise UserError(
                f"data set {source.task} {split}: row {index + 1} has the id {name[:60]!r}; remove its unprintable "
                "characters"
            )
        if name in seen:
            raise UserError(f"data set {source.task} {split}: two rows have the id {name[:60]!r}; make ids unique")
        seen.add(name)
        try:
            yield read_row(source.reading, row, name)
        except UnusableRow as error:
            unusable[name] = str(error)
            source.first_lost.setdefault(split, list(row))


def _check_loss(source: _Source, split: str, published: PublishedSplit, allowed: float, where: str) -> None:
    if published.lost > allowed:
        fields = ", ".join(name[:20] for name in source.first_lost.get(split, [])[:6])
        looked = f" (fields of the first: {fields}; read as {source.reading.roles.layout.name})" if fields else ""
        raise UserError(
            f"data set {source.task} {split}: {len(published.unusable)} rows ({published.lost:.1%}) cannot be used: "
            f"{summary(published.unusable)}; fix them in {where}{looked}, or raise data.max_unusable"
        )


def _say(source: _Source, found: Mapping[str, PublishedSplit], labelled: Mapping[str, PublishedSplit]) -> None:
    """Prints how a data set was read and which file is which split, and as an error what is lost."""
    if distributed.rank():
        return
    written = f", {IN_WORDS[source.reading.way]}" if source.columns else ""
    if source.task not in PUBLISHED:
        print(f"{source.task}: read as {source.reading.roles.told()}{written}")
    for split, published in found.items():
        hidden = "" if split in labelled else "; its answers are hidden, so it is not used"
        files = {name: {split: count} for name, count in published.files.items()}
        print("\n".join(f"{line}{hidden}" for line in told_files({source.task: files})))
        if published.unusable and not hidden:
            rows = f"{len(published.unusable)} of {len(published.unusable) + len(published.items)} rows"
            print(f"{source.task} {split}: {rows} cannot be used: {summary(published.unusable)}", file=sys.stderr)
