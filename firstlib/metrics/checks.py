"""Input checks shared by all measures.

A check never changes a value. It raises a ValueError in one line: which argument, its first bad row, what to do.
"""

import numpy as np
from numpy.typing import ArrayLike

# K probabilities that were rounded, to float16 or to a few decimals, may sum to 1 plus this much. The last digits are
# for the addition itself: 0.334 + 0.333 + 0.334 is a little more than 1.001.
SUM_TOLERANCE = 1e-3 + 1e-9
# A float32 softmax over a large vocabulary may sum to 1 plus this much.
SOFTMAX_SUM_TOLERANCE = 1e-4
# The same of a softmax that was rounded to float16 or bfloat16: half a unit of their last place, and some room.
_HALF_SUM_TOLERANCE = {"float16": 2**-10, "bfloat16": 2**-8}
_ROUND_OFF = 1e-6  # by which a sum of float32 probabilities may exceed 1


def check_predictions(confidence: ArrayLike, correct: ArrayLike, suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Returns confidence `(N,)` as float64 and correct `(N,)` as bool; messages append `suffix` to both names."""
    confidences = check_confidence(confidence, "confidence" + suffix)
    hits = check_correct(correct, "correct" + suffix)
    _check_lengths("correct" + suffix, hits, "confidence" + suffix, confidences)
    return confidences, hits


def check_confidence(confidence: ArrayLike, name: str = "confidence") -> np.ndarray:
    """Returns `(N,)` probabilities as float64: finite, in [0, 1], N at least 1."""
    return _check_unit_interval(name, _as_floats(name, confidence, dimensions=1))


def check_correct(correct: ArrayLike, name: str = "correct") -> np.ndarray:
    """Returns `(N,)` answers as bool, True where right; numbers must be exactly 0 or 1."""
    values = as_array(correct, name)
    _check_shape(name, values, dimensions=1)
    if values.dtype == bool:
        return values
    values = _without_na(values)
    bad = ~((values == 0) | (values == 1))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"{name}[{row}] is {values[row]}: pass True or False (or 1 or 0) for every row")
    return values.astype(bool)


def check_distributions(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities `(N, C)` as float64 and labels `(N,)` as integers in 0..C-1.

    A row may sum to less than 1, because a question's candidates need not hold all the mass, but not to more.
    """
    name = "probabilities"
    rows = _check_unit_interval(name, _as_floats(name, probabilities, dimensions=2))
    too_much = rows.sum(axis=1) > 1 + _sum_tolerance(as_array(probabilities, name))
    if too_much.any():
        row = int(too_much.argmax())
        total = rows[row].sum()
        raise ValueError(f"probabilities[{row}] sums to {total:.6g}: divide each row by its sum")
    return rows, check_labels(labels, rows, name)


def check_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores `(N, C)` as float64 and labels `(N,)`; each row needs one finite score, others may be -inf."""
    rows = _as_floats("scores", scores, dimensions=2)
    bad = ~np.isfinite(rows.max(axis=1))  # a maximum is nan if any entry is
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"scores[{row}] has a nan, plus infinity or no finite entry: leave that question out")
    return rows, check_labels(labels, rows, "scores")


def check_labels(labels: ArrayLike, rows: np.ndarray, name: str) -> np.ndarray:
    """Returns labels `(N,)`, each the column of its row's right answer."""
    values = np.asarray(labels)
    _check_shape("labels", values, dimensions=1)
    _check_lengths("labels", values, name, rows)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"labels has dtype {values.dtype}: pass the right answer's column, an integer, for every row")
    bad = (values < 0) | (values >= rows.shape[1])
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"labels[{row}] is {values[row]}: {name} has columns 0 to {rows.shape[1] - 1}; pass one of them"
        )
    return values


def check_temperatures(temperatures: ArrayLike) -> np.ndarray:
    """Returns temperatures `(T,)` as float64, each finite and above 0."""
    values = _as_floats("temperatures", temperatures, dimensions=1)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        place = int(bad.argmax())
        raise ValueError(f"temperatures[{place}] is {values[place]}: pass finite numbers above 0")
    return values


def check_at_least_one(name: str, value: int) -> None:
    """Raises ValueError if a number of bins, resamples or draws is no whole number of 1 or more."""
    if value < 1:
        raise ValueError(f"{name} is {value}: use 1 or more")
    if value != int(value):
        raise ValueError(f"{name} is {value}: use a whole number")


def check_level(level: float) -> None:
    """Raises ValueError if a confidence level is not strictly between 0 and 1, such as 95 instead of 0.95."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: pass a fraction between 0 and 1, such as 0.95")


def as_array(values: ArrayLike, name: str) -> np.ndarray:
    """Returns an array; torch's bfloat16, which NumPy does not have, as float32.

    Raises:
        ValueError: Some values are masked.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):  # pandas' have masks of their own
        raise ValueError(f"{name} has masked values: drop their rows, or fill them")
    if callable(detach := getattr(values, "detach", None)):
        tensor = detach().cpu()
        return np.asarray(tensor.float() if "bfloat16" in str(tensor.dtype) else tensor)
    return np.asarray(values)


def _without_na(values: np.ndarray) -> np.ndarray:
    """Returns values with NaN where pandas' nullable types have none: its NA refuses every comparison."""
    return np.frompyfunc(_known, 1, 1)(values) if values.dtype == object else values


def _known(value: object) -> object:
    return np.nan if value is None or type(value).__name__ == "NAType" else value


def _sum_tolerance(values: np.ndarray) -> float:
    """Returns by how much rows may exceed 1, by the precision that the values have."""
    if values.dtype == np.float16:
        return _HALF_SUM_TOLERANCE["float16"]
    if values.dtype == np.float32 and not (values.view(np.uint32) & 0xFFFF).any():
        return _HALF_SUM_TOLERANCE["bfloat16"]  # a float32 whose lower half is empty was one
    return SOFTMAX_SUM_TOLERANCE


def _as_floats(name: str, values: ArrayLike, dimensions: int) -> np.ndarray:
    floats = np.asarray(_without_na(as_array(values, name)), np.float64)
    _check_shape(name, floats, dimensions)
    return floats


def _check_shape(name: str, values: np.ndarray, dimensions: int) -> None:
    if values.ndim != dimensions:
        wanted = "(N,)" if dimensions == 1 else "(N, C)"
        raise ValueError(f"{name} has shape {values.shape}: pass shape {wanted}")
    if values.size == 0:
        raise ValueError(f"{name} is empty: pass at least one row")


def _check_lengths(name: str, values: np.ndarray, other_name: str, others: np.ndarray) -> None:
    if len(values) != len(others):
        first = min(len(values), len(others))
        raise ValueError(
            f"{name} has {len(values)} rows and {other_name} {len(others)}: row {first} has no partner; pass pairs"
        )


def _check_unit_interval(name: str, values: np.ndarray) -> np.ndarray:
    # Valid input takes two passes; nan fails both comparisons.
    if values.min() >= 0 and values.max() <= 1:
        return values
    row = np.argwhere(~((values >= 0) & (values <= 1)))[0].tolist()
    place = ", ".join(str(position) for position in row)
    value = values[tuple(row)]
    remedy = "pass probabilities from 0 to 1, not logits or percents"
    if np.isnan(value):
        remedy = "leave that row out"
    elif 1 < value <= 1 + _ROUND_OFF:
        remedy = "this is round-off; clip to 1"
    raise ValueError(f"{name}[{place}] is {value}: {remedy}")


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless a temperature is above 0 and finite."""
    if not 0 < temperature < np.inf:
        raise ValueError(f"a temperature must be above 0 and finite, not {temperature}")


def check_top_k(probabilities: np.ndarray) -> None:
    """Raises ValueError unless each row `(K,)` of probabilities is part of a distribution."""
    check_rows(
        (probabilities >= 0).all(axis=-1), "a probability is negative or NaN; repair it, or leave the position out"
    )
    check_rows(probabilities.sum(axis=-1) <= 1 + SUM_TOLERANCE, "probabilities sum to more than 1; divide by their sum")


def check_rows(good: np.ndarray | np.bool, complaint: str) -> None:
    """Raises ValueError with the first row that is not good."""
    if not good.all():
        raise ValueError(f"row {int(np.argmin(good))}: {complaint}")
