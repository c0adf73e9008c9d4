"""Tokenisation: where a response begins, and which token answers a question."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import number_from
from firstlib.runtime.sequences import LazySequence, in_pieces, on_disk
from firstlib.tasks.question import Example, Item, Question, as_example, characters

if TYPE_CHECKING:  # torch and transformers take seconds to import, and a finished run needs neither
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Candidates = list[int] | list[tuple[int, ...]]  # one token each, or where a question has longer ones several
EncodedQuestion = tuple[list[int], Candidates]

WIDEST = 1000  # characters per token, at most: longer texts are too long for a model and need not be tokenised
IGNORE_INDEX = -100  # label of tokens that the loss skips, in torch and transformers


@dataclass(frozen=True)
class Encoded:
    """An example as token ids; `token_ids[start:]` is the response, including its end token."""

    id: str
    token_ids: list[int]
    start: int


def encode(tokenizer: "PreTrainedTokenizerBase", example: Example) -> Encoded:
    """Returns the token ids of prompt, response and end token: `encode_examples` for one example."""
    return encode_examples(tokenizer, [example])[0]


def encode_examples(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example]) -> list[Encoded]:
    """Returns the token ids of each example's prompt, response and end token.

    Prompt and response are tokenised together, because in many tokenizers a word's token includes its leading space.

    Raises:
        UserError: A response has no token of its own, or nothing stands before it.
    """
    texts = [example.prompt + example.response for example in examples]
    batch = tokenizer(texts, return_offsets_mapping=True, truncation=False) if texts else {"input_ids": []}
    rows = zip(examples, batch["input_ids"], batch.get("offset_mapping", []), strict=True)
    return [_encoded(tokenizer, example, list(ids), offsets) for example, ids, offsets in rows]


def encode_on_disk(tokenizer: "PreTrainedTokenizerBase", items: Iterable[Item]) -> LazySequence[Encoded]:
    """Encodes any number of items like `encode_examples`, stored on disk so that memory use does not grow."""
    pieces = in_pieces(map(as_example, items), characters)
    encoded = (one for piece in pieces for one in encode_examples(tokenizer, piece))
    return on_disk(encoded, vars, lambda content: Encoded(**content))


def _encoded(
    tokenizer: "PreTrainedTokenizerBase", example: Example, ids: list[int], offsets: Sequence[tuple[int, int]]
) -> Encoded:
    start = next((i for i, (begin, end) in enumerate(offsets) if end > len(example.prompt) and end > begin), None)
    if start is None:
        raise UserError(
            f"example {example.id}: this tokenizer has no token for the response {example.response[:20]!r}; "
            "omit the example"
        )
    if start == 0:
        raise UserError(
            f"example {example.id}: has no prompt, and this tokenizer puts no token before a text, so nothing predicts "
            "the response's first token; omit the example, or give it a prompt"
        )
    if ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
    return Encoded(example.id, ids, start)


def longest_first(encoded: Sequence[Encoded]) -> np.ndarray:
    """Returns indices by decreasing length, ties by a hash of the ids, so the result does not depend on input order."""
    lengths, ranks = np.empty(len(encoded), np.int64), np.empty(len(encoded), np.uint64)
    for place, example in enumerate(encoded):
        lengths[place], ranks[place] = len(example.token_ids), number_from(example.id)
    return np.lexsort((ranks, -lengths))


def check_taught(tokenizer: "PreTrainedTokenizerBase", questions: Sequence[Question]) -> None:
    """Checks that the answer's tokens in the training example are those that a question is scored on.

    Raises:
        UserError: A letter is not one token, or an answer merges with the text that follows it in the response.
    """
    for question in questions:  # one at a time: texts may be long
        example, (stem, candidates) = encode(tokenizer, question.example()), encode_question(tokenizer, question)
        right = tokens_of(candidates[question.answer])
        if example.token_ids[: len(stem) + len(right)] != [*stem, *right]:
            raise UserError(
                f"question {question.id}: in {question.response!r}, this tokenizer merges the answer "
                f"{question.candidates[question.answer]!r} into another token; choose another model"
            )


def reasons_not_to_fit(tokenizer: "PreTrainedTokenizerBase", items: Sequence[Item], longest: int) -> list[str | None]:
    """Returns, for each item, None, or the reason why it does not fit: it is longer than `longest` tokens."""
    examples = [as_example(item) for item in items]
    readable = [example for example in examples if len(example.prompt + example.response) <= longest * WIDEST]
    lengths = {encoded.id: len(encoded.token_ids) for encoded in encode_examples(tokenizer, readable)}
    return [f"longer than {longest} tokens" if lengths.get(item.id, longest + 1) > longest else None for item in items]


def tokens_of(candidate: int | tuple[int, ...]) -> tuple[int, ...]:
    """Returns a candidate's tokens, whether it is one or several."""
    return candidate if isinstance(candidate, tuple) else (candidate,)


def single_tokens(question: Question, candidates: Candidates) -> list[int]:
    """Returns the token of each candidate, where only the answer's position is known of a model.

    Raises:
        UserError: A candidate is several tokens.
    """
    found = [one for one in candidates if not isinstance(one, tuple)]
    if len(found) < len(candidates):
        raise UserError(
            f"question {question.id}: its candidates are several tokens, and stored or imported knowledge holds those "
            "of the right one only; a teacher with weights can be asked, or set data.candidates to letters"
        )
    return found


def encode_question(tokenizer: "PreTrainedTokenizerBase", question: Question) -> EncodedQuestion:
    """Returns the token ids before the answer, and those of each candidate: `encode_questions` for one."""
    return encode_questions(tokenizer, [question])[0]


def encode_questions(tokenizer: "PreTrainedTokenizerBase", questions: Sequence[Question]) -> list[EncodedQuestion]:
    """Returns each question's token ids before the answer, and the token id of each candidate.

    Where a question is answered in words, and one of them is not a single token, all its candidates are tuples of ids.
    The tokenizer is called only twice.

    Raises:
        UserError: A letter is not one token at its position, a word merges with the text before it, or two candidates
            are the same tokens.
    """
    stems = _open_ended(tokenizer, [q.prompt + q.lead for q in questions])
    texts = [q.prompt + q.lead + candidate for q in questions for candidate in q.candidates]
    answered = iter(_open_ended(tokenizer, texts))
    return [(stem, _candidates(tokenizer, q, stem, answered)) for q, stem in zip(questions, stems, strict=True)]


def _open_ended(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of each text, without the end token that some tokenizers append."""
    found = tokenizer(texts)["input_ids"] if texts else []
    return [ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids for ids in found]


def _candidates(
    tokenizer: "PreTrainedTokenizerBase", question: Question, stem: list[int], answered: Iterator[list[int]]
) -> Candidates:
    texts = [(text, next(answered)) for text in question.candidates]
    several = question.in_words and any(len(ids) != len(stem) + 1 for _, ids in texts)
    read = _answer_tokens if several else _answer_token
    found: list = [read(tokenizer, question, text, stem, ids) for text, ids in texts]
    if len(set(found)) < len(found):
        raise UserError(
            f"question {question.id}: two of the candidates {question.candidates} are the same token; "
            "choose another model"
        )
    return found


def _answer_tokens(
    tokenizer: "PreTrainedTokenizerBase", question: Question, candidate: str, stem: list[int], ids: list[int]
) -> tuple[int, ...]:
    found = tuple(ids[len(stem) :])
    if not found or ids[: len(stem)] != stem or tokenizer.unk_token_id in found:
        raise UserError(
            f"question {question.id}: the candidate {candidate[:60]!r} has no tokens of its own after "
            f"{(question.prompt + question.lead)[-20:]!r}, or unknown ones; choose another model, or omit the question"
        )
    return found


def _answer_token(
    tokenizer: "PreTrainedTokenizerBase", question: Question, candidate: str, stem: list[int], ids: list[int]
) -> int:
    if len(ids) != len(stem) + 1 or ids[: len(stem)] != stem or ids[-1] == tokenizer.unk_token_id:
        raise UserError(
            f"question {question.id}: the candidate {candidate!r} is not a single token after "
            f"{(question.prompt + question.lead)[-20:]!r} (alone it is {_pieces(tokenizer, candidate)}, after a space "
            f"{_pieces(tokenizer, ' ' + candidate)}); choose another model, or reword the prompt"
        )
    return ids[-1]


def _pieces(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[str]:
    return list(tokenizer.tokenize(text))


def pad(rows: Sequence[Sequence[int]]) -> tuple["Tensor", "Tensor"]:
    """Returns token ids `(B, T)` padded with 0 on the right, and a mask `(B, T)`, 1 for tokens and 0 for padding."""
    import torch

    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask
