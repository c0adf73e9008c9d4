"""The paper's two-step search for the coefficient of a map (FIRST, section 3, https://arxiv.org/abs/2408.12168)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from firstlib.distillation.recalibration import Map


@dataclass(frozen=True)
class Grid:
    """A two-step grid: `step, 2 step, ..., end`, then steps of `fine` between the best point's neighbours."""

    step: float
    end: float
    fine: float


# The paper's grid for Eq. 4. A logit temperature softens above 1, so its grid extends beyond.
GRIDS = {Map.TEMPERATURE: Grid(0.1, 1.0, 0.02), Map.LOGIT_TEMPERATURE: Grid(0.5, 5.0, 0.1)}


@dataclass(frozen=True)
class Search:
    """Every coefficient tried with its score, and the best one.

    Attributes:
        coarse: `(A, 2)`, coefficient and score.
        fine: `(B, 2)`, likewise.
        best: The coefficient with the lowest score; of equals the smallest.
    """

    coarse: np.ndarray
    fine: np.ndarray
    best: float

    @property
    def at_the_edge(self) -> bool:
        """Whether the best lies at an end of the grid, so that a wider one might do better."""
        tried = np.concatenate([self.coarse, self.fine])[:, 0]
        return bool(np.isclose(self.best, [tried.min(), tried.max()]).any())


def search(score: Callable[[float], float], grid: Grid = GRIDS[Map.TEMPERATURE]) -> Search:
    """Finds the coefficient with the lowest score: on the coarse grid, then on the fine one around the best.

    >>> search(lambda c: abs(c - 0.335)).best
    0.34
    """
    coarse = _scores(score, grid.step * np.arange(1, round(grid.end / grid.step) + 1))
    centre = coarse[coarse[:, 1].argmin(), 0]
    reach = round(grid.step / grid.fine)
    around = centre + grid.fine * np.arange(1 - reach, reach)
    fine = _scores(score, around[(around > grid.fine / 2) & (around <= grid.end + grid.fine / 2)])
    both = np.concatenate([coarse, fine])
    both = both[both[:, 0].argsort(kind="stable")]
    return Search(coarse, fine, float(both[both[:, 1].argmin(), 0]))


def _scores(score: Callable[[float], float], coefficients: np.ndarray) -> np.ndarray:
    rounded = coefficients.round(10)
    return np.array([(c, score(float(c))) for c in rounded])


def search_among(score: Callable[[float], float], coefficients: Sequence[float]) -> Search:
    """Finds the coefficient with the lowest score among a few given ones.

    >>> search_among(lambda c: abs(c - 1.4), (1.0, 1.5, 2.0)).best
    1.5
    """
    tried = _scores(score, np.array(sorted(coefficients)))
    return Search(tried, tried[:0], float(tried[tried[:, 1].argmin(), 0]))
