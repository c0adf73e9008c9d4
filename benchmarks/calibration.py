"""Calibration measures compared with the packages that people use, on miscalibration that changes sign."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Work, best_of
from firstlib import metrics

LARGE, MIDDLE, SMALL, BINS = 1_000_000, 10_000, 1_000, 15
TEMPERATURES = np.linspace(0.5, 5, 100)


def answers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and correctness `(n,)`, partly over-confident and partly under-confident."""
    rng = np.random.default_rng(0)
    confidence = rng.random(n)
    return confidence, rng.random(n) < np.clip(confidence + 0.2 * np.sin(6 * np.pi * confidence), 0, 1)


def logits(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits `(n, 5)` and answers `(n,)` of a model whose logits are three times too large."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(n, 5))
    return 3 * found, (found + rng.gumbel(size=found.shape)).argmax(1)


def torchmetrics_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Torchmetrics' ECE."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    torch.set_num_threads(1)
    return float(binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct).int(), BINS))


def sklearn_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The ECE from scikit-learn's calibration curve, weighted by bin counts."""
    from sklearn.calibration import calibration_curve

    right, mean = calibration_curve(correct, confidence, n_bins=BINS)
    counts = np.histogram(confidence, BINS, (0, 1))[0]
    return float((np.abs(right - mean) * counts[counts > 0]).sum() / len(correct))


def netcal_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Netcal's ECE."""
    from netcal.metrics import ECE

    return float(ECE(BINS).measure(confidence, correct.astype(int)))


def relplot_smooth(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Relplot's smooth ECE."""
    import relplot

    return float(relplot.smECE(confidence, correct.astype(float)))


def torchmetrics_sweep(values: np.ndarray, answer: np.ndarray) -> list[float]:
    """Torchmetrics' ECE at each temperature."""
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    torch.set_num_threads(1)
    z, y = torch.from_numpy(values), torch.from_numpy(answer)
    return [float(multiclass_calibration_error((z / t).softmax(1), y, 5, 10)) for t in TEMPERATURES]


def uncal_bootstrap(confidence: np.ndarray, correct: np.ndarray) -> Any:
    """uncertainty-calibration's interval, from its built-in 100 resamples."""
    import calibration

    return calibration.get_calibration_error_uncertainties(confidence, correct.astype(int))


def sweep(values: np.ndarray, answer: np.ndarray) -> Any:
    """Ours: ECE, NLL and Brier at each temperature."""
    return metrics.sweep(values, answer, TEMPERATURES, bins=10)


def parity() -> dict[str, float]:
    """Checks that all implementations that are correct on this input agree."""
    confidence, correct = answers(MIDDLE)
    ours = metrics.ece(confidence, correct, bins=BINS)
    gaps = [abs(ours - theirs(confidence, correct)) for theirs in (torchmetrics_ece, sklearn_ece, netcal_ece)]
    gaps.append(abs(metrics.smooth_ece(confidence, correct) - relplot_smooth(confidence, correct)))
    gaps.append(float(np.abs(sweep(*logits(SMALL)).ece - torchmetrics_sweep(*logits(SMALL))).max()))
    assert max(gaps) < 1e-6, gaps
    return {"largest difference": max(gaps)}


def timed(work: Callable[..., Any], *inputs: np.ndarray, times: int = 5) -> Work:
    """The best of several runs, in milliseconds."""
    return lambda: {"ms": 1000 * best_of(times, lambda: work(*inputs))}


VARIANTS = {
    "ece": lambda: timed(lambda c, y: metrics.reliability(c, y, bins=BINS), *answers(LARGE)),
    "torchmetrics ece": lambda: timed(torchmetrics_ece, *answers(LARGE)),
    "sklearn ece": lambda: timed(sklearn_ece, *answers(LARGE)),
    "netcal ece": lambda: timed(netcal_ece, *answers(LARGE)),
    "smooth": lambda: timed(metrics.smooth_ece, *answers(LARGE)),
    "relplot smooth": lambda: timed(relplot_smooth, *answers(LARGE), times=3),
    "sweep": lambda: timed(sweep, *logits(MIDDLE)),
    "torchmetrics sweep": lambda: timed(torchmetrics_sweep, *logits(MIDDLE), times=3),
    "bootstrap": lambda: timed(lambda c, y: metrics.bootstrap_ece(c, y, resamples=1000), *answers(SMALL)),
    "uncal bootstrap": lambda: timed(uncal_bootstrap, *answers(SMALL), times=1),
}
_SWEEP = "100 temperatures, n = 10,000 (ours: ECE, NLL, Brier; theirs: ECE)"
_BOOTSTRAP = "1,000 bootstrap resamples of ECE, n = 1,000 (theirs: 100)"
_ECE = "ECE with bin statistics, 1M"
ROWS = [
    (_ECE, "ms", "ms", "ece", "torchmetrics ece", "torchmetrics 1.9", "at most 20 ms or ratio 0.35"),
    (_ECE, "ms", "ms", "ece", "sklearn ece", "scikit-learn 1.9 curve", ""),
    (_ECE, "ms", "ms", "ece", "netcal ece", "netcal 1.4", ""),
    ("smooth ECE, 1M", "ms", "ms", "smooth", "relplot smooth", "relplot 1.0", "ratio at most 0.15"),
    (_SWEEP, "ms", "ms", "sweep", "torchmetrics sweep", "torchmetrics 1.9", "ratio at most 0.45"),
    (_BOOTSTRAP, "ms", "ms", "bootstrap", "uncal bootstrap", "uncertainty-calibration 0.1.4", "at most 60 ms"),
]  # fmt: skip
