"""Smooth ECE: calibration error without bins, its amount of smoothing chosen by itself."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from firstlib.metrics.bins import ROWS_AT_ONCE
from firstlib.metrics.checks import check_predictions

# relplot's constants, kept so that the two agree to rounding.
SMALLEST_WIDTH = 0.001
HALVINGS = 10
FEWEST_PLACES = 200
FEWEST_STEPS = 2000
DENSITY_FLOOR = 1e-4
# A Gaussian this many widths out is below 1e-17 of its peak: float64 cannot tell it from 0.
REACH = 9.0


def smooth_ece(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Calibration error smoothed by a Gaussian instead of bins; a fraction.

    Takes and raises what `ece` does. The residuals confidence - correct are smoothed with a Gaussian
    reflected at 0 and 1. The mean of their absolute values falls as the Gaussian widens; the measure is
    taken where the two meet. There are no edges, so a confidence that moves a little moves it little.
    Blasiok and Nakkiran 2023, "Smooth ECE"; equal to relplot's `smECE`, its grid and bisection included.
    """
    sure, right = check_predictions(confidence, correct)
    smoother = _Smoother(sure, sure - right)
    return smoother.error(_meeting_width(smoother.error))


def _meeting_width(error: Callable[[float], float]) -> float:
    """Bisect for the smallest width that is no longer exceeded by the error at that width."""
    width, too_narrow = 1.0, 0.0
    for _ in range(HALVINGS):
        middle = (width + too_narrow) / 2
        if middle < SMALLEST_WIDTH or middle < error(middle):
            too_narrow = middle
        else:
            width = middle
    return width


class _Smoother:
    """Smooths one set of predictions at any width, and shares its rows out on each grid only once.

    That is what a million rows cost: the widths above 0.01 all use the same grid.
    """

    def __init__(self, confidence: np.ndarray, residual: np.ndarray) -> None:
        self.confidence = confidence
        self.residual = residual
        self.grids: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def error(self, width: float) -> float:
        """Return the smoothed residuals' mean absolute value over [0, 1], weighed by the smoothed density."""
        points = max(FEWEST_STEPS, round(20 / width)) // 2 + 1
        if points not in self.grids:
            self.grids[points] = _share_out(self.confidence, self.residual, points)
        places = np.linspace(0, 1, max(FEWEST_PLACES, round(10 / width)))
        rows, residual = (_interpolate(_blur(values, width), places) for values in self.grids[points])
        return float(np.abs(residual).sum() / (rows + DENSITY_FLOOR).sum())


def _share_out(confidence: np.ndarray, residual: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Share every row, and its residual, between the two nearest of the grid's points; each `(points,)`."""
    rows, rows_moved, residuals, residuals_moved = np.zeros((4, points))
    for start in range(0, len(confidence), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        place = confidence[part] * (points - 1)
        left = np.minimum(place.astype(np.intp), points - 2)
        place -= left  # from 0 at the left point to 1 at the right one
        rows += np.bincount(left, minlength=points)
        rows_moved += np.bincount(left, place, points)
        residuals += np.bincount(left, residual[part], points)
        residuals_moved += np.bincount(left, place * residual[part], points)
    return _move_right(rows, rows_moved), _move_right(residuals, residuals_moved)


def _move_right(values: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Take `moved` off each grid point and give it to the next."""
    shared = values - moved
    shared[1:] += moved[:-1]
    return shared


def _blur(values: np.ndarray, width: float) -> np.ndarray:
    """Convolve `(points,)` grid values with a Gaussian, mirrored at both ends."""
    points = len(values)
    offset = np.linspace(0, 1, points) - 0.5
    far = int(np.searchsorted(offset, -REACH * width))  # taps beyond REACH change no digit
    taps = offset[far : points - far]
    kernel = np.exp(-(taps**2) / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
    mirrored = np.concatenate([values[:0:-1], values, values[-2::-1]])
    start = points // 2 + far
    return np.convolve(mirrored[start : start + points - 1 + len(kernel)], kernel, "valid")


def _interpolate(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Read grid values at places in [0, 1], linearly between the grid's points."""
    return np.interp(places, np.linspace(0, 1, len(values)), values)
