"""Candidates of several tokens: the log-probability of each, from one pass over the question they share.

A candidate's probability is the product over its tokens, as lm-evaluation-harness's `acc` has it. The prompt's keys and
values are computed once and expanded over the candidates.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from firstlib.models.heads import LanguageModel, body_and_head, logits_of
from firstlib.tasks.encoding import pad


class Scored(NamedTuple):
    """One question's candidates, and the logits of the position at which all of them begin."""

    log_probabilities: torch.Tensor  # (C,), of all tokens of a candidate together, in nats
    first_logits: torch.Tensor  # (1, V)


@torch.inference_mode()
def score_candidates(
    model: LanguageModel,
    stem: Sequence[int],
    candidates: Sequence[Sequence[int]],
    vocabulary: int | None = None,
    temperature: float = 1.0,
) -> Scored:
    """Returns the log-probability of every candidate after a question.

    Args:
        model: Any causal language model; one without a cache of keys reads the question once for each candidate.
        stem: Token ids of the question.
        candidates: C lists of token ids.
        vocabulary: Rows of the output head that are tokens; None: all.
        temperature: Divides the logits of every token.
    """
    body, head = body_and_head(model)
    device = head.weight.device
    asked = body(input_ids=torch.tensor([list(stem)], device=device), use_cache=True)
    first = logits_of(model, asked.last_hidden_state[:, -1], end=vocabulary) / temperature
    start = torch.tensor([tokens[0] for tokens in candidates], device=device)
    total = first.log_softmax(-1)[0, start]
    if max(map(len, candidates)) > 1:
        hidden = _continued(body, asked, list(stem), candidates, device)
        total = total + _rest(model, hidden, candidates, vocabulary, temperature)
    return Scored(total, first)


def _continued(
    body: Any, asked: Any, stem: list[int], candidates: Sequence[Sequence[int]], device: torch.device
) -> Any:
    """Returns the hidden states `(C, L-1, D)` after each candidate's tokens but its last."""
    ids, mask = pad([list(tokens[:-1]) or [0] for tokens in candidates])
    ids, length = ids.to(device), len(stem)
    keys = getattr(asked, "past_key_values", None)
    if keys is None or not hasattr(keys, "batch_repeat_interleave"):
        whole = torch.cat([torch.tensor([stem], device=device).expand(len(candidates), -1), ids], 1)
        return body(input_ids=whole, use_cache=False).last_hidden_state[:, length:]
    keys.batch_repeat_interleave(len(candidates))
    seen = torch.cat([torch.ones(len(candidates), length, dtype=torch.long), mask], 1).to(device)
    return body(input_ids=ids, attention_mask=seen, past_key_values=keys, use_cache=True).last_hidden_state


def _rest(
    model: LanguageModel,
    hidden: torch.Tensor,
    candidates: Sequence[Sequence[int]],
    vocabulary: int | None,
    temperature: float,
) -> torch.Tensor:
    """Returns the log-probability `(C,)` of each candidate's tokens after its first."""
    found = hidden.new_zeros(len(candidates), dtype=torch.float32)
    for row, tokens in enumerate(candidates):  # one at a time: logits over a large vocabulary take memory
        if len(tokens) > 1:
            logits = logits_of(model, hidden[row, : len(tokens) - 1], end=vocabulary) / temperature
            following = torch.tensor(tokens[1:], device=hidden.device)[:, None]
            found[row] = logits.log_softmax(-1).gather(1, following).sum()
    return found
