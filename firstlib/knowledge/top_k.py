"""A teacher's top-k distribution at response positions, and its exact logit temperature."""

from dataclasses import dataclass

import numpy as np

from firstlib.metrics.checks import check_temperature, check_top_k
from firstlib.runtime.errors import StoreError


@dataclass(frozen=True)
class TopK:
    """A teacher's top-k distributions at the P response positions of one example.

    Attributes:
        example_id: The example's id.
        position: `(P,)`, index of the predicted token in the example's token ids.
        token_ids: `(P, K)`, most probable first.
        probabilities: `(P, K)`, from the softmax over the whole vocabulary.
        residual: `(P,)`, probability outside the K tokens: summed over the vocabulary, or 1 minus the sum of the K for
            imported knowledge and vLLM.
        log_normalisers: `(P, G)`, log sum_j exp(z_j / T) over the whole vocabulary at G temperatures T, in nats.
    """

    example_id: str
    position: np.ndarray
    token_ids: np.ndarray
    probabilities: np.ndarray
    residual: np.ndarray
    log_normalisers: np.ndarray

    def entropy(self) -> np.ndarray:
        """Returns the entropy `(P,)` in nats, the mass outside the top k as if on one token: a lower bound."""
        mass = np.concatenate([self.probabilities, self.residual[:, None]], axis=1).astype(np.float64)
        return -(mass * np.log(np.where(mass > 0, mass, 1))).sum(axis=1)

    def at_temperature(self, temperature: float, stored: tuple[float, ...]) -> np.ndarray:
        """Returns the top-k probabilities `(P, K)` under a logit temperature over the whole vocabulary.

        Args:
            temperature: T, above 0.
            stored: The temperatures of `log_normalisers`, as in `Origin.temperatures`; must contain 1.0 and T.

        Raises:
            StoreError: 1.0 or `temperature` is not stored.
        """
        return tempered(self.probabilities, temperature, *normalisers_at(self.log_normalisers, temperature, stored))


def normalisers_at(
    log_normalisers: np.ndarray, temperature: float, stored: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the log normalisers `(N,)` at 1.0 and at a temperature, out of `(N, G)`.

    Raises:
        StoreError: One of them is not stored.
    """
    if missing := [t for t in (1.0, temperature) if t not in stored]:
        raise StoreError(
            f"log normalisers are stored at temperatures {list(stored)}, not at {missing[0]}; add it to "
            "knowledge.temperatures and extract the knowledge again"
        )
    return log_normalisers[:, stored.index(1.0)], log_normalisers[:, stored.index(temperature)]


def tempered(
    probabilities: np.ndarray, temperature: float, log_normaliser: np.ndarray, tempered_log_normaliser: np.ndarray
) -> np.ndarray:
    """Applies a logit temperature exactly, as if to all logits of the teacher; returns `(N, K)`.

    Rows sum to less than 1: the rest is the probability outside the top-k at this temperature, which the loss's tail
    treats.

    >>> dense = np.array([[0.8, 0.1, 0.1]])  # logits log p: the log normaliser is 0, at T = 2 log sum sqrt(p)
    >>> tempered(dense[:, :2], 2.0, np.zeros(1), np.log(np.sqrt(dense).sum(1))).round(3)
    array([[0.586, 0.207]])

    Args:
        probabilities: `(N, K)`, as stored.
        temperature: T, above 0 and finite.
        log_normaliser: `(N,)`, log sum_j exp(z_j), in nats.
        tempered_log_normaliser: `(N,)`, log sum_j exp(z_j / T), in nats.

    Raises:
        ValueError: The temperature is not positive and finite; a probability is negative or NaN; a row sums to more
            than 1.
    """
    check_temperature(temperature)
    check_top_k(probabilities)
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities.astype(np.float64)) + log_normaliser[:, None]
    return np.exp(logits / temperature - tempered_log_normaliser[:, None])
