"""Resampled residual sums of many rows, drawn by their moments instead of row by row.

A resample changes an ECE only through each bin's sum of residuals. In a large bin that sum is normally distributed
(central limit theorem), so its mean and its variance suffice, and the cost no longer grows with the rows. A small bin
of a large set has too little weight for the difference to matter.
"""

import numpy as np

MANY_ROWS = 12_000  # below this, rows are drawn one by one


def bootstrap_sums(
    indices: list[np.ndarray], residuals: list[np.ndarray], bins: int, resamples: int, seed: int
) -> list[np.ndarray]:
    """Returns each model's residual sums per bin, `(R, bins)`, over the same resampled questions.

    Takes, for each of M models, the bin `(N,)` and the residual `(N,)` of every question. Questions that share a bin in
    every model form a cell. A resample draws how often it takes each cell, and the cell's sum of residuals, which keeps
    the covariance between the models.
    """
    rows, models = len(indices[0]), len(indices)
    joint = np.zeros(rows, np.int64)
    for index in indices:
        joint = joint * bins + index
    cells, cell, count = np.unique(joint, return_inverse=True, return_counts=True)
    mean = np.stack([np.bincount(cell, one) / count for one in residuals], axis=1)  # (cells, M)
    root = _roots(cell, count, residuals, mean)
    rng = np.random.default_rng(seed)
    taken = rng.multinomial(rows, count / rows, resamples)  # (R, cells)
    noise = np.einsum("rcm,ckm->rck", rng.standard_normal((resamples, len(cells), models)), root)
    sums = taken[:, :, None] * mean + np.sqrt(taken)[:, :, None] * noise
    places = [cells // bins ** (models - 1 - model) % bins for model in range(models)]
    return [_per_bin(sums[:, :, model], place, bins) for model, place in enumerate(places)]


def calibrated_sums(confidence: np.ndarray, index: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Returns the residual sums per bin, `(draws, filled bins)`, of a calibrated model with these confidences `(N,)`.

    `index` `(N,)` is each row's bin.
    """
    variance = np.bincount(index, confidence * (1 - confidence))
    rng = np.random.default_rng(seed)
    return rng.standard_normal((draws, len(variance))) * np.sqrt(variance)


def _roots(cell: np.ndarray, count: np.ndarray, residuals: list[np.ndarray], mean: np.ndarray) -> np.ndarray:
    """Returns a square root of each cell's covariance between models, `(cells, M, M)`."""
    models = len(residuals)
    covariance = np.empty((len(count), models, models))
    for a in range(models):
        for b in range(models):
            product = np.bincount(cell, residuals[a] * residuals[b]) / count
            covariance[:, a, b] = product - mean[:, a] * mean[:, b]
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]


def _per_bin(sums: np.ndarray, place: np.ndarray, bins: int) -> np.ndarray:
    """Adds up the sums `(R, cells)` of the cells that share a bin."""
    found = np.zeros((len(sums), bins))
    np.add.at(found.T, place, sums.T)
    return found
