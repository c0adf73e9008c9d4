"""Asking a model: its probability for each candidate of a question, from one forward pass at one position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.several import score_candidates
from firstlib.knowledge import KnowledgeStore, TopK, extract_top_k, top_k_of_logits
from firstlib.models.heads import LanguageModel, body_and_head, logits_of
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps
from firstlib.settings.schema import CandidateScore
from firstlib.tasks.encoding import (
    Candidates,
    Encoded,
    EncodedQuestion,
    encode_questions,
    pad,
    single_tokens,
    tokens_of,
)
from firstlib.tasks.question import Question

AT_ONCE = 2  # questions per stored example in one forward pass: a question needs the logits of one position only


@dataclass(frozen=True)
class Asking:
    """How a model is asked.

    Attributes:
        k: Tokens of the model's own choice stored with each answer.
        batch_size: Questions in one forward pass.
        temperature: Divides the model's logits.
        normalisers: Temperatures whose log normalisers are stored.
        vocabulary: Rows of the output head that are tokens; padding rows get no mass. None: all.
        score: What ranks candidates of several tokens.
    """

    k: int = 5
    batch_size: int = 128
    temperature: float = 1.0
    normalisers: tuple[float, ...] = ()
    vocabulary: int | None = None
    score: CandidateScore = "total"


class _Answer(NamedTuple):
    """The answer to one question: probabilities of its C candidates, and the model's top K."""

    candidates: np.ndarray  # (C,)
    top_ids: np.ndarray  # (K,)
    top_probabilities: np.ndarray  # (K,)
    log_normalisers: np.ndarray  # (G,)
    log_candidates: np.ndarray | None = None  # (C,), where candidates are several tokens


def ask(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    asking: Asking = Asking(),
    encoded: Sequence[EncodedQuestion] | None = None,
) -> Predictions:
    """Returns the model's answers, in the questions' order.

    Args:
        model: Any causal language model.
        tokenizer: The model's.
        questions: N questions.
        asking: Batch size, temperature, and what is stored.
        encoded: The result of `encode_questions`, where several models are asked the same.

    Raises:
        UserError: A letter is not a single token of this tokenizer.
    """
    encoded = encoded or encode_questions(tokenizer, questions)
    several = [i for i, (_, candidates) in enumerate(encoded) if isinstance(candidates[0], tuple)]
    order = sorted({*range(len(questions))} - {*several}, key=lambda i: -len(encoded[i][0]))
    rows: dict[int, _Answer] = {}
    with steps("asking", len(questions)) as at:
        for first in range(0, len(order), asking.batch_size):
            chosen = order[first : first + asking.batch_size]
            rows.update(zip(chosen, _ask_batch(model, [encoded[i] for i in chosen], asking), strict=True))
            at(first + len(chosen))
        for i in several:
            rows[i] = _ask_several(model, encoded[i], asking)
            at(len(rows))
    places = range(len(questions))
    return _gather(questions, [encoded[i][1] for i in places], [rows[i] for i in places]).scored(asking.score)


def follow(model: LanguageModel, encoded: Sequence[Encoded], asking: Asking = Asking()) -> Predictions:
    """Returns the model's answers to free text: one question at each position of the right response, teacher-forced.

    The candidates are the model's own top k and the right token, which has probability 0 if it is not among them.
    """
    temperatures = asking.normalisers if asking.temperature == 1 else (1.0, asking.temperature)
    items = extract_top_k(
        model, encoded, asking.k, asking.batch_size, temperatures=temperatures, vocabulary=asking.vocabulary
    )
    found = {item.example_id: item for item in items}
    predictions = of_knowledge([(example, found[example.id]) for example in encoded])
    return predictions if asking.temperature == 1 else predictions.at_temperature(asking.temperature, temperatures)


def of_knowledge(pairs: Sequence[tuple[Encoded, TopK]]) -> Predictions:
    """Returns stored knowledge as answers, one for each position of a response; candidates as in `follow`."""
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
        log_normalisers=np.concatenate([item.log_normalisers for _, item in pairs]),
    )


def of_store(questions: Sequence[Question], encoded: Sequence[EncodedQuestion], store: KnowledgeStore) -> Predictions:
    """Returns the answers of a teacher known only by its store; a candidate outside the top k has probability 0.

    Raises:
        UserError: The store does not hold an answer's position, or candidates are several tokens.
    """
    rows = []
    for question, (stem, candidates) in zip(questions, encoded, strict=True):
        tokens = single_tokens(question, candidates)
        item, at = _at(store, question.id, len(stem))
        known = dict(zip(item.token_ids[at].tolist(), item.probabilities[at].tolist(), strict=True))
        found = np.array([known.get(candidate, 0.0) for candidate in tokens])
        rows.append(_Answer(found, item.token_ids[at], item.probabilities[at], item.log_normalisers[at]))
    return _gather(questions, [candidates for _, candidates in encoded], rows)


def _at(store: KnowledgeStore, name: str, position: int) -> tuple[TopK, int]:
    if name in store:
        item = store[name]
        if len(found := np.flatnonzero(item.position == position)):
            return item, int(found[0])
    raise UserError(f"{store.path}: the answer position of question {name!r} is missing; ask the teacher again")


@torch.inference_mode()
def _ask_batch(model: LanguageModel, encoded: Sequence[EncodedQuestion], asking: Asking) -> list[_Answer]:
    body, head = body_and_head(model)
    device = head.weight.device
    ids, mask = pad([stem for stem, _ in encoded])
    hidden = body(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(encoded)), mask.sum(1).to(device) - 1]
    logits = logits_of(model, last, end=asking.vocabulary)
    if asking.temperature != 1:
        logits = logits / asking.temperature
    found = top_k_of_logits(logits, asking.k, asking.normalisers)
    top_ids, top, normalisers = (
        part.cpu().numpy() for part in (found.token_ids, found.probabilities, found.log_normalisers)
    )
    probabilities = logits.softmax(-1).cpu().numpy()
    return [
        _Answer(probabilities[i, candidates], top_ids[i], top[i], normalisers[i])
        for i, (_, candidates) in enumerate(encoded)
    ]


def _ask_several(model: LanguageModel, encoded: EncodedQuestion, asking: Asking) -> _Answer:
    stem, candidates = encoded
    scored = score_candidates(model, stem, list(map(tokens_of, candidates)), asking.vocabulary, asking.temperature)
    found = top_k_of_logits(scored.first_logits, asking.k, asking.normalisers)
    log_candidates = scored.log_probabilities.double().cpu().numpy()
    ids, top, normalisers = (
        part[0].cpu().numpy() for part in (found.token_ids, found.probabilities, found.log_normalisers)
    )
    return _Answer(np.exp(log_candidates), ids, top, normalisers, log_candidates)


def _gather(questions: Sequence[Question], candidates: Sequence[Candidates], rows: Sequence[_Answer]) -> Predictions:
    widest = max(map(len, candidates))
    firsts = [[tokens_of(one)[0] for one in each] for each in candidates]
    posteriors = [q.posterior or (np.nan,) * len(q.candidates) for q in questions]
    return Predictions(
        question_id=np.array([question.id for question in questions]),
        candidate_ids=_table(firsts, widest, -1).astype(np.int64),
        probabilities=_table([row.candidates for row in rows], widest, 0.0),
        answer=np.array([question.answer for question in questions]),
        top_ids=np.stack([row.top_ids for row in rows]),
        top_probabilities=np.stack([row.top_probabilities for row in rows]),
        posterior=_table(posteriors, widest, 0.0),
        log_normalisers=np.stack([row.log_normalisers for row in rows]),
        **_lengths(questions, candidates, rows, widest),
    )


def _lengths(
    questions: Sequence[Question], candidates: Sequence[Candidates], rows: Sequence[_Answer], width: int
) -> dict[str, Any]:
    """Returns what is kept of candidates besides their probability where some are several tokens."""
    if all(row.log_candidates is None for row in rows):
        return {}
    with np.errstate(divide="ignore"):
        logs = [np.log(row.candidates) if row.log_candidates is None else row.log_candidates for row in rows]
    return {
        "log_probabilities": _table(logs, width, -np.inf),
        "tokens": _table([[len(tokens_of(one)) for one in each] for each in candidates], width, 1).astype(np.int64),
        "characters": _table([[len(text.strip()) for text in q.candidates] for q in questions], width, 1).astype(
            np.int64
        ),
    }


def _table(rows: Sequence[Sequence[float] | np.ndarray], width: int, fill: float) -> np.ndarray:
    table = np.full((len(rows), width), fill, dtype=np.float64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table
