"""A model against the exact posterior, where the world knows it: no labels drawn, no bins."""

from dataclasses import dataclass

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.metrics import nll

_SMALLEST = 1e-12  # probability that a logarithm takes for 0


@dataclass(frozen=True)
class AgainstTruth:
    """Means over N questions; nats, and fractions for `calibration_error` and `overconfidence`.

    Attributes:
        kl: KL divergence of the model's shares from the posterior.
        excess_nll: NLL on the drawn answers, minus that of the posterior itself: what better probabilities could save.
        calibration_error: |confidence - posterior probability of the predicted answer|, question by question.
        overconfidence: The same without the bars: above 0 where the model is too sure.
    """

    kl: float
    excess_nll: float
    calibration_error: float
    overconfidence: float


def against_truth(found: Predictions) -> AgainstTruth | None:
    """Returns a model's distances from the exact posterior; None where that is not known."""
    truth, shares = found.posterior, found.shares()
    if not np.isfinite(truth).all():
        return None
    predicted = found.predicted()[:, None]
    gap = (np.take_along_axis(shares, predicted, 1) - np.take_along_axis(truth, predicted, 1))[:, 0]
    return AgainstTruth(
        kl=float(_divergence(truth, shares).mean()),
        excess_nll=nll(np.clip(shares, _SMALLEST, 1), found.answer) - nll(np.clip(truth, _SMALLEST, 1), found.answer),
        calibration_error=float(np.abs(gap).mean()),
        overconfidence=float(gap.mean()),
    )


def _divergence(truth: np.ndarray, model: np.ndarray) -> np.ndarray:
    """`sum_c truth_c log(truth_c / model_c)` for each question `(N,)`, in nats."""
    ratio = np.where(truth == 0, 1, truth) / np.clip(model, _SMALLEST, None)
    return np.where(truth == 0, 0, truth * np.log(ratio)).sum(axis=1)
