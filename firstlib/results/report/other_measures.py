"""Other measures of calibration than the paper's ECE, of one model's answers."""

from firstlib.evaluation.audit.errors import OtherMeasures, calibration_errors
from firstlib.evaluation.predictions import Predictions
from firstlib.metrics import classwise_ece
from firstlib.settings.schema import Measures


def other_measures(found: Predictions, measures: Measures) -> OtherMeasures:
    """Returns every measure of a model's answers, in the settings' reading of confidence and number of bins."""
    rows = found.shares() if measures.confidence == "candidates" else found.probabilities
    errors = calibration_errors(found.confidence(measures.confidence), found.correct(), measures.bins)
    return OtherMeasures(**vars(errors), classwise_ece=classwise_ece(rows, found.answer, measures.bins))
