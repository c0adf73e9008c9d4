"""Calibration errors of one model's answers by every measure, and by other libraries' conventions."""

from dataclasses import dataclass

import numpy as np

from firstlib.metrics import (
    BrierSplit,
    calibration_refinement,
    debiased_ece,
    ece,
    ece_by_convention,
    mce,
    smooth_ece,
)


@dataclass(frozen=True)
class CalibrationErrors:
    """Calibration errors as fractions, and the top-label Brier score in its parts.

    Attributes:
        conventions: ECE by the name of the library whose bin edges it follows.
        classwise_ece: Mean ECE of the probabilities for each candidate; None where only confidences are known.
    """

    ece: float
    equal_mass_ece: float
    debiased_ece: float
    smooth_ece: float
    mce: float
    brier: BrierSplit
    conventions: dict[str, float]
    classwise_ece: float | None = None


def calibration_errors(confidence: np.ndarray, correct: np.ndarray, bins: int) -> CalibrationErrors:
    """Returns every measure of confidences `(N,)` and correctness `(N,)`.

    Raises:
        ValueError: As `ece` does.
    """
    return CalibrationErrors(
        ece=ece(confidence, correct, bins),
        equal_mass_ece=ece(confidence, correct, bins, "equal-mass"),
        debiased_ece=debiased_ece(confidence, correct, bins),
        smooth_ece=smooth_ece(confidence, correct),
        mce=mce(confidence, correct, bins),
        brier=calibration_refinement(confidence, correct, bins),
        conventions=ece_by_convention(confidence, correct, bins),
    )
