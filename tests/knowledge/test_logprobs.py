"""A teacher's answers in every format, matched to students with every kind of tokenizer."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import ALL, PROMPT, RESPONSE, word_level

from firstlib.distillation import recalibration
from firstlib.distillation.losses import top_k_kl
from firstlib.knowledge import KnowledgeStore, Origin, extract_top_k
from firstlib.knowledge.servers.alignment import Reason
from firstlib.knowledge.servers.candidates import Candidates
from firstlib.knowledge.servers.logprobs import REPORT, UNMATCHED, Report, import_logprobs, open_imported, unanswered
from firstlib.knowledge.servers.matching import Rules, Unmatched, match_all, match_response
from firstlib.knowledge.servers.responses import read_response
from firstlib.knowledge.servers.spelling import pieces_of
from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import PROGRESS_FILE
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode
from firstlib.tasks.question import Example

EXAMPLE = Example("e", PROMPT, RESPONSE)
RULES = Rules(3)


class Student:
    """A tokenizer, the example in its tokens, and the text of each token."""

    def __init__(self, kind, example=EXAMPLE):
        self.tokenizer = ALL[kind]()
        self.example = encode(self.tokenizer, example)
        self.pieces = pieces_of(self.tokenizer)
        self.start, self.ids = self.example.start, self.example.token_ids
        self.positions = list(range(self.start, len(self.ids)))

    def id(self, text):
        return self.pieces.ids[text.encode()]

    def texts(self, ids=None):
        return [self.pieces.texts[i] for i in (self.ids if ids is None else ids)]

    def match(self, body, rules=RULES):
        response = read_response(json.dumps({"id": "e", **body}).encode(), "file, line 1")
        return match_response(response, self.example, self.pieces, rules)


@pytest.fixture(params=ALL)
def student(request):
    return Student(request.param)


# -- response formats --------------------------------------------------------------------------------------------


def escaped(text):
    """Text as OpenAI's completions write it, with parts of characters escaped."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text)


def tops(texts, others=(" yes", " no")):
    """At each position, 0.6 for its own text, and 0.2 and 0.1 for two others."""
    return [{text: 0.6, others[0]: 0.2, others[1]: 0.1} for text in texts]


def logs(top):
    return {text: math.log(p) for text, p in top.items()}


def completion(texts, listed, echo=True):
    """A legacy completion; with `echo`, the first token has no log-probability."""
    own = [math.log(listed[i].get(text, 1e-9)) for i, text in enumerate(texts)]
    top = [logs(each) for each in listed]
    if echo:
        own[0] = top[0] = None
    return {"choices": [{"logprobs": {"tokens": texts, "token_logprobs": own, "top_logprobs": top}}]}


def chat(texts, listed):
    """A chat completion, with tokens as bytes."""
    content = [
        {
            "token": escaped(text),
            "bytes": list(text),
            "logprob": math.log(0.6),
            "top_logprobs": [
                {"token": escaped(other), "bytes": list(other), "logprob": math.log(p)} for other, p in top.items()
            ],
        }
        for text, top in zip(texts, listed, strict=True)
    ]
    return {"choices": [{"logprobs": {"content": content}}]}


def prompted(ids, listed, names=None):
    """vLLM's prompt_logprobs; `listed` gives probabilities by id, `names` the ids' decoded tokens."""
    rows = [
        {
            str(i): {"logprob": math.log(p), "rank": 1, "decoded_token": names(i) if names else None}
            for i, p in row.items()
        }
        for row in listed
    ]
    rows[0] = None
    return {"choices": [{"prompt_logprobs": rows, "prompt_token_ids": ids}]}


def as_expected(found, student, positions):
    """Checks for 0.6, 0.2 and 0.1 on own token, yes and no, and the residual, at these positions only."""
    others = [student.id(" yes"), student.id(" no")]
    knowledge = found.knowledge
    assert positions
    assert knowledge.example_id == "e"
    assert knowledge.position.tolist() == positions
    assert knowledge.token_ids.tolist() == [[student.ids[at], *others] for at in positions]
    np.testing.assert_allclose(knowledge.probabilities, [[0.6, 0.2, 0.1]] * len(positions), atol=1e-12)
    np.testing.assert_allclose(knowledge.residual, 0.1, atol=1e-12)
    assert knowledge.log_normalisers.shape == (len(positions), 0)
    assert found.padded == 0


def reasons(found):
    return {(each.position, each.reason) for each in found.unmatched}


# -- every format, every kind of tokenizer -----------------------------------------------------------------------


def test_an_echoed_completion(student):
    """All positions but the end token's, which is not in the text."""
    texts = [escaped(text) for text in student.texts(student.ids[:-1])]
    found = student.match(completion(texts, tops(texts)))
    as_expected(found, student, student.positions[:-1])
    assert reasons(found) == {(student.positions[-1], Reason.MISSING)}


def test_an_echoed_completion_as_the_vocabulary_writes_it(student):
    """Some servers write tokens with Ġ, ▁ and <0x0A>."""
    texts = student.tokenizer.convert_ids_to_tokens(student.ids[:-1])
    others = student.tokenizer.convert_ids_to_tokens([student.id(" yes"), student.id(" no")])
    found = student.match(completion(texts, tops(texts, others)))
    as_expected(found, student, student.positions[:-1])


def test_the_token_after_an_echo_gives_the_end_position(student):
    """With max_tokens=1, the server gives the distribution over the token after the response, whatever it is."""
    texts = [*(escaped(text) for text in student.texts(student.ids[:-1])), "\n\n"]
    end = student.tokenizer.eos_token
    listed = [*tops(texts[:-1]), {end: 0.6, " yes": 0.2, " no": 0.1}]
    as_expected(student.match(completion(texts, listed)), student, student.positions)


def test_the_end_token_may_have_another_name(student):
    texts = [*(escaped(text) for text in student.texts(student.ids[:-1])), "<|im_end|>"]
    body = completion(texts, tops(texts))
    rules = Rules(3, ends=frozenset({"<|im_end|>"}))
    as_expected(student.match(body, rules), student, student.positions)
    found = student.match(body)  # without `ends`, 0.6 of the mass there is lost
    as_expected(found, student, student.positions[:-1])
    assert Unmatched("e", Reason.NO_TOKEN, student.positions[-1], "<|im_end|>", pytest.approx(0.6)) in found.unmatched
    assert (student.positions[-1], Reason.TOO_MUCH_LOST) in reasons(found)


def test_a_chat_with_the_right_response(student):
    """It begins without the space between prompt and response."""
    texts = student.texts(student.ids[student.start : -1])
    listed = tops(texts, (b" yes", b" no"))
    first = {text.removeprefix(b" "): p for text, p in listed[0].items()}
    found = student.match(chat([texts[0].removeprefix(b" "), *texts[1:]], [first, *listed[1:]]))
    as_expected(found, student, student.positions[:-1])


def test_a_chat_counts_up_to_its_first_difference(student):
    """The distribution there still has the right context; later ones do not."""
    wrong = next(i for i, text in enumerate(student.texts()) if i > student.start and text in (b"b", b"b)"))
    texts = student.texts(student.ids[student.start : -1])
    said = [text.replace(b"b", b"a") if student.start + i == wrong else text for i, text in enumerate(texts)]
    found = student.match(chat(said, tops(texts, (b" yes", b" no"))))
    as_expected(found, student, list(range(student.start, wrong + 1)))
    assert reasons(found) == {(at, Reason.CONTEXT) for at in student.positions if at > wrong}
    assert len(reasons(found)) >= 2


def test_prompt_logprobs_by_id(student):
    """With shared ids, every position matches, even the end token's."""
    others = {student.id(" yes"): 0.2, student.id(" no"): 0.1}
    body = prompted(student.ids, [{i: 0.6, **others} for i in student.ids], lambda i: student.tokenizer.decode([i]))
    as_expected(student.match(body, Rules(3, shared_ids=True)), student, student.positions)


def test_prompt_logprobs_count_up_to_the_first_other_id(student):
    other, rest = student.start + 1, student.positions[2:]
    ids = [3 if at == other else i for at, i in enumerate(student.ids)]
    others = {student.id(" yes"): 0.2, student.id(" no"): 0.1}
    body = prompted(ids, [{i: 0.6, **others} for i in ids])
    found = student.match(body, Rules(3, shared_ids=True))
    assert found.knowledge.position.tolist() == student.positions[:2]
    assert reasons(found) == {(at, Reason.CONTEXT) for at in rest}
    shorter = prompted(student.ids[:-2], [{i: 0.6, **others} for i in student.ids[:-2]])
    found = student.match(shorter, Rules(3, shared_ids=True))
    as_expected(found, student, student.positions[:-2])
    assert reasons(found) == {(at, Reason.MISSING) for at in student.positions[-2:]}


def test_prompt_logprobs_by_text(student):
    """Without shared ids: the teacher's ids are the student's plus 1000."""
    texts = dict(zip((i + 1000 for i in student.ids), map(escaped, student.texts()), strict=True)) | {
        1: " yes",
        2: " no",
    }
    ids = [i + 1000 for i in student.ids]
    found = student.match(prompted(ids, [{i: 0.6, 1: 0.2, 2: 0.1} for i in ids], texts.get))
    as_expected(found, student, student.positions)


def test_ids_wrongly_declared_as_shared_are_refused(student):
    body = prompted(student.ids, [{i: 0.6} for i in student.ids], lambda i: "other")
    with pytest.raises(UserError, match=r"file, line 1: token \d+ is .other. for the teacher and .*not shared"):
        student.match(body, Rules(1, shared_ids=True))


def test_an_id_beyond_the_vocabulary_is_reported(student):
    rows = [{i: 0.96, 10**6: 0.03} for i in student.ids]
    found = student.match(prompted(student.ids, rows), Rules(1, shared_ids=True))
    assert found.knowledge.probabilities.tolist() == [[pytest.approx(0.96)]] * len(student.positions)
    assert {each.reason for each in found.unmatched} == {Reason.OUTSIDE}
    assert found.lost == pytest.approx([0.03] * len(student.positions))


def by_id(student, ids, rules=None, names=None):
    """The match of a teacher that echoes these ids."""
    others = {student.id(" yes"): 0.2, student.id(" no"): 0.1}
    return student.match(prompted(ids, [{i: 0.6, **others} for i in ids], names), rules or Rules(3, shared_ids=True))


@pytest.mark.parametrize("teacher_begins", [False, True])
def test_one_side_may_lack_the_token_that_begins_every_text(teacher_begins):
    student = Student("sentence-piece")
    ids = student.ids if teacher_begins else student.ids[1:]
    if teacher_begins:
        student.example = Encoded("e", student.ids[1:], student.start - 1)
        student.start, student.ids = student.start - 1, student.ids[1:]
        student.positions = [at - 1 for at in student.positions]
    as_expected(by_id(student, ids), student, student.positions)
    shorter = by_id(student, ids[:-2])
    as_expected(shorter, student, student.positions[:-2])
    assert reasons(shorter) == {(at, Reason.MISSING) for at in student.positions[-2:]}
    other = by_id(student, [*ids[:-3], 3, *ids[-2:]])
    assert other.knowledge.position.tolist() == student.positions[:-2]
    assert reasons(other) == {(at, Reason.CONTEXT) for at in student.positions[-2:]}
    as_expected(by_id(student, ids, RULES), student, student.positions)  # found without being told


def test_generated_ids_count_up_to_the_first_other():
    student = Student("byte-level")
    others = {student.id(" yes"): 0.2, student.id(" no"): 0.1}

    def generated(ids):
        rows = prompted([0, *ids], [{}, *({i: 0.6, **others} for i in ids)])["choices"][0]["prompt_logprobs"][1:]
        return student.match({"outputs": [{"token_ids": ids, "logprobs": rows}]}, Rules(3, shared_ids=True))

    ids = student.ids[student.start :]
    as_expected(generated(ids), student, student.positions)
    as_expected(generated(ids[:2]), student, student.positions[:2])
    other = generated([ids[0], 3, *ids[2:]])
    assert other.knowledge.position.tolist() == student.positions[:2]
    assert reasons(other) == {(at, Reason.CONTEXT) for at in student.positions[2:]}
    as_expected(generated([*ids, 3, 3]), student, student.positions)


@pytest.mark.parametrize(("prompt", "found"), [(0, False), (1, False), (2, True), (3, True)])
def test_the_same_ids_over_a_prompt_of_two_tokens_show_that_ids_are_shared(prompt, found):
    student = Student("byte-level")
    kept = student.ids[student.start - prompt :]
    student.example = Encoded("e", kept, prompt)
    result = by_id(student, kept, RULES)
    assert (result.knowledge is not None) is found
    if not found:
        assert {each.reason for each in result.unmatched} == {Reason.ONLY_IDS}
    assert by_id(student, [3, *kept[1:]], RULES).knowledge is None


def test_ids_of_a_generated_text_do_not_show_that_ids_are_shared():
    student = Student("byte-level")
    rows = [{str(i): {"logprob": -0.1}} for i in student.ids]
    found = student.match({"outputs": [{"token_ids": student.ids, "logprobs": rows}]}, Rules(1))
    assert {each.reason for each in found.unmatched} == {Reason.ONLY_IDS}


@pytest.mark.parametrize("name", [" The", "The", "ĠThe", "▁The", "\ufffd", "", None])
def test_a_servers_spelling_of_an_id_may_differ_in_spaces_and_signs(name):
    student = Student("byte-level")
    names = {student.id(" The"): name}
    as_expected(by_id(student, student.ids, names=names.get), student, student.positions)


def test_ids_that_are_not_shared_are_told_with_both_texts():
    student = Student("byte-level")
    the = student.id(" The")
    with pytest.raises(UserError) as error:
        by_id(student, student.ids, names={the: "Then"}.get)
    assert str(error.value) == (
        f"file, line 1: token {the} is 'Then' for the teacher and ' The' for the student, so ids are not shared; "
        "import without --shared-ids"
    )
    part = student.tokenizer("😀").input_ids[0]
    with pytest.raises(UserError, match=f"token {part} is 'Then' for the teacher and '\ufffd' for the student"):
        student.match(prompted(student.ids, [{i: 0.5, part: 0.3} for i in student.ids], {part: "Then"}.get),
                      Rules(1, shared_ids=True))  # fmt: skip


def test_an_alternative_without_an_id_or_with_the_first_id_beyond_is_outside():
    student = Student("byte-level")
    the, last = student.ids[student.start], len(student.pieces.texts) - 1
    top = [
        alternative(" The", 0.9, id=the),
        alternative(" yes", 0.03),
        alternative(student.texts([last])[0].decode(), 0.02, id=last),
        alternative("x", 0.01, id=last + 1),
    ]
    body = {"choices": [{"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}]}
    found = student.match(body, Rules(2, shared_ids=True))
    assert found.knowledge.token_ids.tolist() == [[the, last]]
    assert [(each.token, each.reason) for each in found.unmatched[:2]] == [
        (" yes", Reason.OUTSIDE), ("x", Reason.OUTSIDE)
    ]  # fmt: skip


# -- teachers that split the text differently --------------------------------------------------------------------


def test_a_position_counts_if_both_split_the_text_there():
    """By hand: the student's The| answer| is| (|b|).| against the teacher's The| ans|wer is| (|b|).|"""
    student = Student("byte-level")
    texts = [PROMPT, " The", " ans", "wer is", " (", "b", ")."]
    found = student.match(completion(texts, tops(texts)))
    the, answer, is_, bracket, b, dot, end = student.positions
    as_expected(found, student, [the, bracket, b, dot])
    assert reasons(found) == {(answer, Reason.CUT), (is_, Reason.CUT), (end, Reason.MISSING)}


def test_a_teacher_s_longer_token_hides_positions_below_it():
    """The teacher's token " is (" begins with the student's " is", but gives no distribution for it."""
    student = Student("byte-level")
    texts = [PROMPT, " The", " answer", " is (", "b)", "."]
    found = student.match(completion(texts, tops(texts)))
    the, answer, is_, bracket, b, dot, end = student.positions
    as_expected(found, student, [the, answer])
    cut = {is_, bracket, b, dot}
    assert reasons(found) == {*((at, Reason.CUT) for at in cut), (end, Reason.MISSING)}


WORDS = (PROMPT + RESPONSE).encode()


def boundaries(student):
    """The byte offsets at which the student's tokens begin and end."""
    before = len(WORDS) - sum(map(len, student.texts(student.ids[student.start : -1])))
    return [before + int(n) for n in np.cumsum([0, *map(len, student.texts(student.ids[student.start : -1]))])]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(ALL)), st.data())
def test_only_equal_tokens_count_for_any_split(kind, data):
    """A position is imported if and only if the teacher has the same token at the same place."""
    student = Student(kind)
    own = boundaries(student)
    removed = data.draw(st.sets(st.sampled_from(own[:-1]), max_size=4))
    added = data.draw(st.sets(st.integers(1, len(WORDS) - 1), max_size=4))
    cuts = sorted((set(own[:-1]) - removed | added) - {0})
    spans = list(pairwise([0, *cuts, len(WORDS)]))
    texts = [escaped(WORDS[a:b]) for a, b in spans]
    found = student.match(completion(["<start>", *texts], [{}, *tops(texts)]))
    equal = [at for at, span in zip(student.positions, pairwise(own), strict=False) if span in set(spans)]
    imported = [] if found.knowledge is None else found.knowledge.position.tolist()
    assert imported == equal
    assert {each.position for each in found.unmatched if each.token is None} == set(student.positions) - set(equal)


PARTS = st.sampled_from(
    ["", " ", " The", "The", " answer", " is", " (", "(", "b", "b).", "<s>", "Ġis", "▁is", "\ufffd"]
)
TEXT = PARTS | st.sampled_from([PROMPT, RESPONSE, r"bytes:\xc3", "<|end|>", "</s>"]) | st.text(max_size=2)
ROWS = st.none() | st.dictionaries(TEXT, st.floats(-12, -3) | st.just(-9999.0), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(ALL)), st.lists(st.tuples(TEXT, ROWS), max_size=8), st.integers(1, 4), st.booleans())
def test_any_response_gives_valid_knowledge(kind, said, k, echo):
    """Tokens are distinct, valid and in order; masses sum to 1; each position is imported or has a reason."""
    student = Student(kind)
    texts, listed = [text for text, _ in said], [top for _, top in said]
    own = [None if echo and at == 0 else -5.0 for at in range(len(said))]
    body = {"choices": [{"logprobs": {"tokens": texts, "token_logprobs": own, "top_logprobs": listed}}]}
    found = student.match(body, Rules(k, min_alternatives=1, max_lost_mass=0.5))
    known = [] if found.knowledge is None else found.knowledge.position.tolist()
    refused = [each.position for each in found.unmatched if each.token is None]
    assert sorted(known + refused) == student.positions
    if found.knowledge is not None:
        ids, p = found.knowledge.token_ids, found.knowledge.probabilities
        assert ids.shape == p.shape == (len(known), k)
        assert all(
            len(set(row)) == k and min(row) >= 0 and max(row) < len(student.pieces.texts) for row in ids.tolist()
        )
        assert (p >= 0).all()
        assert (np.diff(p, axis=1) <= 0).all()
        np.testing.assert_allclose(p.sum(axis=1) + found.knowledge.residual, 1, atol=1e-12)


def test_a_student_with_another_tokenizer_learns_what_it_can():
    """A SentencePiece teacher and a byte-level student."""
    teacher, student = Student("sentence-piece"), Student("byte-level")
    texts = [escaped(text) for text in teacher.texts(teacher.ids[1:-1])]  # without <s>, with the leading space
    found = student.match(completion(["<s>", *texts], [{}, *tops(texts)]))
    the, _, is_, _, b, _, _ = student.positions
    as_expected(found, student, [the, is_, b])


# -- where the response begins -----------------------------------------------------------------------------------


def test_a_prompt_in_the_teacher_s_own_format():
    """The response is found by its own text if that occurs once."""
    student = Student("byte-level")
    texts = [
        "<|user|>",
        "Is a cat red?",
        "<|assistant|>",
        *map(escaped, student.texts(student.ids[student.start : -1])),
        "<|e|>",
    ]
    found = student.match(completion(texts, tops(texts)))
    assert found.knowledge.position.tolist() == student.positions[:-1]
    twice = ["<|user|>", "Is it 'The answer is (b).'", RESPONSE, "<|assistant|>", *texts[3:]]
    found = student.match(completion(twice, tops(twice)))
    assert found.knowledge is None
    assert reasons(found) == {(at, Reason.NOT_FOUND) for at in student.positions}


def test_examples_may_precede_the_prompt():
    """Even the same prompt with another answer: prompt and response are searched for together."""
    student = Student("byte-level")
    shot = f"{PROMPT} The answer is (a).\n\n"
    texts = [shot, *map(escaped, student.texts(student.ids[:-1]))]
    as_expected(student.match(completion(texts, tops(texts))), student, student.positions[:-1])


@pytest.mark.parametrize("kind", ALL)
def test_the_prompt_is_found_without_the_students_leading_tokens(kind):
    """No <s> and no leading space. The prompt contains the response too, so the response alone is ambiguous."""
    student = Student(kind, Example("e", f"{PROMPT}{RESPONSE}\n{PROMPT}", RESPONSE))
    first = 0 if student.pieces.begin is None else 1
    texts = student.texts(student.ids[first:-1])
    said = [escaped(text) for text in [texts[0].removeprefix(b" "), *texts[1:]] if text]
    as_expected(student.match(completion(said, tops(said))), student, student.positions[:-1])


def test_another_response_counts_up_to_its_first_difference():
    student = Student("byte-level")
    texts = [PROMPT, " The", " answer", " is", " (", "a", ")."]
    found = student.match(completion(texts, tops([*texts[:5], "b", texts[6]])))
    as_expected(found, student, student.positions[:5])
    assert (student.positions[5], Reason.CONTEXT) in reasons(found)


def test_empty_tokens_are_skipped_in_forced_text_but_not_in_free_text():
    """Servers write "" for parts of characters, and for special tokens, which change what follows."""
    student = Student("byte-level")
    texts = [PROMPT, " The", "", *map(escaped, student.texts(student.ids[student.start + 1 : -1]))]
    forced = student.match(completion(texts, tops(texts)))
    the, answer, *rest, _ = student.positions
    assert forced.knowledge.position.tolist() == [the, answer, *rest]
    free = student.match(completion(texts[1:], tops(texts[1:]), echo=False))
    assert free.knowledge.position.tolist() == [the]
    assert (rest[0], Reason.CONTEXT) in reasons(free)


def test_a_token_over_the_end_of_the_prompt_hides_the_first_position_only():
    student = Student("byte-level")
    texts = [PROMPT[:-1], PROMPT[-1] + " The", *map(escaped, student.texts(student.ids[student.start + 1 : -1]))]
    found = student.match(completion(texts, tops(texts)))
    as_expected(found, student, student.positions[1:-1])
    assert reasons(found) == {(student.positions[0], Reason.CUT), (student.positions[-1], Reason.MISSING)}


def test_the_prompt_that_the_response_follows_counts():
    """The teacher was shown an example first: the same prompt with another answer."""
    student = Student("byte-level")
    texts = [PROMPT, " No.\n", PROMPT, *map(escaped, student.texts(student.ids[student.start : -1]))]
    as_expected(student.match(completion(texts, tops(texts))), student, student.positions[:-1])


def test_a_prompt_that_another_text_follows_counts_up_to_the_difference():
    student = Student("byte-level")
    texts = [PROMPT, " The", " cat", " is"]
    found = student.match(completion(texts, tops(texts)))
    as_expected(replace_own(found, student, 1, " cat"), student, student.positions[:2])


def replace_own(found, student, row, text):
    """The teacher's own token at a row, checked and replaced by the student's."""
    assert found.knowledge.token_ids[row, 0] == student.id(text)
    found.knowledge.token_ids[row, 0] = student.ids[student.start + row]
    return found


@pytest.mark.parametrize(("copies", "found"), [(0, False), (1, True), (2, False)])
def test_in_another_prompt_only_a_single_copy_of_the_response_is_found(copies, found):
    student = Student("byte-level")
    said = list(map(escaped, student.texts(student.ids[student.start : -1])))
    texts = ["Another prompt.", *said * copies]
    result = student.match(completion(texts, tops(texts)))
    if found:
        as_expected(result, student, student.positions[:-1])
    else:
        assert {each.reason for each in result.unmatched} == {Reason.NOT_FOUND}


@pytest.mark.parametrize("kind", ["byte-level", "word-level"])
def test_a_prompt_that_differs_in_its_first_token_is_another_prompt(kind):
    student = Student(kind)
    first = 0 if student.pieces.begin is None else 1
    said = list(map(escaped, student.texts(student.ids[first:-1])))
    texts = ["X", *said[1:], *said[student.start - first :]]
    found = student.match(completion(texts, tops(texts)))
    assert {each.reason for each in found.unmatched} == {Reason.NOT_FOUND}


def test_of_two_equal_prompts_with_the_response_the_first_counts():
    student = Student("byte-level")
    said = [PROMPT, *map(escaped, student.texts(student.ids[student.start : -1]))]
    listed = [{text: p, " yes": 0.1} for p in (0.6, 0.5) for text in said]
    found = student.match(completion(said * 2, listed), Rules(2))
    assert found.knowledge.probabilities[:, 0] == pytest.approx(0.6)


def test_a_text_that_diverges_within_a_token_hides_that_position():
    student = Student("byte-level")
    texts = [PROMPT, " The", " ans", "x" * 30]
    found = student.match(completion(texts, tops(texts)))
    the, answer, *rest = student.positions
    as_expected(found, student, [the])
    assert reasons(found) == {(answer, Reason.CUT), *((at, Reason.CONTEXT) for at in rest)}


def test_a_last_token_over_several_positions_hides_them():
    student = Student("byte-level")
    texts = [PROMPT, " The", " answer is (b)."]
    found = student.match(completion(texts, tops(texts)))
    the, *hidden, end = student.positions
    as_expected(found, student, [the])
    assert reasons(found) == {*((at, Reason.CUT) for at in hidden), (end, Reason.MISSING)}


def test_an_empty_answer_ends_before_every_position(student):
    found = student.match({"choices": [{"message": {}, "logprobs": {"content": None}}]})
    assert reasons(found) == {(at, Reason.MISSING) for at in student.positions}


def test_a_text_without_a_prompt_may_diverge_at_once():
    student = Student("byte-level")
    student.example = Encoded("e", student.ids[student.start :], 0)
    found = student.match(free([" yes", " no"]), Rules(2))
    assert found.knowledge.position.tolist() == [0]


def test_a_response_without_a_leading_space_lacks_none():
    student = Student("byte-level")
    student.ids = [*student.ids[: student.start], *student.tokenizer("(b).").input_ids, student.pieces.end]
    student.example = Encoded("e", student.ids, student.start)
    student.positions = list(range(student.start, len(student.ids)))
    said = student.texts(student.ids[student.start : -1])
    found = student.match(chat(said, tops(said, (b" yes", b" no"))))
    as_expected(found, student, student.positions[:-1])


def test_the_middle_between_prompt_and_response_counts_as_after_the_prompt():
    student = Student("byte-level", Example("e", PROMPT, " yes"))
    at = len(PROMPT) + 2
    for offset, ignored in ((at, False), (at + 1, True)):
        found = student.match(free([" no", " is"], logprobs={"text_offset": [offset, 0]}))
        assert ({each.reason for each in found.unmatched} == {Reason.ECHO_IGNORED}) is ignored


def test_the_last_token_of_an_example_without_an_end_may_be_cut():
    student = Student("byte-level")
    texts = [*map(escaped, student.texts(student.ids[:-2])), ")", "."]
    student.example = Encoded("e", student.ids[:-1], student.start)
    found = student.match(completion(texts, tops(texts)))
    as_expected(found, student, student.positions[:-2])
    assert reasons(found) == {(student.positions[-2], Reason.CUT)}


def test_an_example_without_an_end_token_is_matched_to_its_last_token(student):
    texts = [escaped(text) for text in student.texts(student.ids[:-1])]
    student.example = Encoded("e", student.ids[:-1], student.start)
    as_expected(student.match(completion(texts, tops(texts))), student, student.positions[:-1])


def test_the_students_own_token_counts_where_two_have_the_same_text():
    student = Student("sentence-piece")
    letter, byte = student.tokenizer.convert_tokens_to_ids(["b", "<0x62>"])
    at = student.ids.index(letter, student.start)
    student.ids = [*student.ids[:at], byte, *student.ids[at + 1 :]]
    student.example = Encoded("e", student.ids, student.start)
    texts = [escaped(text) for text in student.texts(student.ids[:-1])]
    as_expected(student.match(completion(texts, tops(texts))), student, student.positions[:-1])


def test_a_teacher_that_ends_at_once_tells_the_first_position():
    """The missing space belongs to words, not to the end token, and to the first position only."""
    student = Student("byte-level")
    end = student.tokenizer.eos_token
    for name, rules in ((end, RULES), ("<|eot|>", Rules(3, ends=frozenset({"<|eot|>"})))):
        top = [alternative(name, 0.6), alternative("yes", 0.2), alternative("no", 0.1)]
        body = {"choices": [{"logprobs": {"content": [{"token": name, "logprob": -0.5, "top_logprobs": top}]}}]}
        found = student.match(body, rules)
        assert found.knowledge.position.tolist() == [student.start]
        assert found.knowledge.token_ids.tolist() == [[student.pieces.end, student.id(" yes"), student.id(" no")]]


def test_the_space_that_a_chat_lacks_is_missing_at_the_first_position_only():
    student = Student("byte-level")
    said = [("The", "yes"), (" answer", "yes")]
    content = [{**alternative(own, 0.6), "top_logprobs": [alternative(own, 0.6), alternative(other, 0.04)]}
               for own, other in said]  # fmt: skip
    found = student.match({"choices": [{"logprobs": {"content": content}}]}, Rules(2, 1))
    the, answer, *_ = student.positions
    assert found.knowledge.position.tolist() == [the, answer]
    assert found.knowledge.token_ids[:, 0].tolist() == [student.id(" The"), student.id(" answer")]
    assert found.knowledge.token_ids[0, 1] == student.id(" yes")
    assert student.id(" yes") != found.knowledge.token_ids[1, 1]


@pytest.mark.parametrize(
    ("said", "lost"),
    [(["The"], False), (["The", "cat"], False), (["The", "a"], True), (["The", "answer", "is"], True),
     (["The", "answer", " is"], False)],
)  # fmt: skip
def test_spaces_are_lost_if_a_text_continues_beyond_the_first_word_without_any(said, lost):
    student = Student("byte-level")
    content = [{**alternative(text, 0.9), "top_logprobs": [alternative(text, 0.9)]} for text in said]
    found = student.match({"choices": [{"logprobs": {"content": content}}]}, Rules(1, max_lost_mass=1))
    assert ({each.reason for each in found.unmatched} == {Reason.SPACES_LOST}) is lost
    assert (found.aligned == 0) is lost


def test_a_response_of_one_word_has_no_spaces_to_lose():
    student = Student("byte-level", Example("e", PROMPT, " answer"))
    content = [{**alternative(text, 0.9), "top_logprobs": [alternative(text, 0.9)]} for text in ("an", "swer", "s")]
    assert student.match({"choices": [{"logprobs": {"content": content}}]}, Rules(1)).aligned == 1


def free(texts, **more):
    """A completion that tells its first token's log-probability, as those without `echo` do."""
    choice = {"text": "x", "logprobs": {**completion(texts, tops(texts), echo=False)["choices"][0]["logprobs"]}}
    choice["logprobs"].update(more.pop("logprobs", {}))
    return {"choices": [choice], **more}


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        (free([" yes"]), True),
        (free([" yes", " no"]), False),
        (free([" The"]), False),
        (free(["The"]), False),
        (free([""]), True),
        (free([" Th"]), False),
        (free([]), False),
        (free([" yes", " no"], usage={"prompt_tokens": 25}), True),
        (free([" yes"], usage={"prompt_tokens": 24}), False),
        (free([" The"], usage={"prompt_tokens": 25}), False),
        (free([" yes"], usage={"prompt_tokens": 0}), True),
        (free([" yes"], logprobs={"text_offset": [len(PROMPT)]}), False),
        (free([" The"], logprobs={"text_offset": [len(PROMPT + RESPONSE)]}), True),
        (free([" The"], logprobs={"text_offset": [len(PROMPT + RESPONSE) - 9]}), True),
        (free([" yes", " no"], logprobs={"text_offset": [len(PROMPT) + 9, 0]}), False),
        (free([" yes"], logprobs={"text_offset": [0]}), True),
    ],
)
def test_a_server_that_ignored_echo_is_told_by_where_its_text_stands(body, ignored):
    """By its offset, else its text, else the tokens that it has read (21 are the prompt's), else its length."""
    student = Student("byte-level")
    assert (student.start, len(student.ids)) == (21, 28)
    found = student.match(body)
    assert ({each.reason for each in found.unmatched} == {Reason.ECHO_IGNORED}) is ignored


def test_a_chat_is_never_taken_for_a_completion_that_ignored_echo():
    student = Student("byte-level")
    content = [{**alternative(" yes", 0.6), "top_logprobs": [alternative(" yes", 0.6)]}]
    assert student.match({"choices": [{"message": {}, "logprobs": {"content": content}}]}, Rules(1)).aligned == 1


def test_a_completion_of_nothing_may_lack_the_leading_space():
    student = Student("byte-level")
    student.example = Encoded("e", student.ids[student.start :], 0)
    texts = ["The", *map(escaped, student.texts(student.ids[student.start + 1 : -1]))]
    found = student.match(free(texts))
    assert found.aligned == len(texts)
    assert found.knowledge.position.tolist() == list(range(1, len(texts)))  # " yes" lacks nothing at the first


@pytest.mark.parametrize("kind", ALL)
def test_a_completion_that_holds_its_prompt_is_an_echo_with_or_without_the_leading_space(kind):
    student = Student(kind)
    first = 0 if student.pieces.begin is None else 1
    texts = student.texts(student.ids[first:-1])
    said = [escaped(text) for text in [texts[0].removeprefix(b" "), *texts[1:]] if text]
    as_expected(student.match(free(said)), student, student.positions[:-1])


def test_a_response_may_begin_within_a_character():
    student = Student("byte-level", Example("e", "Q: 😀", " yes"))
    student.example = Encoded("e", student.ids, student.start - 1)
    for offset in (4, 9):
        student.match(free([" no"], logprobs={"text_offset": [offset]}))


# -- alternatives ------------------------------------------------------------------------------------------------


def at_first(student, top, rules=RULES):
    """The match of one position's alternatives in a chat."""
    text = student.texts()[student.start].decode()
    body = {"choices": [{"logprobs": {"content": [{"token": text, "logprob": -1.0, "top_logprobs": top}]}}]}
    return student.match(body, rules)


def alternative(text, p, **more):
    return {"token": text, "logprob": math.log(p), **more}


def test_an_alternative_without_a_token_is_reported_and_its_mass_is_residual(student):
    found = at_first(
        student, [alternative(" yes", 0.9), alternative(" maybe", 0.04), alternative(" no", 0.02)], Rules(2)
    )
    assert found.knowledge.token_ids.tolist() == [[student.id(" yes"), student.id(" no")]]
    assert found.knowledge.residual == pytest.approx([1 - 0.92])
    assert found.unmatched[0] == Unmatched("e", Reason.NO_TOKEN, student.start, " maybe", pytest.approx(0.04))
    assert found.lost == pytest.approx((0.04,))


def test_a_leading_space_makes_another_token(student):
    """The response's leading space does not apply to alternatives: "yes" is not " yes"."""
    found = at_first(student, [alternative(" yes", 0.9), alternative("yes", 0.04)], Rules(1))
    assert found.knowledge.token_ids[0, 0] == student.id(" yes")
    if b"yes" not in student.pieces.ids:
        assert found.unmatched[0].token == "yes"


def test_the_second_alternative_for_the_same_token_is_reported():
    student = Student("byte-level")
    top = [alternative(" yes", 0.9), alternative("?", 0.04, bytes=list(b" yes"))]
    found = at_first(student, top, Rules(1))
    assert found.knowledge.probabilities.tolist() == [[pytest.approx(0.9)]]
    assert found.unmatched[0] == Unmatched("e", Reason.REPEATED, student.start, "?", pytest.approx(0.04))


def test_a_part_of_a_character_needs_its_bytes():
    """Servers without bytes write U+FFFD, which is itself a character."""
    student = Student("byte-level")
    part = student.tokenizer("😀").input_ids[0]
    said = [alternative(" yes", 0.9), alternative("\ufffd", 0.04)]
    for raw in ({}, {"bytes": []}, {"bytes": list("\ufffd".encode())}):
        found = at_first(student, [said[0], {**said[1], **raw}], Rules(1))
        assert found.unmatched[0].reason == Reason.PARTIAL
    found = at_first(student, [said[0], {**said[1], "bytes": list("😀".encode()[1:3])}], Rules(1))
    assert found.unmatched[0].reason == Reason.NO_TOKEN
    found = at_first(student, [said[0], {**said[1], "bytes": list(student.pieces.texts[part])}], Rules(2))
    assert found.knowledge.token_ids.tolist() == [[student.id(" yes"), part]]


def test_too_much_mass_lost(student):
    top = [alternative(" yes", 0.5), alternative(" no", 0.3), alternative(" maybe", 0.06)]
    found = at_first(student, top, Rules(2))
    assert found.knowledge is None
    assert (student.start, Reason.TOO_MUCH_LOST) in reasons(found)
    assert at_first(student, top, Rules(2, max_lost_mass=0.07)).knowledge is not None


def test_as_much_mass_as_allowed_may_be_lost(student):
    top = [alternative(" yes", 0.5), alternative(" maybe", 0.25)]
    lost = math.exp(math.log(0.25))
    assert at_first(student, top, Rules(1, max_lost_mass=lost)).knowledge is not None
    assert at_first(student, top, Rules(1, max_lost_mass=lost - 1e-9)).knowledge is None


def test_the_reading_that_loses_least_wins():
    """Taken literally, the alternative is no token; in a byte-level vocabulary it is " yes"."""
    student = Student("byte-level")
    found = at_first(student, [alternative(" The", 0.9), alternative("Ġyes", 0.04)], Rules(2, 1))
    assert found.knowledge.token_ids.tolist() == [[student.id(" The"), student.id(" yes")]]
    assert at_first(student, [alternative(" The", 0.9), alternative("Ġyes", 0.04)], Rules(1)).lost == (0,)


def test_the_reading_that_finds_places_is_reported_if_none_is_imported():
    student = Student("byte-level")
    texts = student.tokenizer.convert_ids_to_tokens(student.ids[:-1])
    found = student.match(completion(texts, [{text: 0.9} for text in texts]))
    assert (found.knowledge, found.aligned) == (None, len(student.positions) - 1)
    assert reasons(found) == {
        *((at, Reason.TOO_FEW) for at in student.positions[:-1]), (student.positions[-1], Reason.MISSING)
    }  # fmt: skip


def test_too_few_alternatives(student):
    found = at_first(student, [alternative(" yes", 0.9), alternative(" no", 0.05)], Rules(3))
    assert found.knowledge is None
    assert (student.start, Reason.TOO_FEW) in reasons(found)


def test_no_alternatives(student):
    found = at_first(student, None)
    assert (student.start, Reason.NO_ALTERNATIVES) in reasons(found)
    assert found.knowledge is None


def test_an_impossible_token_is_not_an_alternative(student):
    top = [alternative(" yes", 0.9), {"token": " no", "logprob": -9999.0}, {"token": " maybe", "logprob": -9999.0}]
    found = at_first(student, top, Rules(2))
    assert reasons(found) >= {(student.start, Reason.RULED_OUT)}
    assert all(each.token is None for each in found.unmatched)


def test_the_most_probable_k_are_kept_in_order(student):
    found = at_first(student, [alternative(" no", 0.2), alternative(" is", 0.1), alternative(" yes", 0.6)], Rules(2))
    assert found.knowledge.token_ids.tolist() == [[student.id(" yes"), student.id(" no")]]
    assert found.knowledge.residual == pytest.approx([0.2])


def test_rounded_logarithms_may_sum_to_a_little_more(student):
    found = at_first(student, [alternative(" yes", 0.9), alternative(" no", 0.1005)], Rules(2))
    assert found.knowledge.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert found.knowledge.residual.tolist() == [pytest.approx(0, abs=1e-12)]


def test_padding_is_the_lowest_unused_ids_with_no_mass():
    student = Student("word-level")
    found = at_first(student, [alternative("<s>", 0.9), alternative(" no", 0.05)], Rules(4, min_alternatives=2))
    assert student.id("<s>") == 1
    assert found.knowledge.token_ids.tolist() == [[1, student.id(" no"), 0, 2]]
    assert found.knowledge.probabilities.tolist() == [[pytest.approx(0.9), pytest.approx(0.05), 0, 0]]
    assert found.padded == 1


def test_padding_is_well_defined_for_the_loss_and_for_maps_that_leave_it_alone():
    """The loss equals that of the two real tokens; among the maps, Eq. 4 and label smoothing give mass to padding."""
    student = Student("word-level")
    found = at_first(
        student, [alternative(" yes", 0.6), alternative(" no", 0.4)], Rules(4, min_alternatives=2)
    ).knowledge
    hidden = torch.randn(1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    head = torch.randn(len(student.pieces.texts), 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids, targets = torch.from_numpy(found.token_ids), torch.from_numpy(found.probabilities)
    for tail in ("drop", "renormalise", "ghost", "smooth"):
        whole = top_k_kl(hidden, head, ids, targets, tail=tail)
        assert whole.item() == pytest.approx(top_k_kl(hidden, head, ids[:, :2], targets[:, :2], tail=tail).item())
    direct, power, eq_4, smoothed = (
        recalibration.recalibrate(found.probabilities, kind, c)[:, 2:].max()
        for kind, c in (("none", 0), ("logit-temperature", 2.0), ("temperature", 0.3), ("label-smoothing", 0.1))
    )
    assert (direct, power) == (pytest.approx(1e-6, rel=1e-3), 0)
    assert min(eq_4, smoothed) > 0.03


# -- whole files -------------------------------------------------------------------------------------------------

TWO = Rules(2)
ORIGIN = Origin(teacher="teacher", tokenizer="tokenizer", data="data", k=2)


def write(file, *contents):
    file.write_text("".join(json.dumps(each) + "\n" for each in contents))
    return file


def answer(name, top=(" yes", " no")):
    """A line of a batch: a chat that begins correctly and gives log-probabilities at that position only."""
    listed = [alternative(each, p) for each, p in zip(top, (0.7, 0.2), strict=True)]
    content = [{**alternative(" The", 0.7), "top_logprobs": listed}]
    body = {"model": "m", "choices": [{"logprobs": {"content": content}}]}
    return {"custom_id": name, "response": {"status_code": 200, "body": body}}


@pytest.fixture
def examples():
    return [encode(word_level(), Example(name, PROMPT, RESPONSE)) for name in ("a", "b", "c")]


@pytest.fixture
def bring(tmp_path, examples):
    """Imports the given lines, and returns the store, the report and the unmatched."""

    def imported(*contents, rules=TWO, origin=ORIGIN, vocabulary=None, candidates=None):
        folder = tmp_path / "store"
        folder.mkdir()
        file = write(tmp_path / "answers.jsonl", *contents)
        report = import_logprobs(file, folder, examples, word_level(), origin, rules, vocabulary, candidates)
        return KnowledgeStore(folder, origin), report, [json.loads(line) for line in (folder / UNMATCHED).open()]

    return imported


def test_a_store_is_written_with_its_report(bring, tmp_path, examples):
    failed = {"custom_id": "b", "response": {"status_code": 500, "body": None}}
    store, report, unmatched = bring(
        answer("c"), failed, answer("a", top=(" yes", " maybe")), answer("z"), rules=Rules(2, 1, 0.3)
    )
    first = examples[0].start
    yes, no = (word_level().convert_tokens_to_ids(word) for word in (" yes", " no"))
    assert sorted(item.example_id for item in store) == ["a", "c"]
    assert store["c"].position.tolist() == [first]
    assert store["c"].token_ids.tolist() == [[yes, no]]
    np.testing.assert_allclose(store["c"].probabilities, [[0.7, 0.2]], rtol=1e-3)
    np.testing.assert_allclose(store["c"].residual, [0.1], rtol=1e-3)
    np.testing.assert_allclose(store["a"].probabilities, [[0.7, 0]], rtol=1e-3)
    assert (report.examples, report.answered, report.positions, report.imported, report.padded) == (3, 2, 21, 2, 1)
    assert report.lost == pytest.approx(0.1)
    assert report.models == {"m": 3}
    assert report.unmatched == {
        Reason.MISSING: 12, Reason.NO_TOKEN: 1, Reason.UNKNOWN_EXAMPLE: 1, Reason.FAILED: 1,
    }  # fmt: skip
    assert len(unmatched) == 15
    assert {
        "example_id": "b",
        "reason": "the request failed",
        "position": None,
        "token": "status 500",
        "probability": None,
    } in unmatched
    assert {
        "example_id": "z",
        "reason": "no example has this id",
        "position": None,
        "token": None,
        "probability": None,
    } in unmatched
    assert json.loads((tmp_path / "store" / REPORT).read_text())["imported"] == 2
    assert str(report).startswith("2 of 21 positions imported, from 2 of 3 examples; 10.00% of their mass")


TOLD = Report(
    3, 2, 21, 2, 1, 0.1, {Reason.MISSING.value: 12, Reason.NO_TOKEN.value: 3, Reason.TOO_FEW.value: 2,
                          Reason.NO_LOGPROBS.value: 1}, {"m": 3}, ("b",), 4,
)  # fmt: skip
COUNTS = "2 of 21 positions imported, from 2 of 3 examples; 10.00% of their mass is unmatched. Not imported: "
REASONS = [
    "12 x the teacher's text ends earlier",
    "3 x no student token has this text",
    "2 x too few matched alternatives",
]
MORE = "too few matched alternatives: ask for more alternatives than k, or import and run with a lower k"


def test_a_report_tells_the_counts_the_remedies_and_what_is_left_out():
    assert str(TOLD) == ". ".join([
        COUNTS + "; ".join([*REASONS, "1 x the response has no log-probabilities"]), MORE,
        "the response has no log-probabilities: ask with logprobs, of a provider that gives them",
        "4 answers in another spelling were counted for their candidate",
        "Warning: less than 50% of the positions are imported",
        "1 questions have no answer and will be left out",
    ])  # fmt: skip


def test_an_error_tells_three_reasons_and_one_remark():
    assert TOLD.brief() == f"{COUNTS}{'; '.join(REASONS)}. {MORE}"
    few = replace(TOLD, imported=0, unmatched={Reason.MISSING.value: 21})
    assert few.brief().endswith("Not imported: 21 x the teacher's text ends earlier")


@pytest.mark.parametrize(("imported", "warned"), [(0, False), (1, True), (10, True), (11, False), (21, False)])
def test_less_than_half_of_the_positions_is_worth_a_warning(imported, warned):
    plain = replace(TOLD, imported=imported, unmatched={}, unanswered=(), respelled=0)
    assert [remark.startswith("Warning") for remark in plain.remarks()] == [True] * warned
    assert str(plain).startswith(f"{imported} of 21 positions imported, ")
    assert "Not imported: nothing" in str(plain)
    assert replace(plain, imported=5, positions=10).remarks() == []


def test_a_report_counts_models_lost_mass_and_spellings(bring):
    unnamed = answer("b", top=(" yes", " maybe"))
    del unnamed["response"]["body"]["model"]
    _, report, _ = bring(answer("a"), unnamed, rules=Rules(2, 1, 0.3))
    assert (report.models, report.lost, report.respelled) == ({"m": 1}, pytest.approx(0.1), 0)
    assert list(report.unmatched) == [Reason.MISSING, Reason.NO_TOKEN, Reason.NO_RESPONSE]  # the commonest first


def test_questions_without_an_imported_answer_are_named_in_order(bring, tmp_path, examples):
    (yes, no), start = (word_level().convert_tokens_to_ids([" yes", " no"])), examples[0].start
    here, later = (Candidates(at, (yes, no), ("yes", "no")) for at in (start, start + 1))
    said = {"a": here, "b": later, "c": here}
    _, report, _ = bring(answer("a"), answer("b"), candidates={name: said[name] for name in "cba"})
    assert report.unanswered == ("b", "c")
    assert unanswered(tmp_path / "store") == ("b", "c")
    assert report.answered == 2


def test_two_silent_answers_are_refused_with_what_the_first_says(bring, examples, tmp_path):
    candidates = dict.fromkeys("abc", Candidates(examples[0].start, (0, 1), ("x", "z")))
    said = {"a": answer("a", top=(" yes" * 20, " no")), "b": answer("b")}
    with pytest.raises(UserError) as error:
        bring(*said.values(), candidates=candidates)
    assert str(error.value) == (
        f"{tmp_path / 'answers.jsonl'}: 2 answers give their candidates next to no mass, more than 1%; at the answer "
        f"of example 'a' the teacher says {(' yes' * 20)[:40]!r}: ask it to answer in the prompt's words, or with the "
        "response in the request (`echo`, `prompt_logprobs`)"
    )


def test_one_silent_answer_among_others_is_left_out(bring, examples):
    (yes, no), start = (word_level().convert_tokens_to_ids([" yes", " no"])), examples[0].start
    candidates = {"a": Candidates(start, (0, 1), ("x", "z")), "b": Candidates(start, (yes, no), ("yes", "no"))}
    examples[:] = [Encoded(each.id, each.token_ids[: start + 1], start) for each in examples]
    _, report, _ = bring(answer("a"), answer("b"), candidates=candidates)
    assert (report.answered, report.unanswered, report.imported) == (1, ("a",), 1)
    assert report.unmatched == {Reason.NOT_AN_ANSWER: 1, Reason.NO_RESPONSE: 1}


def test_answers_in_another_spelling_are_counted(bring, examples):
    candidates = dict.fromkeys("ab", Candidates(examples[0].start, (0, 1), ("yes", "no")))
    _, report, _ = bring(answer("a"), answer("b", top=(" maybe", " no")), answer("c"), candidates=candidates,
                         rules=Rules(2, 1, 1.0))  # fmt: skip
    assert (report.respelled, report.imported) == (2, 3)


def test_the_mass_of_one_position_is_its_own(bring):
    _, report, _ = bring(answer("a", top=(" yes", " maybe")), rules=Rules(2, 1, 0.3))
    assert (report.imported, report.lost) == (1, pytest.approx(0.2))


def test_progress_counts_responses(bring, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "progress"))
    bring(answer("a"), answer("b"), answer("c"))
    assert json.loads((tmp_path / "progress").read_text()) == {"label": "importing", "done": 3, "total": 3}


@pytest.mark.parametrize("kept", ["", "{", "[]", "3", "{}", '{"unanswered": []}'])
def test_a_folder_without_a_report_names_no_question(tmp_path, kept):
    assert unanswered(tmp_path) == ()
    (tmp_path / REPORT).write_text(kept)
    assert unanswered(tmp_path) == ()


def test_an_imported_store_opens_for_the_teacher_it_came_from_and_any_other(bring, tmp_path):
    bring(answer("a"))
    for teacher in ("teacher", "another"):
        assert len(open_imported(tmp_path / "store", replace(ORIGIN, teacher=teacher))) == 1


@pytest.mark.parametrize(
    ("name", "has", "wants"),
    [("tokenizer", "tokenizer", "x"), ("data", "data", "x"), ("k", 2, 3), ("format", None, 99)],
)
def test_an_imported_store_is_refused_for_another_run(bring, tmp_path, name, has, wants):
    bring(answer("a"))
    has = ORIGIN.format if has is None else has
    with pytest.raises(
        UserError, match=rf"store: its {name} is {has}, expected {wants}; remove it and import the resp"
    ):
        open_imported(tmp_path / "store", replace(ORIGIN, **{name: wants}))


def test_padded_positions_are_refused_and_a_missing_or_damaged_store_explained(bring, tmp_path):
    folder = tmp_path / "store"
    with pytest.raises(UserError, match=rf"knowledge\.imported: there is no {folder}; write it with `first im"):
        open_imported(folder, ORIGIN)
    bring(answer("a", top=(" yes", " maybe")), rules=Rules(2, 1, 0.3))
    with pytest.raises(UserError, match=r"store: 1 positions have fewer than 2 alternatives; import with a smaller"):
        open_imported(folder, ORIGIN)
    for damage, reason in (
        ("{}", "'padded'"),
        ("[]", "list indices must be integers or slices, not str"),
        ("", "Expecting"),
    ):
        (folder / REPORT).write_text(damage)
        with pytest.raises(
            UserError, match=rf"store: is damaged \({reason}.*\); remove it and import the resp"
        ) as error:
            open_imported(folder, ORIGIN)
        assert "\n" not in str(error.value)


def test_an_example_without_a_response_is_reported(bring):
    _, _, unmatched = bring(answer("a"))
    assert [each["example_id"] for each in unmatched if each["reason"] == Reason.NO_RESPONSE] == ["b", "c"]


def test_a_failed_request_may_be_repeated(bring):
    failed = {"custom_id": "a", "response": None, "error": {"code": "batch_expired"}}
    store, report, _ = bring(failed, answer("a"), failed)
    assert len(store) == 1
    assert Reason.FAILED not in report.unmatched


@pytest.mark.parametrize(
    ("contents", "rules", "complaint"),
    [
        ([answer("a"), answer("a")], Rules(2), r"answers\.jsonl, line 2: a second response to example 'a'"),
        ([answer("z")], Rules(2), r"answers\.jsonl: nothing can be imported. 0 of 21 .* 1 x no example has this id"),
        ([], Rules(2), "nothing can be imported. .* 3 x no response"),
        ([answer("a")], Rules(0), "k: must be from 1 to the 37 tokens of the student's vocabulary, not 0"),
        ([answer("a")], Rules(38), "k: must be from 1 to the 37"),
        ([answer("a")], Rules(2, min_alternatives=3), "min_alternatives: must be from 1 to k = 2, not 3"),
        ([answer("a")], Rules(2, min_alternatives=0), "min_alternatives: must be from 1 to k = 2, not 0"),
        ([answer("a")], Rules(2, max_lost_mass=2.0), "max_lost_mass: must be from 0 to 1, not 2"),
        ([answer("a")], Rules(2, max_lost_mass=-0.1), "max_lost_mass: must be from 0 to 1, not -0.1"),
    ],
)
def test_bad_responses_and_rules_are_refused(bring, contents, rules, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        bring(*contents, rules=rules)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rules", [Rules(2, 2, 0), Rules(2, 1, 1), Rules(1), Rules(37, 1)])
def test_rules_may_be_at_their_limits(bring, rules):
    _, report, _ = bring(answer("a"), rules=rules, origin=replace(ORIGIN, k=rules.k))
    assert report.imported == 1


def test_the_rules_keep_as_many_as_the_origin_says(bring):
    with pytest.raises(ValueError, match="the origin's k is 2, but the rules keep 1"):
        bring(answer("a"), rules=Rules(1))


def test_tokens_beyond_the_vocabulary_are_none(bring):
    yes = word_level().convert_tokens_to_ids(" yes")
    with pytest.raises(UserError, match=f"k: must be from 1 to the {yes} tokens of the student's vocabulary, not 38"):
        bring(answer("a"), rules=Rules(38), vocabulary=yes)


def test_log_normalisers_cannot_be_imported(bring):
    with pytest.raises(UserError, match=r"knowledge\.temperatures"):
        bring(answer("a"), origin=Origin("t", "t", "d", 2, temperatures=(1.0,)))


def test_responses_are_read_one_at_a_time(examples):
    """Nothing is read ahead, so memory does not grow with the file."""
    taken = []

    def responses():
        for name in ("a", "b", "c"):
            taken.append(name)
            yield read_response(json.dumps(answer(name)).encode(), "file")

    found = match_all(responses(), examples, pieces_of(word_level()), Rules(2))
    assert next(found).knowledge.example_id == "a"
    assert taken == ["a"]


# -- against the extraction of a model ---------------------------------------------------------------------------


def test_imported_knowledge_equals_extraction(base_folder, world):
    """A model's own distributions, written in three servers' formats and read again."""
    spec = loading.Model(base=str(base_folder))
    model, tokenizer = loading.load_base(spec).eval(), loading.load_tokenizer(spec)
    example = encode(tokenizer, microworld.ask(world, "csqa", "train", 1, 0)[0].example())
    with torch.no_grad():
        dense = model(input_ids=torch.tensor([example.token_ids])).logits[0].double().softmax(-1)
    [expected] = extract_top_k(model, [example], 5)
    pieces = pieces_of(tokenizer)
    top = dense.topk(8)
    rows = [{}, *(dict(zip(i.tolist(), p.tolist(), strict=True)) for i, p in zip(top.indices, top.values, strict=True))]
    texts = [pieces.texts[i].decode() for i in example.token_ids]
    listed = [{pieces.texts[i].decode(): p for i, p in row.items()} for row in rows]
    answered = [text.encode() for text in texts[example.start :]]
    there = [{text.encode(): p for text, p in row.items()} for row in listed[example.start : len(texts)]]
    by_id = [row | {i: row.get(i, 1e-9)} for i, row in zip(example.token_ids, rows, strict=False)]
    body = {"id": example.id}
    for content in (
        completion(texts, listed[: len(texts)]),
        chat(answered, there),
        prompted(example.token_ids, by_id),
    ):
        response = read_response(json.dumps(body | content).encode(), "file, line 1")
        found = match_response(response, example, pieces, Rules(5, shared_ids=True)).knowledge
        assert found.position.tolist() == expected.position.tolist()
        assert found.token_ids.tolist() == expected.token_ids.tolist()
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-4)
        np.testing.assert_allclose(found.residual, expected.residual, atol=1e-5)
