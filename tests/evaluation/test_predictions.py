"""A model's answers against a plain forward pass, and the values derived from them by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from firstlib.evaluation import asking
from firstlib.evaluation.gathering import Asking
from firstlib.evaluation.predictions import Predictions, renormalise
from firstlib.evaluation.temperature import fit_temperature
from firstlib.models import heads, loading
from firstlib.tasks import microworld
from firstlib.tasks.encoding import encode_question


@pytest.fixture(scope="module")
def spec(base_folder):
    return loading.Model(base=str(base_folder))


@pytest.fixture(scope="module")
def model(spec):
    model = loading.load_base(spec).eval()
    with torch.no_grad():
        heads.body_and_head(model)[1].weight *= 20  # sharper than a random model
    return model


@pytest.fixture(scope="module")
def tokenizer(spec):
    return loading.load_tokenizer(spec)


@pytest.fixture(scope="module")
def questions(world):
    """Questions of very different lengths, with two, four and five candidates in turn."""
    each = [microworld.ask(world, task, "test", 3, 0) for task in ("csqa", "boolq", "obqa")]
    return [question for group in zip(*each, strict=True) for question in group]


@pytest.fixture(scope="module")
def found(model, tokenizer, questions):
    return asking.ask(model, tokenizer, questions)


def test_answers_equal_a_plain_forward_pass(model, tokenizer, questions, found):
    assert len(found) == len(questions)
    for i, question in enumerate(questions):
        stem, candidates = encode_question(tokenizer, question)
        with torch.no_grad():
            dense = model(input_ids=torch.tensor([stem])).logits[0, -1].double().softmax(-1).numpy()
        count = len(candidates)
        assert found.question_id[i] == question.id
        assert found.answer[i] == question.answer
        assert found.candidate_ids[i].tolist() == candidates + [-1] * (5 - count)
        np.testing.assert_allclose(found.probabilities[i, :count], dense[candidates], rtol=1e-4)
        assert not found.probabilities[i, count:].any()
        order = (-dense).argsort()[:5]
        np.testing.assert_array_equal(found.top_ids[i], order)
        np.testing.assert_allclose(found.top_probabilities[i], dense[order], rtol=1e-4)
        np.testing.assert_allclose(found.posterior[i, :count], question.posterior)


@pytest.mark.parametrize("batch", [1, 4])
def test_answers_do_not_depend_on_batch_size_and_order(model, tokenizer, questions, found, batch):
    again = asking.ask(model, tokenizer, questions[::-1], Asking(batch_size=batch))
    np.testing.assert_array_equal(again.question_id[::-1], found.question_id)
    np.testing.assert_array_equal(again.top_ids[::-1], found.top_ids)
    np.testing.assert_allclose(again.probabilities[::-1], found.probabilities, rtol=1e-4)


def test_an_unknown_posterior_is_nan(model, tokenizer, questions):
    unknown = asking.ask(model, tokenizer, [replace(questions[0], posterior=None)])
    assert np.isnan(unknown.posterior).all()


def test_k_tokens_are_kept(model, tokenizer, questions):
    assert asking.ask(model, tokenizer, questions[:2], Asking(k=3)).top_ids.shape == (2, 3)


def test_answers_survive_saving_and_loading(found, tmp_path):
    found.save(tmp_path)
    kept = Predictions.load(tmp_path)
    for name, array in found.as_dict().items():
        np.testing.assert_array_equal(getattr(kept, name), array)
        assert getattr(kept, name).dtype == array.dtype


# -- by hand -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two():
    """Question one has candidates 10, 11 and 12, question two has 10 and 11; 11 is right in both."""
    return Predictions(
        question_id=np.array(["one", "two"]),
        candidate_ids=np.array([[10, 11, 12], [10, 11, -1]]),
        probabilities=np.array([[0.4, 0.3, 0.1], [0.05, 0.15, 0.0]]),
        answer=np.array([1, 1]),
        top_ids=np.array([[10, 11], [99, 11]]),
        top_probabilities=np.array([[0.4, 0.3], [0.8, 0.15]]),
        posterior=np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]),
        log_normalisers=np.zeros((2, 0)),
    )


def test_renormalise_gives_equal_shares_if_there_is_no_mass():
    shares = renormalise(
        np.array([[0.1, 0.3, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        np.array([[True, True, False], [True, True, False], [True, True, True]]),
    )
    np.testing.assert_allclose(shares, [[0.25, 0.75, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_both_readings_of_confidence(two):
    assert two.predicted().tolist() == [0, 1]
    assert two.correct().tolist() == [False, True]
    np.testing.assert_allclose(two.confidence(), [0.5, 0.75])
    np.testing.assert_allclose(two.confidence("candidates"), [0.5, 0.75])
    np.testing.assert_allclose(two.confidence("vocabulary"), [0.4, 0.15])
    np.testing.assert_allclose(two.shares(), [[0.5, 0.375, 0.125], [0.25, 0.75, 0]])


def test_ece_follows_the_reading(two):
    # by candidates (0.5 - 0) / 2 + (1 - 0.75) / 2; by the vocabulary (0.4 - 0) / 2 + (1 - 0.15) / 2
    assert two.reliability().ece == pytest.approx(0.375)
    assert two.reliability("vocabulary").ece == pytest.approx(0.625)


def test_by_rank_gives_mean_probability_and_accuracy_of_each_rank(two):
    given, right = two.by_rank()
    np.testing.assert_allclose(given, [0.6, 0.225])
    np.testing.assert_allclose(right, [0, 1])


def test_under_gives_the_top_tokens_their_targets_and_the_other_candidates_nothing(two):
    moved = two.under(np.array([[0.2, 0.8], [0.9, 0.1]]))
    np.testing.assert_allclose(moved.probabilities, [[0.2, 0.8, 0], [0, 0.1, 0]])
    np.testing.assert_allclose(moved.top_probabilities, [[0.2, 0.8], [0.9, 0.1]])
    assert moved.correct().tolist() == [True, True]
    np.testing.assert_allclose(moved.confidence(), [0.8, 1.0])
    np.testing.assert_allclose(moved.confidence("vocabulary"), [0.8, 0.1])
    assert two.predicted().tolist() == [0, 1]  # the original is unchanged


def test_under_equals_the_shares_where_the_top_tokens_are_the_candidates(two):
    both = replace(
        two,
        top_ids=np.array([[12, 10, 11], [11, 10, 5]]),
        probabilities=np.array([[0.5, 0.3, 0.2], [0.25, 0.75, 0.0]]),
    )
    moved = both.under(np.array([[0.2, 0.5, 0.3], [0.75, 0.25, 0.0]]))
    np.testing.assert_allclose(moved.shares(), both.shares())
    np.testing.assert_allclose(moved.confidence("vocabulary"), both.confidence("candidates"))


def test_shares_are_equal_if_no_candidate_is_in_the_top(two):
    moved = replace(two, top_ids=np.array([[1, 2], [3, 4]])).under(np.array([[0.5, 0.5], [0.5, 0.5]]))
    np.testing.assert_allclose(moved.shares(), [[1 / 3] * 3, [0.5, 0.5, 0]])


def test_a_candidate_may_be_the_token_0_which_is_not_missing(two):
    zero = replace(two, candidate_ids=np.array([[0, 10, -1], [0, 10, -1]]))
    moved = zero.with_shares(lambda shares: np.array([[0.7, 0.3]] * 2))
    np.testing.assert_array_equal(moved.probabilities, [[0.7, 0.3, 0], [0.3, 0.7, 0]])
    without = replace(zero, probabilities=np.zeros((2, 3)))
    np.testing.assert_array_equal(without.shares(), [[0.5, 0.5, 0]] * 2)


def test_a_map_of_shares_sees_existing_candidates_in_order_of_probability(two):
    seen = []

    def by_rank(shares):
        seen.append(shares.round(3).tolist())
        return np.arange(1.0, shares.shape[1] + 1)[None]

    moved = two.with_shares(by_rank)
    assert seen == [[[0.75, 0.25]], [[0.5, 0.375, 0.125]]]
    assert moved.probabilities.tolist() == [[1, 2, 3], [2, 1, 0]]


def test_tied_candidates_keep_their_order_under_a_map(two):
    tied = replace(two, candidate_ids=np.arange(80).reshape(2, 40), probabilities=np.tile([0.01, 0.02], (2, 20)))
    moved = tied.with_shares(lambda shares: np.arange(40.0, 0, -1) * np.ones((2, 1)))
    np.testing.assert_array_equal(moved.probabilities[:, 1::2], [np.arange(40, 20, -1)] * 2)
    np.testing.assert_array_equal(moved.probabilities[:, ::2], [np.arange(20, 0, -1)] * 2)


def test_reliability_has_ten_bins_or_as_many_as_asked(two):
    assert len(two.reliability().count) == 10
    assert len(two.reliability(bins=4).count) == 4


def test_a_stored_temperature_takes_the_normalisers_of_both_temperatures(two):
    # p = (0.64, 0.36) and (0.04, 0.96) at T = 1, so at T = 2 proportional to (0.8, 0.6) and (0.2, sqrt(0.96))
    p = np.array([[0.64, 0.36, 0.0], [0.04, 0.96, 0.0]])
    logs = np.stack([np.log(np.sqrt(p).sum(axis=1)), np.zeros(2)], axis=1)
    known = replace(two, probabilities=p, top_probabilities=p[:, 1:2], log_normalisers=logs)
    moved = known.at_temperature(2.0, (2.0, 1.0))
    expected = np.sqrt(p) / np.sqrt(p).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(moved.probabilities, expected)
    np.testing.assert_allclose(moved.top_probabilities, expected[:, 1:2])


def test_a_file_of_answers_holds_and_runs_no_pickles(two, tmp_path):
    objects = replace(two, question_id=np.array(["one", {}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        objects.save(tmp_path)
    np.savez(tmp_path / "predictions.npz", allow_pickle=True, **objects.as_dict())
    with pytest.raises(ValueError, match="allow_pickle"):
        Predictions.load(tmp_path)


def test_answers_are_kept_compressed_in_one_file(two, tmp_path):
    many = Predictions.joined([two] * 500)
    many.save(tmp_path)
    [file] = tmp_path.iterdir()
    assert file.name == "predictions.npz"
    assert file.stat().st_size < sum(array.nbytes for array in many.as_dict().values()) / 4


def test_joined_answers_follow_each_other(two):
    other = replace(two, question_id=np.array(["three", "four"]), score="mean")
    assert Predictions.joined([other]).score == "mean"
    both = Predictions.joined([other, two])
    assert both.score == "mean"
    assert both.question_id.tolist() == ["three", "four", "one", "two"]
    assert both.candidate_ids.shape == (4, 3)
    assert both.log_probabilities is None


# -- temperature, padding ----------------------------------------------------------------------------------------


def test_a_temperature_divides_the_models_logits(model, tokenizer, questions, found):
    tempered = asking.ask(model, tokenizer, questions, Asking(temperature=2.5, k=len(tokenizer)))
    dense = asking.ask(model, tokenizer, questions, Asking(k=len(tokenizer)))
    for one, other in zip(tempered.top_probabilities, dense.top_probabilities, strict=True):
        expected = one[one > 1e-6]
        power = other ** (1 / 2.5)
        np.testing.assert_allclose(expected, (power / power.sum())[: len(expected)], rtol=1e-3)
    shares = dense.shares() ** (1 / 2.5)
    np.testing.assert_allclose(tempered.shares(), shares / shares.sum(1, keepdims=True), rtol=1e-3)
    np.testing.assert_array_equal(tempered.predicted(), found.predicted())


def test_stored_normalisers_apply_a_temperature_exactly(model, tokenizer, questions):
    stored = (1.0, 1.7)
    kept = asking.ask(model, tokenizer, questions, Asking(normalisers=stored))
    asked = asking.ask(model, tokenizer, questions, Asking(temperature=1.7))
    again = kept.at_temperature(1.7, stored)
    np.testing.assert_allclose(again.probabilities, asked.probabilities, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(again.top_probabilities, asked.top_probabilities, rtol=1e-4)
    with pytest.raises(ValueError, match=r"not at 3; add it to knowledge\.temperatures"):
        kept.at_temperature(3, stored)


def test_padding_rows_of_the_head_get_no_mass(model, tokenizer, questions):
    rows = heads.body_and_head(model)[1].weight.shape[0]
    whole = asking.ask(model, tokenizer, questions, Asking(k=rows - 5))
    trimmed = asking.ask(model, tokenizer, questions, Asking(vocabulary=rows - 5, k=rows - 5))
    assert trimmed.top_ids.max() < rows - 5
    np.testing.assert_allclose(trimmed.top_probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(trimmed.shares(), whole.shares(), rtol=1e-4)


def test_a_fitted_temperature_has_the_lowest_nll():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5))
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    answer = np.array([rng.choice(5, p=p) for p in truth])
    sure = truth**3 / (truth**3).sum(1, keepdims=True)  # over-confident: T = 3 corrects it
    assert fit_temperature(sure, answer) == pytest.approx(3, rel=0.1)
    assert fit_temperature(truth, answer) == pytest.approx(1, rel=0.1)


def test_a_temperature_ignores_ruled_out_answers():
    shares = np.array([[1.0, 0.0], [0.6, 0.4]])
    assert fit_temperature(shares, np.array([1, 1])) == fit_temperature(shares[1:], np.array([1]))
    with pytest.raises(ValueError, match="no right answer has any probability"):
        fit_temperature(shares[:1], np.array([1]))
