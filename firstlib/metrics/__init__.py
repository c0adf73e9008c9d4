"""Accuracy, expected calibration error (ECE) and related measures, in NumPy alone.

Throughout this package, *confidence* is the probability of the predicted answer, and *correct* says whether
that answer is right. ECE is the mean gap between the two over bins; Trust is accuracy minus ECE.

Libraries disagree on which bin a confidence on a bin edge belongs to. Here the edges are the floats k / bins,
a bin is (low, high], and the first bin also holds 0.0. With ten bins, 0.3 belongs to (0.2, 0.3] and 1.0 to
(0.9, 1.0]:

>>> reliability([0.0, 0.3, 0.31, 1.0], [False, True, True, True]).count.tolist()
[1, 0, 1, 1, 0, 0, 0, 0, 0, 1]

`ece_by_convention` computes what other libraries report for the same predictions. All computation is in
float64. A float32 confidence keeps its exact value: float32's 0.3 is 0.30000001, which lies above the edge.

Nothing is clipped, not even a rounding error. Values that are outside [0, 1] or not finite, arrays of unequal
length and empty input raise a ValueError in one line, which names the argument, its first bad row, and what to
do.
"""

from firstlib.metrics.bins import (
    Binning,
    BrierSplit,
    Reliability,
    calibration_refinement,
    classwise_ece,
    debiased_ece,
    ece,
    mce,
    reliability,
)
from firstlib.metrics.chance import (
    Interval,
    NoiseFloor,
    ResampledEce,
    bootstrap_difference,
    bootstrap_ece,
    noise_draws,
    noise_floor,
    paired_bootstrap_difference,
    resampled_ece,
)
from firstlib.metrics.conventions import ece_by_convention
from firstlib.metrics.paired import detectable_difference, holm, mean_interval, sign_flip_p
from firstlib.metrics.proportions import clopper_pearson, share_interval, share_intervals
from firstlib.metrics.scores import accuracy, brier, nll, trust
from firstlib.metrics.selective import Selective, selective_accuracy
from firstlib.metrics.smooth import smooth_ece
from firstlib.metrics.sweeps import Sweep, sweep, sweep_probabilities

__all__ = [
    "Binning",
    "BrierSplit",
    "Interval",
    "NoiseFloor",
    "Reliability",
    "ResampledEce",
    "Selective",
    "Sweep",
    "accuracy",
    "bootstrap_difference",
    "bootstrap_ece",
    "brier",
    "calibration_refinement",
    "classwise_ece",
    "clopper_pearson",
    "debiased_ece",
    "detectable_difference",
    "ece",
    "ece_by_convention",
    "holm",
    "mce",
    "mean_interval",
    "nll",
    "noise_draws",
    "noise_floor",
    "paired_bootstrap_difference",
    "reliability",
    "resampled_ece",
    "selective_accuracy",
    "share_interval",
    "share_intervals",
    "sign_flip_p",
    "smooth_ece",
    "sweep",
    "sweep_probabilities",
    "trust",
]
