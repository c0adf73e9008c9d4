"""What a teacher says at some positions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TopK:
    """What a teacher says at one example's P response positions.

    Attributes:
        position: `(P,)` index of the token predicted.
        token_ids: `(P, K)`, most probable first.
        probabilities: `(P, K)`, of the whole vocabulary's softmax.
        residual: `(P,)`, the mass outside the K, summed over the vocabulary; imported or from vLLM: 1 minus the sum.
        log_normalisers: `(P, G)`, log sum_j exp(z_j / T) over the whole vocabulary at G temperatures T, in nats:
            with it a temperature applies exactly later (`recalibration.exact_temperature`).
    """

    example_id: str
    position: np.ndarray
    token_ids: np.ndarray
    probabilities: np.ndarray
    residual: np.ndarray
    log_normalisers: np.ndarray
