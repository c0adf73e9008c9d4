"""From text to token ids: where a response begins, and which token answers a question."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import number_from
from firstlib.runtime.sequences import LazySequence, in_pieces, on_disk
from firstlib.tasks.question import Example, Item, Question, as_example, characters

WIDEST = 1000  # characters that a token may write: a text of more is too long without being tokenised


@dataclass(frozen=True)
class Encoded:
    """An example as token ids; `token_ids[start:]` is the response, its end token included."""

    id: str
    token_ids: list[int]
    start: int


def encode(tokenizer: PreTrainedTokenizerBase, example: Example) -> Encoded:
    """Token ids of prompt, response and end token: `encode_examples` for one."""
    return encode_examples(tokenizer, [example])[0]


def encode_examples(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[Encoded]:
    """Token ids of each example's prompt, response and end token.

    Prompt and response are tokenised together, because many tokenizers write a word's leading space into its token.
    """
    texts = [example.prompt + example.response for example in examples]
    batch = tokenizer(texts, return_offsets_mapping=True, truncation=False) if texts else {"input_ids": []}
    rows = zip(examples, batch["input_ids"], batch.get("offset_mapping", []), strict=True)
    return [_encoded(tokenizer, example, list(ids), offsets) for example, ids, offsets in rows]


def encode_on_disk(tokenizer: PreTrainedTokenizerBase, items: Iterable[Item]) -> LazySequence[Encoded]:
    """What `encode_examples` gives, of any number of items: kept on disk, so that memory stays flat."""
    pieces = in_pieces(map(as_example, items), characters)
    encoded = (one for piece in pieces for one in encode_examples(tokenizer, piece))
    return on_disk(encoded, vars, lambda content: Encoded(**content))


def _encoded(
    tokenizer: PreTrainedTokenizerBase, example: Example, ids: list[int], offsets: Sequence[tuple[int, int]]
) -> Encoded:
    start = next((i for i, (begin, end) in enumerate(offsets) if end > len(example.prompt) and end > begin), None)
    if start is None:
        raise UserError(
            f"example {example.id}: this tokenizer writes no token for {example.response[:20]!r}; leave it out"
        )
    if ids[-1] != tokenizer.eos_token_id:
        ids.append(tokenizer.eos_token_id)
    return Encoded(example.id, ids, start)


def longest_first(encoded: Sequence[Encoded]) -> np.ndarray:
    """The places of the longest examples first; of one length by a hash of their ids, whatever order they came in."""
    lengths, ranks = np.empty(len(encoded), np.int64), np.empty(len(encoded), np.uint64)
    for place, example in enumerate(encoded):
        lengths[place], ranks[place] = len(example.token_ids), number_from(example.id)
    return np.lexsort((ranks, -lengths))


def in_chat(tokenizer: PreTrainedTokenizerBase, item: Item) -> Item:
    """The same item asked in the model's own chat format: the prompt is the user's turn, the response the assistant's.

    Raises:
        UserError: The tokenizer has no chat template.
    """
    if tokenizer.chat_template is None:
        raise UserError(
            f"data.chat_template: the tokenizer of {tokenizer.name_or_path} has no chat template; leave it off"
        )
    turn = [{"role": "user", "content": item.prompt}]
    prompt = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    if tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] and tokenizer.bos_token:
        prompt = prompt.removeprefix(str(tokenizer.bos_token))  # tokenising writes it again
    if isinstance(item, Question):
        return replace(item, prompt=prompt, lead=item.lead.lstrip())
    return replace(item, prompt=prompt, response=item.response.lstrip())


def check_taught(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> None:
    """Makes sure that the token which a model is taught as the answer is the one it is asked for.

    Raises:
        UserError: A candidate is not one token, or melts into what follows it in the response.
    """
    for question in questions:  # one by one: their texts may be long
        example, (stem, candidates) = encode(tokenizer, question.example()), encode_question(tokenizer, question)
        if example.token_ids[: len(stem) + 1] != [*stem, candidates[question.answer]]:
            raise UserError(
                f"question {question.id}: in {question.response!r} this tokenizer writes the answer "
                f"{question.candidates[question.answer]!r} as part of another token; choose another model"
            )


def reasons_not_to_fit(tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], longest: int) -> list[str | None]:
    """Why an item cannot be used with this tokenizer: it is longer than `longest` tokens; None where it can."""
    examples = [as_example(item) for item in items]
    readable = [example for example in examples if len(example.prompt + example.response) <= longest * WIDEST]
    lengths = {encoded.id: len(encoded.token_ids) for encoded in encode_examples(tokenizer, readable)}
    return [f"longer than {longest} tokens" if lengths.get(item.id, longest + 1) > longest else None for item in items]


def encode_question(tokenizer: PreTrainedTokenizerBase, question: Question) -> tuple[list[int], list[int]]:
    """Token ids up to the answer, and the token id of each candidate: `encode_questions` for one."""
    return encode_questions(tokenizer, [question])[0]


def encode_questions(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> list[tuple[list[int], list[int]]]:
    """Each question's token ids up to the answer, and the token id of each candidate, from two calls in all.

    Raises:
        UserError: A candidate is not one token there, or two candidates are the same token.
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
        raise UserError(f"question {question.id}: two of the candidates {question.candidates} are the same token")
    return found


def _answer_token(
    tokenizer: PreTrainedTokenizerBase, question: Question, candidate: str, stem: list[int], ids: list[int]
) -> int:
    if len(ids) != len(stem) + 1 or ids[: len(stem)] != stem or ids[-1] == tokenizer.unk_token_id:
        raise UserError(
            f"question {question.id}: the candidate {candidate!r} is not a single token after "
            f"{(question.prompt + question.lead)[-20:]!r} (alone it is {_pieces(tokenizer, candidate)}, after a space "
            f"{_pieces(tokenizer, ' ' + candidate)}); choose another model, or word the prompt so that it is one"
        )
    return ids[-1]


def _pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return list(tokenizer.tokenize(text))


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids `(B, T)` padded on the right, and the mask `(B, T)` of what is real."""
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask
