"""An audit's sentences: what they say of few answers, and of a difference that is none."""

import numpy as np
import pytest

from firstlib import audit
from firstlib.evaluation.audit.differences import Difference
from firstlib.metrics import Interval
from firstlib.results.audit.findings import DASH, between, difference_json, numbers, sure


def test_few_answers_promise_little():
    """Two right answers of two are 100 %, and compatible with less than a fifth."""
    confidence, correct = np.array([0.9, 0.8, *[0.5] * 98]), np.array([True, True, *[False, True] * 49])
    found = audit(confidence=confidence, correct=correct).inputs[0]
    assert sure(found).replace(DASH, "-") == (
        "The lowest confidence from which at least 90 % of the answers were right is 80.0 %: "
        "100.0 % (15.8-100.0) were, of 2 answers in 100."
    )
    assert numbers(found)["accuracy_at_90_interval"] == pytest.approx([0.025**0.5, 1])
    never = audit(confidence=confidence, correct=np.zeros(100, bool)).inputs[0]
    assert sure(never).startswith("No confidence is high enough")
    assert numbers(never)["accuracy_at_90_interval"] is None


@pytest.mark.parametrize(
    ("ece", "said"),
    [
        (
            Interval(-0.024, -0.122, 0.095),
            "new cannot be told from old by its calibration: the difference in ECE is -2.4",
        ),
        (
            Interval(-0.024, -0.05, -0.001),
            "new is better calibrated than old: the difference in ECE is -2.4 points (-5.0",
        ),
        (
            Interval(0.03, 0.01, 0.05),
            "new is less calibrated than old: the difference in ECE is +3.0 points (+1.0 to +5.0)",
        ),
        (
            Interval(-1e-17, -0.01, 0.01),
            "new cannot be told from old by its calibration: the difference in ECE is +0.0",
        ),
    ],
)
def test_a_difference_is_named_only_where_its_interval_excludes_zero(ece, said):
    told = between(Difference("new", "old", 100, (100, 120), paired=True, ece=ece, accuracy=ece))
    assert told.startswith(said)
    assert told.endswith("on the 100 questions that both answered, of 100 and 120.")


def test_pairs_whose_right_answers_differ_are_counted():
    no = Interval(0.0, -0.1, 0.1)
    one = Difference("new", "old", 100, (100, 120), paired=True, ece=no, accuracy=no, other_answers=7)
    assert "(the right answers of 7 differ: other questions, or choices in another order)" in between(one)
    assert difference_json(one)["other_answers"] == 7
