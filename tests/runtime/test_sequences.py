"""Sequences that make their items on demand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstlib.runtime.sequences import LazySequence, in_pieces, on_disk, select
from firstlib.tasks.question import Example, Question, from_json


def test_an_item_is_made_only_when_it_is_accessed():
    made = []
    items = LazySequence(1000, lambda i: made.append(i) or i)
    part = items[10:20][::-1]
    assert not made
    assert (part[0], part[-1], len(part)) == (19, 10, 10)
    assert made == [19, 10]


def test_a_lazy_sequence_ends_like_a_list():
    items = select("abc", np.array([2, 0]))
    assert list(items) == ["c", "a"]
    with pytest.raises(IndexError):
        items[2]
    assert not select("abc", [])


@given(st.lists(st.text()))
def test_texts_on_disk_are_read_back_unchanged(texts):
    found = on_disk(iter(texts), str, str)
    assert list(found) == texts
    assert [found[i] for i in reversed(range(len(texts)))] == texts[::-1]


def test_an_error_while_writing_leaves_no_file_open():
    def items():
        yield "a"
        raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        on_disk(items(), str, str)


@pytest.mark.parametrize(
    "item",
    [
        Example("1", "Go.", " Gone."),
        Question("2", "Is it?", " It is (", ("a", "b"), ").", 1, ("no", "yes")),
        Question("3", "Is it?", " It is (", ("a", "b"), ").", 1, ("no", "yes"), (0.1, 0.9)),
    ],
)
def test_items_on_disk_are_read_back_unchanged(item):
    [found] = on_disk([item], vars, from_json)
    assert found == item
    assert hash(found) == hash(item)  # its fields are tuples, not lists


@given(st.lists(st.integers(1, 9)), st.integers(1, 20))
def test_pieces_are_as_large_as_allowed_and_complete(weights, most):
    pieces = list(in_pieces(weights, lambda weight: weight, most))
    assert [weight for piece in pieces for weight in piece] == weights
    assert all(sum(piece) <= most or len(piece) == 1 for piece in pieces)
    assert all(sum(a) + b[0] > most for a, b in pairwise(pieces))
