"""Asking a model: its probability for each candidate of a question, from one forward pass at one position."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from firstlib.evaluation.candidates import score_candidates
from firstlib.evaluation.gathering import PLAIN, Answer, Asking, gather, of_knowledge
from firstlib.evaluation.predictions import Predictions
from firstlib.knowledge import extract_top_k, top_k_of_logits
from firstlib.knowledge.batches import batches_by_length
from firstlib.knowledge.reading import Batch, Reader
from firstlib.models.heads import LanguageModel, logits_of
from firstlib.runtime.progress import steps
from firstlib.runtime.sequences import select
from firstlib.tasks.encoding import Encoded, EncodedQuestion, encode_questions, tokens_of
from firstlib.tasks.question import Question


def ask(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    asking: Asking = PLAIN,
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
    opened = [Encoded(str(i), [*stem, tokens_of(of[0])[0]], len(stem)) for i, (stem, of) in enumerate(encoded)]
    several = np.array([isinstance(candidates[0], tuple) for _, candidates in encoded], bool)
    reader, rows = Reader(model), dict[int, Answer]()
    with steps("asking", len(questions)) as at:
        for how, chosen in ((_ask_single, ~several), (_ask_several, several)):
            for batch in batches_by_length(select(opened, np.flatnonzero(chosen)), asking.batch_size):
                places = [int(example.id) for example in batch.examples]
                rows.update(zip(places, how(reader, batch, [encoded[i] for i in places], asking), strict=True))
                at(len(rows))
    order = range(len(questions))
    return gather(questions, [encoded[i][1] for i in order], [rows[i] for i in order]).scored(asking.score)


def follow(model: LanguageModel, encoded: Sequence[Encoded], asking: Asking = PLAIN) -> Predictions:
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


@torch.inference_mode()
def _ask_single(reader: Reader, batch: Batch, encoded: Sequence[EncodedQuestion], asking: Asking) -> list[Answer]:
    logits = logits_of(reader.model, reader.response_states(batch), end=asking.vocabulary)
    if asking.temperature != 1:
        logits = logits / asking.temperature
    found = top_k_of_logits(logits, asking.k, asking.normalisers)
    top_ids, top, normalisers = (
        part.cpu().numpy() for part in (found.token_ids, found.probabilities, found.log_normalisers)
    )
    probabilities = logits.softmax(-1).cpu().numpy()
    return [
        Answer(probabilities[i, candidates], top_ids[i], top[i], normalisers[i])
        for i, (_, candidates) in enumerate(encoded)
    ]


def _ask_several(reader: Reader, batch: Batch, encoded: Sequence[EncodedQuestion], asking: Asking) -> list[Answer]:
    reader.keep(encoded[0][0][: batch.shared])
    return [_ask_one_of_several(reader, question, asking) for question in encoded]


def _ask_one_of_several(reader: Reader, encoded: EncodedQuestion, asking: Asking) -> Answer:
    stem, candidates = encoded
    scored = score_candidates(reader, stem, list(map(tokens_of, candidates)), asking.vocabulary, asking.temperature)
    found = top_k_of_logits(scored.first_logits, asking.k, asking.normalisers)
    log_candidates = scored.log_probabilities.double().cpu().numpy()
    ids, top, normalisers = (
        part[0].cpu().numpy() for part in (found.token_ids, found.probabilities, found.log_normalisers)
    )
    return Answer(np.exp(log_candidates), ids, top, normalisers, log_candidates)
