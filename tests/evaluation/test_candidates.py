"""Candidates of several tokens: probabilities, scores, shares, and what recalibration makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from firstlib.distillation.recalibration import recalibrate
from firstlib.evaluation.asking import ask
from firstlib.evaluation.candidates import score_candidates
from firstlib.evaluation.gathering import Answer, Asking, gather, of_store, with_characters
from firstlib.evaluation.predictions import Predictions
from firstlib.experiment.coefficients import recalibrated
from firstlib.knowledge.reading import Reader
from firstlib.metrics import accuracy
from firstlib.models.heads import causal_model
from firstlib.models.loading import load_base, load_tokenizer
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model
from firstlib.tasks import microworld
from firstlib.tasks.encoding import check_taught, encode, encode_question
from firstlib.tasks.question import Question
from firstlib.tasks.text_answers import in_words


def question(name, candidates, answer=0):
    return Question(name, "Q:\nA:", "", candidates, "", answer, tuple(c.strip() for c in candidates))


LONG = question("long", (" tea", " ink", " the wood of the town"))
SHORT = question("short", ("Q", "T"), 1)


@pytest.fixture
def base(bytes_folder):
    """A model whose tokenizer knows any text."""
    return Model(base=str(bytes_folder))


@pytest.fixture
def model(base):
    return load_base(base).eval()


@pytest.fixture
def tokenizer(base):
    return load_tokenizer(base)


def by_hand(model, stem, tokens):
    """The sum over a candidate's tokens, from the model's own forward pass over the whole text."""
    with torch.no_grad():
        logits = causal_model(model)(torch.tensor([[*stem, *tokens]])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(stem) + i - 1, token]) for i, token in enumerate(tokens))


def test_scores_are_those_of_whole_texts(model):
    stem, candidates = [5, 6, 7, 8], [(9, 10, 11), (12,), (9, 30, 31, 32, 33)]
    found = score_candidates(Reader(model), stem, candidates).log_probabilities
    np.testing.assert_allclose(found, [by_hand(model, stem, tokens) for tokens in candidates], atol=2e-4)


def test_a_temperature_divides_the_logits_of_every_token(model):
    stem, tokens, temperature = [5, 6, 7], (9, 10), 2.0
    with torch.no_grad():
        logits = causal_model(model)(torch.tensor([[*stem, *tokens]])).logits[0].double() / temperature
    expected = sum(float(logits.log_softmax(-1)[len(stem) + i - 1, token]) for i, token in enumerate(tokens))
    found = score_candidates(Reader(model), stem, [tokens, (8,)], temperature=temperature).log_probabilities[0]
    assert float(found) == pytest.approx(expected, abs=2e-4)


def test_a_model_without_a_cache_of_keys_gives_the_same(model, monkeypatch):
    stem, candidates = [5, 6, 7, 8], [(9, 10, 11), (12,)]
    with_keys = score_candidates(Reader(model), stem, candidates).log_probabilities
    body = model.get_decoder()
    forward = type(body).forward

    def without(self, *arguments, use_cache=False, **options):
        return forward(self, *arguments, use_cache=False, **options)

    monkeypatch.setattr(type(body), "forward", without)
    torch.testing.assert_close(score_candidates(Reader(model), stem, candidates).log_probabilities, with_keys)


# -- asking ------------------------------------------------------------------------------------------------------


def test_questions_of_both_kinds_are_answered_together(model, tokenizer):
    found = ask(model, tokenizer, [LONG, SHORT])
    stem, candidates = encode_question(tokenizer, LONG)
    assert [isinstance(each, tuple) for each in candidates] == [True] * 3
    expected = [by_hand(model, stem, each) for each in candidates]
    np.testing.assert_allclose(found.log_probabilities[0], expected, atol=2e-4)
    alone = ask(model, tokenizer, [SHORT])
    assert alone.log_probabilities is None
    np.testing.assert_allclose(found.probabilities[1, :2], alone.probabilities[0], rtol=1e-5)
    np.testing.assert_allclose(found.shares()[1, :2], alone.shares()[0], rtol=1e-5)
    assert found.shares().sum(axis=1) == pytest.approx(1)


def test_each_score_ranks_by_its_length(model, tokenizer):
    found = ask(model, tokenizer, [LONG])
    total, tokens = found.log_probabilities[0], found.tokens[0]
    characters = [len(text.strip()) for text in LONG.candidates]
    for score, lengths in (("total", 1), ("mean", tokens), ("mean-by-character", characters)):
        expected = total / lengths
        shares = np.exp(expected) / np.exp(expected).sum()
        scored = ask(model, tokenizer, [LONG], Asking(score=score))
        np.testing.assert_allclose(scored.shares()[0], shares)
        np.testing.assert_allclose(found.scored(score).shares(), scored.shares())
        np.testing.assert_allclose(found.scored(score).probabilities[0], np.exp(expected))
        assert scored.predicted()[0] == expected.argmax()


def gathered(candidates, probabilities, *more):
    """Answers with candidates of one token each, as texts of any length; then others, all asked together."""
    top = np.array([1, 2]), np.array([0.5, 0.1]), np.zeros(0)
    single = question("words", candidates), tuple(range(5, 5 + len(candidates))), Answer(np.array(probabilities), *top)
    logs = np.log([0.2, 0.1])
    several = question("phrases", (" a b", " c d")), ((5, 6), (7, 8)), Answer(np.exp(logs), *top, logs)
    return gather(*map(list, zip(single, *([several] * len(more)), strict=True)))


def test_single_tokens_are_ranked_by_character_too():
    found = gathered((" tea", " pumpkins"), [0.3, 0.2])
    np.testing.assert_array_equal(found.scored("total").shares(), found.shares())
    np.testing.assert_array_equal(found.scored("mean").shares(), found.shares())
    by_character = found.scored("mean-by-character")
    expected = np.array([0.3 ** (1 / 3), 0.2 ** (1 / 8)])
    np.testing.assert_allclose(by_character.probabilities[0], expected)
    np.testing.assert_allclose(by_character.shares()[0], expected / expected.sum())
    assert (found.predicted()[0], by_character.predicted()[0]) == (0, 1)


@pytest.mark.parametrize("score", ["total", "mean", "mean-by-character"])
def test_a_question_is_answered_alike_in_any_company(score):
    alone, together = (gathered((" tea", " pumpkins"), [0.3, 0.2], *more).scored(score) for more in ((), (1,)))
    np.testing.assert_allclose(together.shares()[0], alone.shares()[0])


def test_answers_that_were_kept_without_characters_get_them_from_their_questions():
    found = gathered((" tea", " pumpkins"), [0.3, 0.2])
    earlier = replace(found, characters=None)
    completed = with_characters(earlier, [question("words", (" tea", " pumpkins"))])
    np.testing.assert_array_equal(completed.characters, found.characters)
    assert with_characters(earlier, []) is earlier


def test_single_tokens_are_kept_whole_whatever_ranks_them(tmp_path):
    found = gathered((" tea", " pumpkins"), [0.3, 0.2])
    found.scored("mean-by-character").save(tmp_path)
    kept = Predictions.load(tmp_path)
    assert kept.log_probabilities is None
    np.testing.assert_allclose(kept.probabilities, found.probabilities)
    np.testing.assert_allclose(kept.scored("mean-by-character").shares(), found.scored("mean-by-character").shares())


def test_probabilities_too_small_for_a_float_still_rank():
    logs = np.array([[-1001.0, -1000.0, -np.inf]])
    found = predictions(logs)
    np.testing.assert_allclose(found.shares()[0], [1 / (1 + np.exp(1)), 1 / (1 + np.exp(-1)), 0])
    assert found.predicted()[0] == 1


def predictions(logs):
    there = np.isfinite(logs)
    return Predictions(
        question_id=np.array([f"q{i}" for i in range(len(logs))]), candidate_ids=np.where(there, 5, -1),
        probabilities=np.exp(logs), answer=np.zeros(len(logs), int), top_ids=np.ones((len(logs), 2), int),
        top_probabilities=np.full((len(logs), 2), 0.1), posterior=np.full(logs.shape, np.nan),
        log_normalisers=np.zeros((len(logs), 0)), log_probabilities=logs, tokens=np.full(logs.shape, 2),
        characters=np.full(logs.shape, 7),
    )  # fmt: skip


def test_they_are_kept_whole_whatever_ranks_them(tmp_path):
    found = predictions(np.log([[0.2, 0.1, 0.05]]))
    found.scored("mean").save(tmp_path)
    kept = Predictions.load(tmp_path)
    np.testing.assert_array_equal(kept.probabilities, found.probabilities)
    np.testing.assert_array_equal(kept.scored("mean").shares(), found.scored("mean").shares())


@pytest.mark.parametrize("kind", ["temperature", "logit-temperature", "label-smoothing"])
def test_recalibration_changes_shares_and_gives_missing_candidates_nothing(kind):
    with np.errstate(divide="ignore"):
        found = predictions(np.log([[0.05, 0.2, 0.0], [0.1, 0.3, 0.2]]))
    moved = recalibrated(found, kind, 0.5 if kind == "temperature" else 0.2)
    expected = recalibrate(np.array([[0.8, 0.2]]), kind, 0.5 if kind == "temperature" else 0.2)[0]
    np.testing.assert_allclose(moved.probabilities[0], [expected[1], expected[0], 0])
    assert moved.shares().sum(axis=1) == pytest.approx(1)
    assert not {"log_probabilities", "tokens", "characters"} & set(moved.as_dict())
    assert accuracy(moved.correct()) == accuracy(found.correct())


def test_a_store_cannot_answer_them(tokenizer):
    with pytest.raises(UserError, match=r"question long: its candidates are several tokens.*data\.candidates"):
        of_store([LONG], [encode_question(tokenizer, LONG)], {})


# -- wording -----------------------------------------------------------------------------------------------------


def test_lettered_questions_can_be_answered_in_words(tokenizer):
    lettered = microworld.ask(microworld.make_world(), "csqa", "test", 20, 0)
    worded = [in_words(each) for each in lettered]
    for before, after in zip(lettered, worded, strict=True):
        assert after.candidates == tuple(f" {choice}" for choice in before.choices)
        assert after.response == f" {before.choices[before.answer]}"
        assert after.prompt == before.prompt.split("\nAnswer Choices:")[0] + "\nA:"
        stem, candidates = encode_question(tokenizer, after)
        taught = encode(tokenizer, after.example()).token_ids
        right = candidates[after.answer]
        right = right if isinstance(right, tuple) else (right,)
        assert taught[: len(stem) + len(right)] == [*stem, *right]
    check_taught(tokenizer, worded)


def test_a_letter_must_still_be_one_token(tokenizer):
    wrong = Question("q", "Q: What?\nA:", " The answer is (", ("tea is hot", "b"), ").", 0, ("tea", "ink"))
    with pytest.raises(UserError, match="not a single token"):
        encode_question(tokenizer, wrong)
