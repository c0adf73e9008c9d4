"""Asking a model: its probability for each candidate of a question, from one forward pass at one position."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from firstlib.evaluation.gathering import PLAIN, Answer, Asking, gather, of_knowledge
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.several import score_candidates
from firstlib.knowledge import extract_top_k, top_k_of_logits
from firstlib.models.heads import LanguageModel, body_and_head, logits_of
from firstlib.runtime.progress import steps
from firstlib.tasks.encoding import Encoded, EncodedQuestion, encode_questions, pad, tokens_of
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
    several = [i for i, (_, candidates) in enumerate(encoded) if isinstance(candidates[0], tuple)]
    order = sorted({*range(len(questions))} - {*several}, key=lambda i: -len(encoded[i][0]))
    rows: dict[int, Answer] = {}
    with steps("asking", len(questions)) as at:
        for first in range(0, len(order), asking.batch_size):
            chosen = order[first : first + asking.batch_size]
            rows.update(zip(chosen, _ask_batch(model, [encoded[i] for i in chosen], asking), strict=True))
            at(first + len(chosen))
        for i in several:
            rows[i] = _ask_several(model, encoded[i], asking)
            at(len(rows))
    places = range(len(questions))
    return gather(questions, [encoded[i][1] for i in places], [rows[i] for i in places]).scored(asking.score)


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
def _ask_batch(model: LanguageModel, encoded: Sequence[EncodedQuestion], asking: Asking) -> list[Answer]:
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
        Answer(probabilities[i, candidates], top_ids[i], top[i], normalisers[i])
        for i, (_, candidates) in enumerate(encoded)
    ]


def _ask_several(model: LanguageModel, encoded: EncodedQuestion, asking: Asking) -> Answer:
    stem, candidates = encoded
    scored = score_candidates(model, stem, list(map(tokens_of, candidates)), asking.vocabulary, asking.temperature)
    found = top_k_of_logits(scored.first_logits, asking.k, asking.normalisers)
    log_candidates = scored.log_probabilities.double().cpu().numpy()
    ids, top, normalisers = (
        part[0].cpu().numpy() for part in (found.token_ids, found.probabilities, found.log_normalisers)
    )
    return Answer(np.exp(log_candidates), ids, top, normalisers, log_candidates)
