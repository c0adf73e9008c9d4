"""Asking a model: its probability for each candidate of a question, from one forward pass at one position."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from firstlib.evaluation.predictions import Predictions
from firstlib.knowledge import KnowledgeStore, TopK, extract_top_k, top_k_of_logits
from firstlib.models.loading import LanguageModel, body_and_head, logits_of
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps
from firstlib.tasks.encoding import Encoded, encode_questions, pad
from firstlib.tasks.question import Question

AT_ONCE = 2  # questions to a stored example, in one forward pass: their logits are of one position each


def ask(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    k: int = 5,
    batch: int = 128,
    encoded: Sequence[tuple[list[int], list[int]]] | None = None,
) -> Predictions:
    """The model's answers, in the questions' order.

    Args:
        model: who is asked.
        tokenizer: the model's.
        questions: what it is asked.
        k: tokens of its own choice that are kept with each answer.
        batch: questions at a time.
        encoded: what `encode_questions` gives of them, where several models are asked the same.

    Raises:
        UserError: A candidate is not a single token of this tokenizer.
    """
    encoded = encoded or encode_questions(tokenizer, questions)
    order = sorted(range(len(questions)), key=lambda i: -len(encoded[i][0]))
    rows: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    with steps("asking", len(order)) as at:
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            rows.update(zip(chosen, _ask_batch(model, [encoded[i] for i in chosen], k), strict=True))
            at(first + len(chosen))
    return _gather(questions, [encoded[i][1] for i in range(len(questions))], [rows[i] for i in range(len(questions))])


def follow(model: LanguageModel, encoded: Sequence[Encoded], k: int = 5, batch: int = 64) -> Predictions:
    """The model's answers to free text: a question at every position of the right response, teacher-forced.

    The candidates are the model's own top k and the right token, which counts as 0 where it is not among them.
    """
    found = {item.example_id: item for item in extract_top_k(model, encoded, k, batch, temperatures=())}
    return of_knowledge([(example, found[example.id]) for example in encoded])


def of_knowledge(pairs: Sequence[tuple[Encoded, TopK]]) -> Predictions:
    """Kept knowledge as answers, one to each position of a response; `follow` says what the candidates are."""
    top_ids = np.concatenate([item.token_ids for _, item in pairs])
    top = np.concatenate([item.probabilities for _, item in pairs])
    right = np.concatenate([np.array(example.token_ids)[item.position] for example, item in pairs])[:, None]
    among = top_ids == right
    known = among.any(axis=1)
    return Predictions(
        question_id=np.array([f"{item.example_id}:{at}" for _, item in pairs for at in item.position]),
        candidate_ids=np.concatenate([top_ids, np.where(known[:, None], -1, right)], axis=1),
        probabilities=np.concatenate([top, np.zeros_like(top[:, :1])], axis=1),
        answer=np.where(known, among.argmax(axis=1), top_ids.shape[1]),
        top_ids=top_ids,
        top_probabilities=top,
        posterior=np.full((len(right), top_ids.shape[1] + 1), np.nan),
    )


def of_store(
    questions: Sequence[Question], encoded: Sequence[tuple[list[int], list[int]]], store: KnowledgeStore
) -> Predictions:
    """What a teacher of whom only a store is left says to questions; a candidate outside its top k counts as 0.

    Raises:
        UserError: The store has nothing on an answer's position.
    """
    rows = []
    for question, (stem, candidates) in zip(questions, encoded, strict=True):
        item, at = _at(store, question.id, len(stem))
        known = dict(zip(item.token_ids[at].tolist(), item.probabilities[at].tolist(), strict=True))
        found = np.array([known.get(candidate, 0.0) for candidate in candidates])
        rows.append((found, item.token_ids[at], item.probabilities[at]))
    return _gather(questions, [candidates for _, candidates in encoded], rows)


def _at(store: KnowledgeStore, name: str, position: int) -> tuple[TopK, int]:
    if name in store:
        item = store[name]
        if len(found := np.flatnonzero(item.position == position)):
            return item, int(found[0])
    raise UserError(f"{store.path}: nothing on the answer of question {name!r}; ask the teacher again")


@torch.inference_mode()
def _ask_batch(
    model: LanguageModel, encoded: Sequence[tuple[list[int], list[int]]], k: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    body, head = body_and_head(model)
    device = head.weight.device
    ids, mask = pad([stem for stem, _ in encoded])
    hidden = body(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(encoded)), mask.sum(1).to(device) - 1]
    logits = logits_of(model, last)
    found = top_k_of_logits(logits, k, ())
    top_ids, top = found.token_ids.cpu().numpy(), found.probabilities.cpu().numpy()
    probabilities = logits.softmax(-1).cpu().numpy()
    return [(probabilities[i, candidates], top_ids[i], top[i]) for i, (_, candidates) in enumerate(encoded)]


def _gather(
    questions: Sequence[Question],
    candidates: Sequence[list[int]],
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Predictions:
    widest = max(map(len, candidates))
    posteriors = [q.posterior or (np.nan,) * len(q.candidates) for q in questions]
    return Predictions(
        question_id=np.array([question.id for question in questions]),
        candidate_ids=_table(candidates, widest, -1).astype(np.int64),
        probabilities=_table([row[0] for row in rows], widest, 0.0),
        answer=np.array([question.answer for question in questions]),
        top_ids=np.stack([row[1] for row in rows]),
        top_probabilities=np.stack([row[2] for row in rows]),
        posterior=_table(posteriors, widest, 0.0),
    )


def _table(rows: Sequence[Sequence[float] | np.ndarray], width: int, fill: float) -> np.ndarray:
    table = np.full((len(rows), width), fill, dtype=np.float64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
