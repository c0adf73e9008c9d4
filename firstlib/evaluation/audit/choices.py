"""The choices of a table's questions: where their probabilities stand.

Columns are found by how their names begin (`p_a`, `p_b`), which names of other things do as well (`p_max`). They are
all taken for choices only where nothing speaks against it.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firstlib.evaluation.audit.columns import Table, is_number
from firstlib.metrics.checks import SUM_TOLERANCE
from firstlib.runtime.errors import UserError

_ONE_CHOICE = re.compile(r"(?:p|prob|probability)_(?P<choice>.+)")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST = 0.9  # share of rows that tells what holds for a column


def named(found: Table) -> list[str]:
    """Returns the columns that hold probabilities: one of lists, or one for each choice."""
    given = list(found.columns.probabilities)
    if twice := [name for name, count in Counter(given).items() if count > 1]:
        raise UserError(f"probabilities: {twice[0]!r} is named twice; name each choice's column once")
    if given:
        return [found.known(name, "probabilities") for name in given]
    if (lists := found.optional("probabilities")) is not None:
        return [lists]
    names = [name for name in found.table.column_names if _ONE_CHOICE.fullmatch(name)]
    if len(names) < 2:
        raise UserError(
            f"{found.name}: has neither `confidence` and `correct` nor `probabilities` and `answer`; it has "
            f"{found.told():.160}; name yours: --confidence and --correct, or --probabilities and --answer"
        )
    return [found.known(name, "probabilities") for name in names]


def probabilities(found: Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities `(N, C)`, 0 where a question has fewer choices, and the number of choices `(N,)`."""
    if len(names) == 1:
        return _lists(found, names[0])
    rows, count = _side_by_side(found, names)
    if not found.columns.probabilities:
        _check_found(found, names, rows)
    return rows, count


# -- one column of lists -----------------------------------------------------------------------------------------


def _lists(found: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    column = found.cells(name)
    if not _is_list(column.type):
        column = _parsed(found, name, column)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = column.flatten()
    if not is_number(flat.type):
        raise UserError(f"{found.name}: column {name!r} holds lists of {flat.type}; give lists of numbers")
    rows = np.zeros((len(lengths), max(1, int(lengths.max(initial=0)))))
    exists = np.arange(rows.shape[1]) < lengths[:, None]
    rows[exists] = pc.cast(flat, pa.float64()).to_numpy(zero_copy_only=False)
    return rows, lengths


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _parsed(found: Table, name: str, column: pa.Array) -> pa.Array:
    """Returns lists that a CSV file holds as JSON texts, None for a text that is none."""
    lists = [_list(text) for text in column.to_pylist()]
    if not any(lists):
        raise UserError(f"{found.name}: column {name!r} holds no lists of numbers; name yours with --probabilities")
    return pa.array(lists, pa.list_(pa.float64()))


def _list(text: Any) -> list[float] | None:
    try:
        values = json.loads(text)
        return [float(value) for value in values] if all(type(value) in (int, float) for value in values) else None
    except (TypeError, ValueError, RecursionError, OverflowError):
        return None


# -- one column for each choice ----------------------------------------------------------------------------------


def _side_by_side(found: Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities `(N, C)` and the number of choices `(N,)`; empty fields at a row's end are no choices."""
    rows = np.stack([found.floats(name) for name in names], axis=1)
    given = np.stack([pc.is_valid(found.table.column(name)).to_numpy() for name in names], axis=1)
    count = given.shape[1] - given[:, ::-1].argmax(axis=1)
    count[~given.any(axis=1)] = 0
    return np.where(np.arange(len(names)) < count[:, None], rows, 0.0), count


def _check_found(found: Table, names: Sequence[str], rows: np.ndarray) -> None:
    """Refuses columns that nobody named where some may be no choices.

    All are choices if the rows sum to 1. If they sum to less, as shares of a whole vocabulary do, nothing shows it, and
    only letters or numbers are believed.
    """
    ends = [end.casefold() for end in ends_of(names)]
    if twice := [end for end, count in Counter(ends).items() if count > 1]:
        raise UserError(f"{found.name}: two columns are of choice {twice[0]!r}; name yours with --probabilities")
    rows = rows[((rows >= 0) & (rows <= 1)).all(axis=1)]
    total = float(np.median(rows.sum(axis=1))) if len(rows) else 1.0
    plain = all(len(end) == 1 and end in LETTERS for end in ends) or all(end.isdecimal() for end in ends)
    if abs(total - 1) <= SUM_TOLERANCE or (total < 1 and plain):
        return
    without = np.abs(rows.sum(axis=1)[:, None] - rows - 1) <= SUM_TOLERANCE
    odd = [name for name, share in zip(names, without.mean(axis=0), strict=True) if share > _MOST]
    told = f"without {odd[0]!r} to 1" if len(odd) == 1 else "which may be because some are no choices"
    wanted = f": {','.join(name for name in names if name not in odd)}" if len(odd) == 1 else ""
    raise UserError(
        f"{found.name}: its columns {', '.join(names):.80} sum to {total:.4g}, {told}; name those of the choices with "
        f"--probabilities{wanted:.80}"
    )


def ends_of(names: Sequence[str]) -> list[str]:
    """Returns what the columns call their choices: the name, or its end where it begins as usual."""
    return [match["choice"] if (match := _ONE_CHOICE.fullmatch(name)) else name for name in names]
