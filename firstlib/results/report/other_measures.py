"""Other measures of calibration than the paper's ECE, of one model's answers."""

from dataclasses import dataclass

from firstlib.evaluation.predictions import Predictions
from firstlib.metrics import (
    BrierSplit,
    calibration_refinement,
    classwise_ece,
    debiased_ece,
    ece,
    ece_by_convention,
    mce,
    smooth_ece,
)
from firstlib.settings.schema import Measures


@dataclass(frozen=True)
class OtherMeasures:
    """Calibration errors as fractions, and the top-label Brier score in its parts.

    Attributes:
        conventions: ECE by the name of the library whose bin edges it follows.
    """

    ece: float
    equal_mass_ece: float
    debiased_ece: float
    smooth_ece: float
    mce: float
    classwise_ece: float
    brier: BrierSplit
    conventions: dict[str, float]


def other_measures(found: Predictions, measures: Measures) -> OtherMeasures:
    """Returns every measure of a model's answers, in the settings' reading of confidence and number of bins."""
    confidence, correct, bins = found.confidence(measures.confidence), found.correct(), measures.bins
    rows = found.shares() if measures.confidence == "candidates" else found.probabilities
    return OtherMeasures(
        ece=ece(confidence, correct, bins),
        equal_mass_ece=ece(confidence, correct, bins, "equal-mass"),
        debiased_ece=debiased_ece(confidence, correct, bins),
        smooth_ece=smooth_ece(confidence, correct),
        mce=mce(confidence, correct, bins),
        classwise_ece=classwise_ece(rows, found.answer, bins),
        brier=calibration_refinement(confidence, correct, bins),
        conventions=ece_by_convention(confidence, correct, bins),
    )
