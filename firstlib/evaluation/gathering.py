"""Answers gathered into predictions: of a model that was asked, or read from stored knowledge.

Nothing here needs torch, so a finished run is read without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from firstlib.evaluation.predictions import Predictions
from firstlib.knowledge import KnowledgeStore, TopK
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import CandidateScore
from firstlib.tasks.encoding import Candidates, Encoded, EncodedQuestion, single_tokens, tokens_of
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


PLAIN = Asking()  # as functions ask unless they are told how


class Answer(NamedTuple):
    """The answer to one question: probabilities of its C candidates, and the model's top K."""

    candidates: np.ndarray  # (C,)
    top_ids: np.ndarray  # (K,)
    top_probabilities: np.ndarray  # (K,)
    log_normalisers: np.ndarray  # (G,)
    log_candidates: np.ndarray | None = None  # (C,), where candidates are several tokens


def gather(questions: Sequence[Question], candidates: Sequence[Candidates], rows: Sequence[Answer]) -> Predictions:
    """Returns the answers to N questions, whose candidates need not be equally many."""
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
    questions: Sequence[Question], candidates: Sequence[Candidates], rows: Sequence[Answer], width: int
) -> dict[str, Any]:
    """Returns the characters of candidates and, where some are several tokens, their log-probabilities and tokens."""
    characters = _characters(questions, width)
    if all(row.log_candidates is None for row in rows):
        return {"characters": characters}
    with np.errstate(divide="ignore"):
        logs = [np.log(row.candidates) if row.log_candidates is None else row.log_candidates for row in rows]
    return {
        "log_probabilities": _table(logs, width, -np.inf),
        "tokens": _table([[len(tokens_of(one)) for one in each] for each in candidates], width, 1).astype(np.int64),
        "characters": characters,
    }


def _characters(questions: Sequence[Question], width: int) -> np.ndarray:
    return _table([[len(text.strip()) for text in q.candidates] for q in questions], width, 1).astype(np.int64)


def with_characters(found: Predictions, questions: Sequence[Question]) -> Predictions:
    """Returns answers with the characters of their candidates, which earlier versions did not keep of single tokens."""
    if found.characters is not None or not questions:
        return found
    return replace(found, characters=_characters(questions, found.candidate_ids.shape[1]))


def _table(rows: Sequence[Sequence[float] | np.ndarray], width: int, fill: float) -> np.ndarray:
    table = np.full((len(rows), width), fill, dtype=np.float64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


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
        rows.append(Answer(found, item.token_ids[at], item.probabilities[at], item.log_normalisers[at]))
    return gather(questions, [candidates for _, candidates in encoded], rows)


def _at(store: KnowledgeStore, name: str, position: int) -> tuple[TopK, int]:
    if name in store:
        item = store[name]
        if len(found := np.flatnonzero(item.position == position)):
            return item, int(found[0])
    raise UserError(f"{store.path}: the answer position of question {name!r} is missing; ask the teacher again")
