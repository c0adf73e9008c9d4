"""Extraction that needs a teacher's whole distribution: the mean of several teachers, or tokens drawn from it.

Both hold the probabilities of a few positions over the whole vocabulary, `(M, V)`, and reduce them at once.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from firstlib.knowledge.extraction import CHUNK, TopKTensors, extract_with, top_k_of_logits
from firstlib.knowledge.reading import Batch, Reader
from firstlib.knowledge.top_k import TopK
from firstlib.models.heads import LanguageModel, logits_of
from firstlib.runtime.hashing import number_from
from firstlib.tasks.encoding import Encoded


def extract_mean_top_k(
    models: Sequence[LanguageModel],
    encoded: Sequence[Encoded],
    k: int,
    batch: int = 64,
    *,
    vocabulary: int,
    known: Collection[str] = (),
) -> Iterator[TopK]:
    """Yields the top k of the mean of several teachers' distributions, longest examples first.

    Averaging before the top k keeps tokens on which the teachers disagree. LoRA ensembles: Wang et al. 2023,
    https://arxiv.org/abs/2310.00035.

    Args:
        models: The teachers; they share one vocabulary.
        encoded: The examples; only positions of their responses are extracted.
        k: Tokens to keep per position.
        batch: Maximum number of examples per batch.
        vocabulary: Number of rows of the head that are tokens.
        known: Ids of examples that an earlier attempt extracted; they are omitted.
    """
    readers = [Reader(model) for model in models]

    def of(read: Batch) -> TopKTensors:
        states = [(reader.model, reader.response_states(read)) for reader in readers]
        parts = []
        for rows in _chunks(len(states[0][1]), vocabulary):
            mean = torch.stack([_distribution(model, hidden[rows], vocabulary) for model, hidden in states]).mean(0)
            parts.append(top_k_of_logits(mean.log(), k, ()))
        return TopKTensors(*map(torch.cat, zip(*parts, strict=True)))

    return extract_with(of, encoded, batch, known)


def extract_sampled(
    model: LanguageModel,
    encoded: Sequence[Encoded],
    k: int,
    batch: int = 64,
    *,
    vocabulary: int,
    seed: int,
    known: Collection[str] = (),
) -> Iterator[TopK]:
    """Yields k tokens drawn from the teacher's distribution at every response position, longest examples first.

    A token's stored probability is its share of the k draws, so that its expectation is the teacher's probability;
    a top k is biased towards the tokens it holds. Anshumann et al. 2025, https://arxiv.org/abs/2503.16870.
    Tokens are stored most drawn first, then tokens with probability 0 up to k. An example's draws depend on the seed
    and its id alone.

    Args:
        model: The teacher.
        encoded: The examples; only positions of their responses are extracted.
        k: Draws per position.
        batch: Maximum number of examples per batch.
        vocabulary: Number of rows of the head that are tokens.
        seed: Of the draws.
        known: Ids of examples that an earlier attempt extracted; they are omitted.
    """
    reader = Reader(model)

    def of(read: Batch) -> TopKTensors:
        states_of = reader.response_states(read).split([_positions(one) for one in read.examples])
        ids, shares = [], []
        for example, states in zip(read.examples, states_of, strict=True):
            rng = np.random.default_rng(number_from(f"draws {seed} {example.id}"))
            for rows in _chunks(len(states), vocabulary):
                top = _drawn(_distribution(model, states[rows], vocabulary), k, rng).topk(k, dim=1)
                ids.append(top.indices)
                shares.append(top.values)
        values = torch.cat(shares)
        return TopKTensors(torch.cat(ids), values, values.new_zeros(len(values)), values[:, :0])

    return extract_with(of, encoded, batch, known)


def _positions(example: Encoded) -> int:
    return len(example.token_ids) - example.start


def _drawn(probabilities: Tensor, k: int, rng: np.random.Generator) -> Tensor:
    """Returns each token's share of k draws, `(M, V)`."""
    rows = probabilities.double().cpu().numpy()
    counts = rng.multinomial(k, rows / rows.sum(axis=1, keepdims=True))
    return torch.from_numpy(counts / k).to(probabilities)


@torch.inference_mode()
def _distribution(model: LanguageModel, hidden: Tensor, vocabulary: int) -> Tensor:
    return logits_of(model, hidden, end=vocabulary).softmax(-1)


def _chunks(positions: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK // vocabulary)
    return [slice(first, first + size) for first in range(0, positions, size)]
