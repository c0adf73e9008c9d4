"""Batches: similar lengths, shared prefixes, and nothing lost."""

import random

from hypothesis import given
from hypothesis import strategies as st

from firstlib.knowledge.batches import MIN_SHARED, batches_by_length, shared_prefixes
from firstlib.tasks.encoding import Encoded

FEW_SHOT, ALPACA = list(range(100, 140)), list(range(200, 230))


def example(name, prompt, length=3):
    return Encoded(name, [*prompt, *[1] * length], len(prompt))


def test_examples_with_one_prefix_follow_each_other():
    examples = [
        example(f"{name}{i}", [*prefix, 3 * i + number, 7])
        for i in range(10)
        for number, (name, prefix) in enumerate({"few": FEW_SHOT, "alpaca": ALPACA, "none": [i + 50]}.items())
    ]
    random.Random(0).shuffle(examples)
    found = [(batch.shared, {e.id[:-1] for e in batch.examples}) for batch in batches_by_length(examples, 5)]
    assert found == [(40, {"few"})] * 2 + [(30, {"alpaca"})] * 2 + [(0, {"none"})] * 2


def test_a_prefix_within_a_prefix_counts_where_it_is_much_longer():
    preamble, subject = list(range(30)), list(range(60, 80))
    prompts = [[*preamble, *subject, i] for i in range(4)] + [[*preamble, 99, 100 + i] for i in range(4)]
    assert list(map(len, shared_prefixes(prompts, 4))) == [50, 30]
    short = [[*preamble, *subject[: MIN_SHARED - 1], i] for i in range(4)] + prompts[4:]
    assert list(map(len, shared_prefixes(short, 4))) == [30]


def test_fewer_than_a_batch_are_no_group_of_their_own():
    prompts = [[*FEW_SHOT, i] for i in range(3)] + [[*ALPACA, i] for i in range(5)]
    assert list(map(len, shared_prefixes(prompts, 4))) == [30]
    assert list(map(len, shared_prefixes(prompts[:3], 64))) == [40]  # all there are


def test_a_state_that_predicts_the_response_is_never_in_the_prefix():
    examples = [example(str(i), FEW_SHOT) for i in range(4)]  # equal prompts
    (batch,) = batches_by_length(examples, 4)
    assert batch.shared == len(FEW_SHOT) - 1


@given(st.lists(st.tuples(st.sampled_from([(), tuple(FEW_SHOT), tuple(ALPACA)]), st.integers(1, 40)), max_size=60),
       st.integers(1, 9))  # fmt: skip
def test_every_example_is_in_one_batch_whatever_their_order(kinds, largest):
    examples = [example(str(i), [*prefix, 5, i % 7], length) for i, (prefix, length) in enumerate(kinds)]
    batches = [(batch.shared, [e.id for e in batch.examples]) for batch in batches_by_length(examples, largest)]
    assert sorted(name for _, names in batches for name in names) == sorted(e.id for e in examples)
    assert all(len(names) <= largest for _, names in batches)
    assert [*map(repr, batches)] == [
        repr((batch.shared, [e.id for e in batch.examples])) for batch in batches_by_length(examples[::-1], largest)
    ]
