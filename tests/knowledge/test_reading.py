"""A prefix that examples share is read once, and the states behind it are those of whole texts."""

import pytest
import torch
from test_families import FAMILIES, built

from firstlib.evaluation.candidates import score_candidates
from firstlib.knowledge import extract_top_k
from firstlib.knowledge.reading import Batch, Reader
from firstlib.models.heads import body_and_head
from firstlib.tasks.encoding import Encoded

BEGINNING = [5, 9, 17, 4, 31, 8, 8, 22, 13, 6]
TAILS = ([7, 30, 2], [11], [12, 3, 39, 21, 9], [7, 30, 33])
EXAMPLES = [Encoded(str(i), [*BEGINNING, 14, *tail], len(BEGINNING) + 1) for i, tail in enumerate(TAILS)]
# Families that keep something else than the keys and values of every token: they read whole texts.
WHOLE = {"mamba", "mamba2", "falcon_h1", "recurrent_gemma"}


def by_hand(model, examples):
    """The states of each example alone, without padding and without a cache."""
    body, _ = body_and_head(model)
    with torch.no_grad():
        rows = [body(input_ids=torch.tensor([e.token_ids]), use_cache=False).last_hidden_state[0] for e in examples]
    return torch.cat([row[e.start - 1 : -1] for row, e in zip(rows, examples, strict=True)])


@pytest.mark.parametrize("name", FAMILIES)
def test_states_behind_a_shared_prefix_are_those_of_whole_texts(name):
    model = built(name)
    reader = Reader(model)
    expected = by_hand(model, EXAMPLES)
    for shared in (len(BEGINNING), 4, len(BEGINNING), 0):
        found = reader.response_states(Batch(EXAMPLES, shared))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    assert reader.keep(BEGINNING) == (name not in WHOLE)


@pytest.mark.parametrize("name", ["gemma3_text", "cohere2", "mistral"])
def test_a_window_shorter_than_the_prefix_is_kept_to(name, monkeypatch):
    monkeypatch.setitem(FAMILIES, name, {**FAMILIES[name], "sliding_window": 4})
    model = built(name)
    torch.testing.assert_close(
        Reader(model).response_states(Batch(EXAMPLES, len(BEGINNING))), by_hand(model, EXAMPLES), rtol=1e-4, atol=2e-5
    )


def forwards(model, monkeypatch):
    """Counts the tokens that the decoder reads."""
    body, read = body_and_head(model)[0], []
    forward = body.forward
    monkeypatch.setattr(body, "forward", lambda **given: (read.append(given["input_ids"].numel()), forward(**given))[1])
    return read


def test_a_prefix_is_read_once_for_all_batches(monkeypatch):
    model = built("llama")
    reader = Reader(model)
    reader.keep(BEGINNING)
    read = forwards(model, monkeypatch)
    for example in EXAMPLES:
        reader.response_states(Batch([example], len(BEGINNING)))
    assert read == [len(tail) for tail in TAILS]  # 14 and all of the tail but its last token


def test_candidates_continue_from_their_question_and_that_from_what_all_share(monkeypatch):
    model = built("llama")
    reader = Reader(model)
    reader.keep(BEGINNING)
    stems = [[*BEGINNING, 3, 14], [*BEGINNING, 15, 16, 14]]
    candidates = [(9, 10), (12,)]
    expected = [score_candidates(Reader(model), stem, candidates).log_probabilities for stem in stems]
    read = forwards(model, monkeypatch)
    found = [score_candidates(reader, stem, candidates).log_probabilities for stem in stems]
    assert read == [1, 4, 2, 4]  # the question's own tokens but the last; then that and the candidates, padded to two
    torch.testing.assert_close(found, expected)


def test_extraction_reads_what_prompts_share_once_and_finds_the_same(monkeypatch):
    model = built("llama")
    shared = [*BEGINNING, *BEGINNING]
    examples = [Encoded(str(i), [*shared, 3 + i, *tail], len(shared) + 1) for i, tail in enumerate(TAILS)]
    expected = {item.example_id: item for e in examples for item in extract_top_k(model, [e], 5)}
    read = forwards(model, monkeypatch)
    found = list(extract_top_k(model, examples, 5, batch=2))
    assert sum(read) < sum(len(e.token_ids) for e in examples) / 1.5
    for item in found:
        torch.testing.assert_close(item.probabilities, expected[item.example_id].probabilities, rtol=1e-4, atol=1e-6)
        assert (item.token_ids == expected[item.example_id].token_ids).all()
