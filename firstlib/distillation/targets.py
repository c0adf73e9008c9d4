"""What a student is trained on: examples with a target distribution at the positions of their responses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from firstlib.knowledge import KnowledgeStore, TopK
from firstlib.runtime.errors import StoreError
from firstlib.tasks.encoding import Encoded

Recalibrate = Callable[[TopK], np.ndarray]


@dataclass(frozen=True)
class Targets:
    """An example with the distribution to match at P positions of its response.

    Attributes:
        position: `(P,)`, indices into the example's token ids.
        token_ids: `(P, K)`.
        probabilities: `(P, K)`, recalibrated.
    """

    example: Encoded
    position: np.ndarray
    token_ids: np.ndarray
    probabilities: np.ndarray


def hard_targets(example: Encoded, smoothing: float = 0.0) -> Targets:
    """Returns the right token with probability 1 - smoothing at every position: fine-tuning's targets.

    What is left over is for the loss to spread over the vocabulary (`Tail.SMOOTH`).
    """
    position = np.arange(example.start, len(example.token_ids))
    token_ids = np.array(example.token_ids[example.start :])[:, None]
    return Targets(example, position, token_ids, np.full(token_ids.shape, 1.0 - smoothing))


def soft_targets(example: Encoded, knowledge: TopK, recalibrate: Recalibrate) -> Targets:
    """Joins an example with the teacher's knowledge on it. Knowledge from a server may cover part of the response.

    Raises:
        StoreError: The knowledge is on another example, or on positions outside its response.
    """
    inside = (knowledge.position >= example.start) & (knowledge.position < len(example.token_ids))
    if example.id != knowledge.example_id or not inside.all():
        raise StoreError(f"example {example.id}: the store's positions are not its response's; extract again")
    return Targets(example, knowledge.position, knowledge.token_ids, recalibrate(knowledge))


class SoftTargets(Dataset[Targets]):
    """The soft targets of many examples, each computed when asked for: memory does not grow with the store."""

    def __init__(self, examples: Sequence[Encoded], store: KnowledgeStore, recalibrate: Recalibrate) -> None:
        self.examples, self.store, self.recalibrate = examples, store, recalibrate

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Targets:
        """Returns one example's targets.

        Raises:
            KeyError: The store does not hold the example.
            StoreError: The store's positions do not fit the example.
        """
        example = self.examples[index]
        return soft_targets(example, self.store[example.id], self.recalibrate)
