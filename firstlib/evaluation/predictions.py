"""A model's answers to questions: probabilities, confidence and correctness, as arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from firstlib.knowledge.top_k import normalisers_at, tempered
from firstlib.metrics import Reliability, reliability
from firstlib.settings.schema import CandidateScore, Reading


@dataclass(frozen=True)
class Predictions:
    """A model's answers to N questions of up to C candidates. Missing candidates have id -1 and probability 0.

    Attributes:
        question_id: `(N,)` strings.
        candidate_ids: `(N, C)` token ids.
        probabilities: `(N, C)`, each candidate's probability in the whole vocabulary.
        answer: `(N,)`, index of the right candidate.
        top_ids: `(N, K)`, the K most probable tokens of the vocabulary at the answer position.
        top_probabilities: `(N, K)`, theirs.
        posterior: `(N, C)`, the exact posterior where the world knows it, else NaN.
        log_normalisers: `(N, G)`, log sum_j exp(z_j / T) over the vocabulary at G stored temperatures, in nats.
        log_probabilities: `(N, C)`, log-probability of all tokens of a candidate together, in nats; None where every
            candidate is one token, unless `score` is its mean over characters. Where it is given, `candidate_ids` are
            first tokens, and `probabilities` follow from it and `score`.
        tokens: `(N, C)`, number of tokens of each candidate; None likewise.
        characters: `(N, C)`, number of characters of each candidate; None where candidates are not texts.
        score: What ranks candidates.
    """

    question_id: np.ndarray
    candidate_ids: np.ndarray
    probabilities: np.ndarray
    answer: np.ndarray
    top_ids: np.ndarray
    top_probabilities: np.ndarray
    posterior: np.ndarray
    log_normalisers: np.ndarray
    log_probabilities: np.ndarray | None = None
    tokens: np.ndarray | None = None
    characters: np.ndarray | None = None
    score: CandidateScore = "total"

    def __len__(self) -> int:
        return len(self.answer)

    def shares(self) -> np.ndarray:
        """`(N, C)`: probabilities renormalised over the candidates; equal where no candidate has any."""
        if self.log_probabilities is not None:  # by logarithms: probabilities of long texts are too small for a float
            scores = self._log_scores()
            return np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
        return renormalise(self.probabilities, self.candidate_ids >= 0)

    def predicted(self) -> np.ndarray:
        """`(N,)`: index of the most probable candidate."""
        return (self.probabilities if self.log_probabilities is None else self._log_scores()).argmax(axis=1)

    def scored(self, score: CandidateScore) -> "Predictions":
        """Returns these predictions with candidates ranked by another score; of single tokens, `mean` is `total`."""
        logs = self.log_probabilities
        if self.tokens is None and (score != "mean-by-character" or self.characters is None):
            found = replace(self, score=score)
            return found if logs is None else replace(found, probabilities=np.exp(logs), log_probabilities=None)
        if logs is None:
            with np.errstate(divide="ignore"):
                logs = np.log(self.probabilities)
        found = replace(self, score=score, log_probabilities=logs)
        return replace(found, probabilities=np.exp(found._log_scores()))

    def _log_scores(self) -> np.ndarray:
        """`(N, C)`: the total log-probability, or its mean over tokens or characters; minus infinity where missing."""
        lengths = {"total": None, "mean": self.tokens, "mean-by-character": self.characters}[self.score]
        assert self.log_probabilities is not None
        return self.log_probabilities if lengths is None else self.log_probabilities / lengths

    def with_shares(self, change: Callable[[np.ndarray], np.ndarray]) -> "Predictions":
        """Returns these predictions with shares `(M, C)`, most probable first and none missing, replaced by a map's."""
        shares, counts = self.shares(), (self.candidate_ids >= 0).sum(axis=1)
        order = np.argsort(-np.where(self.candidate_ids >= 0, shares, -np.inf), kind="stable")
        changed = np.zeros_like(shares)
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)[:, None]
            places = order[rows[:, 0], :count]
            changed[rows, places] = change(shares[rows, places])
        return replace(self, probabilities=changed, log_probabilities=None, tokens=None, characters=None)

    def correct(self) -> np.ndarray:
        """`(N,)` bool."""
        return self.predicted() == self.answer

    def confidence(self, reading: Reading = "candidates") -> np.ndarray:
        """`(N,)`: the predicted candidate's probability, among the candidates or in the whole vocabulary."""
        source = self.shares() if reading == "candidates" else self.probabilities
        return np.take_along_axis(source, self.predicted()[:, None])[:, 0]

    def reliability(self, reading: Reading = "candidates", bins: int = 10) -> Reliability:
        """Accuracy by confidence."""
        return reliability(self.confidence(reading), self.correct(), bins=bins)

    def by_rank(self) -> tuple[np.ndarray, np.ndarray]:
        """Figure 3: for each rank `(K,)`, the mean probability given, and how often that token is the right one."""
        right = np.take_along_axis(self.candidate_ids, self.answer[:, None])
        return self.top_probabilities.mean(axis=0), (self.top_ids == right).mean(axis=0)

    def under(self, targets: np.ndarray) -> "Predictions":
        """Returns these predictions with the top K tokens' probabilities replaced by `targets` `(N, K)`.

        Candidates outside the top K get 0. Applied to a teacher's recalibrated targets, this answers as a student
        that matched them exactly would.

        Raises:
            ValueError: Candidates are several tokens, of which the top K tokens tell only the first, or ranked by
                character.
        """
        if self.log_probabilities is not None:
            raise ValueError("targets of one position do not give candidates of several tokens; use with_shares")
        same = self.candidate_ids[:, :, None] == self.top_ids[:, None, :]  # (N, C, K)
        moved = (same * targets[:, None, :]).sum(axis=2)
        return replace(self, probabilities=moved, top_probabilities=targets)

    def at_temperature(self, temperature: float, stored: tuple[float, ...]) -> "Predictions":
        """Returns these predictions under an exact logit temperature, one of those `stored`.

        Raises:
            StoreError: The normaliser at 1.0 or at this temperature is not stored.
        """
        whole, tempered_whole = normalisers_at(self.log_normalisers, temperature, stored)
        return replace(
            self,
            probabilities=tempered(self.probabilities, temperature, whole, tempered_whole),
            top_probabilities=tempered(self.top_probabilities, temperature, whole, tempered_whole),
        )

    def as_dict(self) -> dict[str, np.ndarray]:
        """All arrays by name; those that are None are left out."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "score"}
        return {name: array for name, array in found.items() if array is not None}

    def save(self, folder: Path) -> None:
        """Writes all arrays to `predictions.npz`; candidates with their total probability, whatever ranks them."""
        np.savez_compressed(folder / "predictions.npz", allow_pickle=False, **self.scored("total").as_dict())

    @classmethod
    def load(cls, folder: Path) -> "Predictions":
        """Reads what `save` wrote."""
        with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
            return cls(**arrays)

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Returns several models' answers to the same questions, one after the other."""
        arrays = {name: np.concatenate([part.as_dict()[name] for part in parts]) for name in parts[0].as_dict()}
        return cls(**arrays, score=parts[0].score)


def renormalise(probabilities: np.ndarray, exists: np.ndarray) -> np.ndarray:
    """Scales rows `(N, C)` to sum to 1 over existing candidates; equal shares where a row has no mass.

    >>> renormalise(np.array([[0.2, 0.2, 0.0], [0.0, 0.0, 0.0]]), np.array([[True, True, False]] * 2))
    array([[0.5, 0.5, 0. ],
           [0.5, 0.5, 0. ]])
    """
    total = probabilities.sum(axis=1, keepdims=True)
    even = exists / exists.sum(axis=1, keepdims=True)
    return np.divide(probabilities, total, out=even, where=total > 0)
