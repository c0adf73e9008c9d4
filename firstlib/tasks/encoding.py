"""From text to token ids: where a response begins, and which token answers a question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from firstlib.tasks.question import Example, Question


@dataclass(frozen=True)
class Encoded:
    """An example as token ids; `token_ids[start:]` is the response, its end token included."""

    id: str
    token_ids: list[int]
    start: int


def encode(tokenizer: PreTrainedTokenizerBase, example: Example) -> Encoded:
    """Token ids of prompt, response and end token.

    Prompt and response are tokenised together, because many tokenizers write a word's leading space into its token.
    """
    text = example.prompt + example.response
    batch = tokenizer(text, return_offsets_mapping=True, truncation=False)
    offsets, ids = batch["offset_mapping"], list(batch["input_ids"])
    start = next(i for i, (begin, end) in enumerate(offsets) if end > len(example.prompt) and end > begin)
    if ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
    return Encoded(example.id, ids, start)


def encode_question(tokenizer: PreTrainedTokenizerBase, question: Question) -> tuple[list[int], list[int]]:
    """Token ids up to the answer, and the token id of each candidate: `encode_questions` for one."""
    return encode_questions(tokenizer, [question])[0]


def encode_questions(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> list[tuple[list[int], list[int]]]:
    """Each question's token ids up to the answer, and the token id of each candidate, from two calls in all.

    Raises:
        ValueError: A candidate is not one token there, or two candidates are the same token.
    """
    stems = _open_ended(tokenizer, [q.prompt + q.lead for q in questions])
    texts = [q.prompt + q.lead + candidate for q in questions for candidate in q.candidates]
    answered = iter(_open_ended(tokenizer, texts))
    return [(stem, _candidates(tokenizer, q, stem, answered)) for q, stem in zip(questions, stems, strict=True)]


def _open_ended(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without the end token that some tokenizers append."""
    found = tokenizer(texts)["input_ids"] if texts else []
    return [ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids for ids in found]


def _candidates(
    tokenizer: PreTrainedTokenizerBase, question: Question, stem: list[int], answered: Iterator[list[int]]
) -> list[int]:
    found = [_answer_token(tokenizer, question, text, stem, next(answered)) for text in question.candidates]
    if len(set(found)) < len(found):
        raise ValueError(f"question {question.id}: two of the candidates {question.candidates} are the same token")
    return found


def _answer_token(
    tokenizer: PreTrainedTokenizerBase, question: Question, candidate: str, stem: list[int], ids: list[int]
) -> int:
    if len(ids) != len(stem) + 1 or ids[: len(stem)] != stem or ids[-1] == tokenizer.unk_token_id:
        raise ValueError(
            f"question {question.id}: the candidate {candidate!r} is not a single token after "
            f"{(question.prompt + question.lead)[-20:]!r}; word it so that it is"
        )
    return ids[-1]


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids `(B, T)` padded on the right, and the mask `(B, T)` of what is real."""
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask
