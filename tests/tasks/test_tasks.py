"""The microworld's questions, prompts and tokens."""

import numpy as np
import pytest

from firstlib.models.loading import load_tokenizer
from firstlib.runtime.errors import UserError
from firstlib.tasks import microworld, prompts
from firstlib.tasks.encoding import encode, encode_question
from firstlib.tasks.microworld import corpus
from firstlib.tasks.microworld.people import PEOPLE, RELATIONS
from firstlib.tasks.question import Example, Question, without_right_choice


def test_the_world_is_a_distribution_for_every_person_and_relation(world):
    assert world.truth.shape == (len(PEOPLE), len(RELATIONS), 10)
    np.testing.assert_allclose(world.truth.sum(-1), 1)


def test_words_are_distinct():
    values = [value for relation in RELATIONS for value in relation.values]
    assert len(set(values)) == len(values) == 100
    assert len(set(PEOPLE)) == len(PEOPLE) == 60


@pytest.mark.parametrize("task", microworld.TASKS)
def test_questions_are_reproducible_and_differ_by_split_and_seed(world, task):
    first = microworld.ask(world, task, "train", 20, seed=0)
    assert first == microworld.ask(world, task, "train", 20, seed=0)
    assert first[:10] == microworld.ask(world, task, "train", 10, seed=0)
    assert first != microworld.ask(world, task, "train", 20, seed=1)
    assert {q.prompt for q in first} != {q.prompt for q in microworld.ask(world, task, "test", 20, seed=0)}


@pytest.mark.parametrize("task", microworld.TASKS)
def test_answers_are_drawn_from_the_posterior(world, task):
    """Of all choices with a posterior of about p, a share of about p is right (within 4 sigma)."""
    questions = microworld.ask(world, task, "test", 4000, seed=3)
    probability = np.concatenate([q.posterior for q in questions])
    right = np.concatenate([np.arange(len(q.candidates)) == q.answer for q in questions])
    for low in np.arange(0, 1, 0.2):
        chosen = (probability > low) & (probability <= low + 0.2)
        spread = np.sqrt((probability[chosen] * (1 - probability[chosen])).sum()) / chosen.sum()
        assert abs(right[chosen].mean() - probability[chosen].mean()) < 4 * spread


def test_a_report_is_weighed_by_bayes_rule():
    # prior 0.2, true report 0.6, otherwise one of 9 others: 0.12 / (0.12 + 0.8 * 0.4 / 9) = 0.7714
    assert microworld.believe_report(0.2, 0.6, 10) == pytest.approx(0.7714, abs=5e-5)


def test_the_papers_prompt_structures(world):
    csqa, obqa, boolq = (microworld.ask(world, task, "test", 1, 0)[0] for task in ("csqa", "obqa", "boolq"))
    assert csqa.prompt.startswith("Q: ")
    assert "\nAnswer Choices:\n(a) " in csqa.prompt
    assert (csqa.prompt + csqa.response)[-22:-3].endswith("A: The answer is (")
    assert [c[0] for c in csqa.candidates] == list("abcde")
    assert [c[0] for c in obqa.candidates] == list("ABCD")
    assert "answer the question: " in boolq.prompt
    assert "? Your answer should be Yes or No.\n\n### Input:\n" in boolq.prompt
    assert boolq.response in ("Yes", "No")


def test_alpacas_two_templates():
    assert "paired with an input" in prompts.instruction("Do.", "this")
    assert "### Input" not in prompts.instruction("Do.")


def test_a_response_starts_where_the_prompt_ends(base, world):
    tokenizer = load_tokenizer(base)
    for task in microworld.TASKS:
        for question in microworld.ask(world, task, "train", 30, 0):
            encoded = encode(tokenizer, question.example())
            assert tokenizer.decode(encoded.token_ids[encoded.start : -1]) == question.response
            assert encoded.token_ids[-1] == tokenizer.eos_token_id
            stem, candidates = encode_question(tokenizer, question)
            assert encoded.token_ids[: len(stem) + 1] == [*stem, candidates[question.answer]]


def test_decoding_restores_the_text(base, world):
    tokenizer = load_tokenizer(base)
    text = microworld.ask(world, "alpaca", "train", 1, 0)[0].prompt
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize(
    ("candidates", "complaint"),
    [((" tea", " green tea"), "not a single token"), ((" tea", " tea"), "the same token")],
)
def test_a_candidate_must_be_one_token_and_distinct(base, candidates, complaint):
    question = Question("q7", "Q: What does the baker drink?\nA:", "", candidates, ".", 0, candidates)
    with pytest.raises(UserError, match=f"question q7.*{complaint}"):
        encode_question(load_tokenizer(base), question)


def test_questions_without_a_right_choice_offer_nothing_that_fits(world):
    question = microworld.ask(world, "csqa", "test", 1, 0)[0]
    changed = without_right_choice(question, microworld.foreign_values(question), np.random.default_rng(0))
    assert not set(changed.choices) & set(question.choices)
    assert all(f") {choice}\n" in changed.prompt for choice in changed.choices)
    assert changed.posterior == (0.2,) * 5


def test_pages_are_reproducible_and_readable(world):
    mix = {sort: 1 / len(corpus.SORTS) for sort in corpus.SORTS}
    pages = list(corpus.pages(world, 50, 0, mix))
    assert pages == list(corpus.pages(world, 50, 0, mix))
    assert all(any(span.answer for span in page) for page in pages)


def test_encode_keeps_an_end_token_that_the_tokenizer_adds(base):
    encoded = encode(load_tokenizer(base), Example("e", "A:", " The answer is (a)."))
    assert encoded.token_ids.count(2) == 1


def test_some_instructions_have_lists_with_letters(world):
    questions = microworld.ask(world, "alpaca", "train", 2000, 0)
    listed = [question for question in questions if len(question.choices) == 4]
    lettered = [question for question in listed if question.candidates[0] == "A)"]
    assert len(lettered) / len(listed) == pytest.approx(0.11, abs=0.03)
    for question in lettered:
        choice = question.choices[question.answer]
        assert question.response == f"{'ABCD'[question.answer]}) {choice}."
        assert f"\n{question.response[:-1]}" in question.prompt
        assert sum(question.posterior) == pytest.approx(1)


def test_base_models_are_pretrained_without_lists_with_letters(world):
    from firstlib.tasks.microworld import corpus

    pages = corpus.pages(world, 500, 0, {"instructions": 1.0})
    assert not any("\nA) " in corpus.text_of(page) for page in pages)
