"""What is measured of answers: against plain arithmetic, and against what is known of made-up models."""

from dataclasses import replace

import numpy as np
import pytest

from firstlib.evaluation.audit.answers import UNKNOWN, Answers, Shown, of_probabilities
from firstlib.evaluation.audit.differences import difference
from firstlib.evaluation.audit.measured import measure
from firstlib.evaluation.audit.subjects import by_subject
from firstlib.evaluation.audit.tempered import cross_fitted
from firstlib.metrics import paired_bootstrap_difference


def made(n=2000, sharp=1.0, seed=0, ids=True, groups=None):
    """A model whose logits are `sharp` times those of a calibrated one."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 1.5
    answer = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    weights = np.exp(sharp * logits)
    rows = weights / weights.sum(axis=1, keepdims=True)
    names = np.arange(n).astype(str) if ids else None
    return Answers("made", "", "candidates", *of_probabilities(rows, answer), rows, answer, names, groups)


def test_a_calibrated_model_cannot_be_told_from_calibrated():
    found = measure(made())
    assert not found.above_chance
    assert found.ece.low <= found.ece.estimate <= found.ece.high
    assert found.tempered.value == pytest.approx(1, abs=0.1)


def test_an_over_confident_model_is_found_and_its_temperature_recovered():
    found = measure(made(sharp=3))
    assert found.above_chance
    assert found.gap > 0.1
    assert found.tempered.value == pytest.approx(3, rel=0.1)
    assert found.tempered.ece.estimate < found.ece.estimate / 3
    assert found.tempered.nll < found.tempered.nll_before


def test_the_measures_are_plain_arithmetic():
    answers = made(300)
    found = measure(answers)
    truth = answers.probabilities[np.arange(300), answers.answer]
    assert found.loss.value == pytest.approx(-np.log(truth).mean())
    assert found.errors.brier.total == pytest.approx(((answers.confidence - answers.correct) ** 2).mean())
    kept = answers.confidence >= found.sure
    assert answers.correct[kept].mean() >= 0.9
    assert found.answered == kept.mean()


def test_a_temperature_is_measured_on_answers_that_did_not_choose_it():
    answers = made(40, sharp=2)
    found = cross_fitted(answers, 10)
    assert len(set(found.by_fold)) == 5
    in_sample = cross_fitted(answers, 10, folds=40)
    assert found.nll != in_sample.nll
    assert cross_fitted(made(19), 10) is None


def test_a_right_answer_without_probability_is_counted_and_does_not_make_the_loss_infinite():
    rows = np.array([[1.0, 0.0], [0.5, 0.5]] * 20)
    answer = np.array([1, 0] * 20)
    found = measure(Answers("", "", "candidates", *of_probabilities(rows, answer), rows, answer))
    assert (found.loss.ruled_out, found.loss.value) == (20, pytest.approx(np.log(2)))
    assert np.isfinite(found.tempered.nll)


def test_one_class_and_one_row_are_measured():
    for rows, right in (([[1.0, 0.0]], 0), ([[0.6, 0.4]] * 10, 0)):
        probabilities = np.array(rows)
        answer = np.full(len(rows), right)
        found = measure(Answers("", "", "candidates", *of_probabilities(probabilities, answer), probabilities, answer))
        assert found.accuracy.estimate == 1
        assert found.tempered is None


def test_holm_finds_the_one_miscalibrated_subject():
    calibrated, bad = made(1500), made(300, sharp=4, seed=1)
    both = Answers(
        "", "", "candidates", np.append(calibrated.confidence, bad.confidence),
        np.append(calibrated.correct, bad.correct),
        groups=np.array([f"s{number % 5}" for number in range(1500)] + ["bad"] * 300),
    )  # fmt: skip
    found = by_subject(both, 10)
    assert [one.name for one in found if one.miscalibrated] == ["bad"]
    assert found[0].name == "bad"


# -- differences -------------------------------------------------------------------------------------------------


def test_pairs_are_found_by_id_whatever_the_order():
    new, old = made(500, sharp=3), made(500)
    shuffled = old.take(np.random.default_rng(1).permutation(500))
    found = difference(new, shuffled)
    assert (found.paired, found.n) == (True, 500)
    expected = paired_bootstrap_difference(new.confidence, new.correct, old.confidence, old.correct)
    assert found.ece.estimate == pytest.approx(expected.estimate)
    assert found.beyond_chance
    assert found.accuracy.estimate == 0


def test_only_shared_questions_are_compared_and_none_without_ids():
    new, old = made(500, sharp=3), made(500)
    part = difference(new.take(np.arange(100, 500)), old.take(np.arange(300)))
    assert (part.n, part.of) == (200, (400, 300))
    alone = difference(made(500, sharp=3, ids=False), old)
    assert (alone.paired, alone.n) == (False, 0)
    assert alone.ece.estimate == pytest.approx(difference(new, old).ece.estimate)
    assert alone.accuracy.high > 0 > alone.accuracy.low


def test_pairs_with_other_right_answers_are_counted():
    new = made(6)
    other = new.take(np.arange(6)[::-1])
    other.answer[:3] = (other.answer[:3] + 1) % 4  # questions 5, 4 and 3
    other.answer[3] = UNKNOWN
    assert difference(new, other).other_answers == 3
    assert difference(new, made(6)).other_answers == 0
    assert difference(new, replace(other, probabilities=None, answer=None)).other_answers == 0


def test_choices_in_another_order_are_no_other_answers():
    new = made(6)
    shifted = replace(new, answer=(new.answer + 1) % 4, texts=[Shown("", tuple("dabc"))] * 6)
    assert difference(replace(new, texts=[Shown("", tuple("abcd"))] * 6), shifted).other_answers == 0
    assert difference(new, shifted).other_answers == 6


# -- many rows ---------------------------------------------------------------------------------------------------
