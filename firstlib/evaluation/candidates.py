"""Candidates of several tokens: the log-probability of each, from one pass over the question they share.

A candidate's probability is the product over its tokens, as lm-evaluation-harness's `acc` has it. The prompt's keys and
values are computed once, and every candidate continues from them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from firstlib.knowledge.reading import Batch, Reader
from firstlib.models.heads import logits_of
from firstlib.tasks.encoding import Encoded


class Scored(NamedTuple):
    """One question's candidates, and the logits of the position at which all of them begin."""

    log_probabilities: torch.Tensor  # (C,), of all tokens of a candidate together, in nats
    first_logits: torch.Tensor  # (1, V)


@torch.inference_mode()
def score_candidates(
    reader: Reader,
    stem: Sequence[int],
    candidates: Sequence[Sequence[int]],
    vocabulary: int | None = None,
    temperature: float = 1.0,
) -> Scored:
    """Returns the log-probability of every candidate after a question.

    Args:
        reader: Reads with any causal language model; the question is read on from a prefix that is kept.
        stem: Token ids of the question.
        candidates: C lists of token ids.
        vocabulary: Rows of the output head that are tokens; None: all.
        temperature: Divides the logits of every token.
    """
    examples = [Encoded("", [*stem, *tokens], len(stem)) for tokens in candidates]
    states = reader.response_states(Batch(examples, len(stem) - 1)).split([len(tokens) for tokens in candidates])
    found = []
    for hidden, tokens in zip(states, candidates, strict=True):  # one at a time: logits over a large vocabulary are big
        logits = logits_of(reader.model, hidden, end=vocabulary) / temperature
        following = torch.tensor(list(tokens), device=logits.device)[:, None]
        found.append(logits.log_softmax(-1).gather(1, following).sum())
    return Scored(torch.stack(found), logits_of(reader.model, states[0][:1], end=vocabulary) / temperature)
