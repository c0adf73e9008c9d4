"""Smooth ECE: calibration error without bins, with an automatic choice of kernel width."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import ROWS_AT_ONCE
from firstlib.metrics.checks import check_predictions

# relplot's constants: with them, both agree up to rounding.
SMALLEST_WIDTH = 0.001
HALVINGS = 10
MIN_POINTS = 200
MIN_STEPS = 2000
DENSITY_FLOOR = 1e-4
# This many widths from its peak, a Gaussian is below 1e-17 of the peak, which float64 cannot resolve.
REACH = 9.0


def smooth_ece(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Calibration error smoothed by a Gaussian kernel instead of bins; a fraction.

    Takes and raises what `ece` does. The residuals confidence - correct are smoothed with a Gaussian
    reflected at 0 and 1. The mean of their absolute values falls as the kernel widens; the result is the value
    that equals the kernel's width. Without bin edges, a small change of a confidence changes the result little.
    Blasiok and Nakkiran 2023, "Smooth ECE"; equal to relplot's `smECE`, including its grid and bisection.
    """
    confidences, hits = check_predictions(confidence, correct)
    smoother = _Smoother(confidences, confidences - hits)
    return smoother.error(_fixed_point(smoother.error))


def _fixed_point(error: Callable[[float], float]) -> float:
    """Bisects for the smallest width that is at least the error at that width."""
    width, too_narrow = 1.0, 0.0
    for _ in range(HALVINGS):
        middle = (width + too_narrow) / 2
        if middle < SMALLEST_WIDTH or middle < error(middle):
            too_narrow = middle
        else:
            width = middle
    return width


class _Smoother:
    """Smooths one set of predictions at any width, and distributes its rows over each grid only once.

    Distributing the rows is the main cost for a million rows; all widths above 0.01 use the same grid.
    """

    def __init__(self, confidence: np.ndarray, residual: np.ndarray) -> None:
        self.confidence = confidence
        self.residual = residual
        self.grids: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def error(self, width: float) -> float:
        """Returns the mean absolute smoothed residual over [0, 1], weighted by the smoothed density."""
        points = max(MIN_STEPS, round(20 / width)) // 2 + 1
        if points not in self.grids:
            self.grids[points] = _distribute(self.confidence, self.residual, points)
        places = _grid(max(MIN_POINTS, round(10 / width)))
        rows, residual = (np.interp(places, _grid(points), blurred) for blurred in _blur(self.grids[points], width))
        return float(np.abs(residual).sum() / (rows + DENSITY_FLOOR).sum())


def _distribute(confidence: np.ndarray, residual: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides every row, and its residual, between the two nearest grid points; both results are `(points,)`."""
    rows, rows_moved, residuals, residuals_moved = np.zeros((4, points))
    for start in range(0, len(confidence), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        place = confidence[part] * (points - 1)
        left = place.astype(np.intp)
        place -= left  # from 0 at the left point to 1 at the right one
        rows += np.bincount(left, minlength=points)
        rows_moved += np.bincount(left, place, points)
        residuals += np.bincount(left, residual[part], points)
        residuals_moved += np.bincount(left, place * residual[part], points)
    return _move_right(rows, rows_moved), _move_right(residuals, residuals_moved)


def _move_right(values: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Subtracts `moved` from each grid point and adds it to the next."""
    shared = values - moved
    shared[1:] += moved[:-1]
    return shared


def _blur(both: Sequence[np.ndarray], width: float) -> Iterator[np.ndarray]:
    """Convolves `(points,)` grid values with a Gaussian, mirrored at both ends."""
    points = len(both[0])
    offset = _grid(points) - 0.5
    far = int(np.searchsorted(offset, -REACH * width))  # taps beyond REACH do not change the result
    taps = offset[far : points - far]
    kernel = np.exp(-(taps**2) / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
    start = points // 2 + far
    for values in both:
        mirrored = np.concatenate([values[:0:-1], values, values[-2::-1]])
        yield np.convolve(mirrored[start : start + points - 1 + len(kernel)], kernel, "valid")


@lru_cache(maxsize=8)
def _grid(points: int) -> np.ndarray:
    """Returns evenly spaced places in [0, 1]. The same few are asked for at every position of a slider."""
    places = np.linspace(0, 1, points)
    places.flags.writeable = False
    return places
