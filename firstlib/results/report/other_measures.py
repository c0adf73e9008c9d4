"""Other measures of calibration than the paper's ECE, of one model's answers."""

from dataclasses import replace

from firstlib.evaluation.audit.calibration_errors import CalibrationErrors, calibration_errors
from firstlib.evaluation.predictions import Predictions
from firstlib.metrics import classwise_ece
from firstlib.settings.schema import Measures


def other_measures(found: Predictions, measures: Measures) -> CalibrationErrors:
    """Returns every measure of a model's answers, in the settings' reading of confidence and number of bins."""
    rows = found.shares() if measures.confidence == "candidates" else found.probabilities
    errors = calibration_errors(found.confidence(measures.confidence), found.correct(), measures.bins)
    return replace(errors, classwise_ece=classwise_ece(rows, found.answer, measures.bins))
