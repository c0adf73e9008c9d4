"""The formats of servers, forms of files, and answers that would be silently wrong if they were taken as they look."""

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import PROMPT, RESPONSE, byte_level, sentence_piece
from test_responses import ANYTHING, changed, places

from firstlib.knowledge import KnowledgeStore, Origin
from firstlib.knowledge.servers.alignment import Reason
from firstlib.knowledge.servers.candidates import Candidates, too_many
from firstlib.knowledge.servers.formats import FORMATS, format_of
from firstlib.knowledge.servers.logprobs import UNMATCHED, import_logprobs, unanswered
from firstlib.knowledge.servers.matching import Rules, Unmatched, match_response
from firstlib.knowledge.servers.responses import NO_LOGPROBS, read_response, read_responses
from firstlib.knowledge.servers.spelling import pieces_of
from firstlib.knowledge.servers.streams import Streams, is_piece
from firstlib.knowledge.servers.tokens import Token
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import PROJECT
from firstlib.tasks.encoding import encode
from firstlib.tasks.question import Example

TOKENIZER = byte_level()
PIECES = pieces_of(TOKENIZER)
EXAMPLE = encode(TOKENIZER, Example("e", PROMPT, RESPONSE))
TEXTS = [PIECES.texts[i].decode("utf-8", "replace") for i in EXAMPLE.token_ids]
SAID, IDS = TEXTS[EXAMPLE.start :], EXAMPLE.token_ids[EXAMPLE.start :]
YES, NO = PIECES.ids[b" yes"], PIECES.ids[b" no"]
RULES = Rules(3)


def tops(own, number):
    """At every position 0.6 for the text's own token, 0.2 and 0.1 for two others."""
    return [(own, number, 0.6), (" yes", YES, 0.2), (" no", NO, 0.1)]


def listed(text, number, p, name="token"):
    return {name: text, "id": number, "bytes": list(PIECES.texts[number]), "logprob": math.log(p)}


def generated():
    return [
        {**listed(text, i, 0.6), "top_logprobs": [listed(*top) for top in tops(text, i)]}
        for text, i in zip(SAID, IDS, strict=True)
    ]


def by_id(texts, ids):
    rows = zip(texts, ids, strict=True)
    return [
        {str(n): {"logprob": math.log(p), "rank": 1, "decoded_token": t} for t, n, p in tops(text, i)}
        for text, i in rows
    ]


def triples(texts, ids):
    return [[[math.log(p), n, t] for t, n, p in tops(text, i)] for text, i in zip(texts, ids, strict=True)]


def completion(texts=TEXTS, first=None, text="", **more):
    own = [first, *[math.log(0.6)] * (len(texts) - 1)]
    top = [{t: math.log(p) for t, _, p in tops(text, 0)} for text in texts]
    top[0] = top[0] if first else None
    logprobs = {"tokens": texts, "token_logprobs": own, "top_logprobs": top, **more}
    return {"choices": [{"text": text, "logprobs": logprobs}]}


TGI = [[{**listed(*top, name="text"), "special": False} for top in tops(text, i)]
       for text, i in zip(SAID, IDS, strict=True)]  # fmt: skip
SERVERS = {
    "chat": {"choices": [{"message": {}, "logprobs": {"content": generated()}}]},
    "completion": completion(),
    "Together": {
        "prompt": [{"text": PROMPT, "logprobs": completion()["choices"][0]["logprobs"]}],
        "choices": [{"text": "", "logprobs": {"tokens": [], "token_logprobs": []}}],
    },
    "vLLM": {"prompt_token_ids": EXAMPLE.token_ids, "prompt_logprobs": [None, *by_id(TEXTS, EXAMPLE.token_ids)[1:]],
             "outputs": [{"token_ids": [2], "logprobs": None}]},
    "vLLM generated": {"prompt_logprobs": None, "outputs": [{"token_ids": IDS, "logprobs": by_id(SAID, IDS)}]},
    "SGLang": {"text": "", "meta_info": {
        "input_token_logprobs": [[None if at == 0 else -0.5, i, t]
                                 for at, (i, t) in enumerate(zip(EXAMPLE.token_ids, TEXTS, strict=True))],
        "input_top_logprobs": [None, *triples(TEXTS, EXAMPLE.token_ids)[1:]]}},
    "llama.cpp": {"content": RESPONSE, "stop": True, "completion_probabilities": generated()},
    "Ollama generate": {"response": RESPONSE, "done": True, "logprobs": generated()},
    "Ollama chat": {"message": {"content": RESPONSE}, "done": True, "logprobs": generated()},
    "TGI": {"generated_text": RESPONSE, "details": {
        "prefill": [{"id": 1, "text": "<s>", "logprob": None}], "tokens": [row[0] for row in TGI], "top_tokens": TGI}},
    "Responses": {"object": "response", "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "logprobs": generated()}]}]},
    "ids as text": completion([f"token_id:{i}" for i in EXAMPLE.token_ids]),
}  # fmt: skip
SERVERS["ids as text"]["choices"][0]["logprobs"]["top_logprobs"][1:] = [  # its alternatives, too
    {f"token_id:{n}": math.log(p) for _, n, p in tops("", i)} for i in EXAMPLE.token_ids[1:]
]


def match(body, rules=RULES, example=EXAMPLE, pieces=PIECES, candidates=None):
    response = read_response(json.dumps({"custom_id": "e", **body}).encode(), "file, line 1")
    return match_response(response, example, pieces, rules, candidates)


def reasons(found):
    return {each.reason for each in found.unmatched}


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_tells_the_same(server):
    found = match(SERVERS[server])
    assert found.knowledge is not None, found.unmatched
    assert found.knowledge.position.tolist() == list(range(EXAMPLE.start, len(EXAMPLE.token_ids)))
    assert found.knowledge.token_ids.tolist() == [[i, YES, NO] for i in IDS]
    assert found.knowledge.probabilities[0] == pytest.approx([0.6, 0.2, 0.1])


@pytest.mark.parametrize("server", ["vLLM", "SGLang", "llama.cpp", "TGI", "vLLM generated", "ids as text"])
def test_servers_that_give_ids_are_matched_by_them(server):
    found = match(SERVERS[server], Rules(3, shared_ids=True))
    assert found.knowledge.position.tolist() == list(range(EXAMPLE.start, len(EXAMPLE.token_ids)))


def test_the_guide_lists_every_format():
    guide = (PROJECT / "docs" / "api-teachers.md").read_text(encoding="utf-8")
    for each in FORMATS:
        assert each.servers in guide
        assert each.reads in guide


@settings(max_examples=200, deadline=None)
@given(ANYTHING, st.sampled_from(sorted(SERVERS)), st.data())
def test_a_response_with_anything_in_one_place_is_read_or_refused(anything, server, data):
    body = {"custom_id": "e", **SERVERS[server]}
    content = changed(body, *data.draw(st.sampled_from(list(places(body)))), to=anything)
    with suppress(UserError):
        found = read_response(json.dumps(content).encode(), "file, line 1")
        assert all(0 <= token.probability <= 1 for place in found.places for token in place.alternatives)


@settings(max_examples=100, deadline=None)
@given(ANYTHING, st.sampled_from(["chunks", "Ollama's stream"]), st.data())
def test_a_stream_with_anything_in_one_place_is_read_or_refused(tmp_path_factory, anything, form, data):
    pieces = [json.loads(line) for line in FILES[form].splitlines()]
    at = data.draw(st.integers(0, len(pieces) - 1))
    pieces[at] = changed(pieces[at], *data.draw(st.sampled_from(list(places(pieces[at])))), to=anything)
    file = tmp_path_factory.mktemp("stream") / "r.jsonl"
    file.write_bytes(lines(pieces))
    with suppress(UserError):
        list(read_responses(file))


FORCED = {"completion", "Together", "vLLM", "SGLang", "ids as text"}
COMPLETED = {"completion", "Together", "llama.cpp", "Ollama generate", "TGI", "ids as text"}


def told(body):
    return read_response(json.dumps({"custom_id": "e", **body}).encode(), "file, line 1")


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_tells_whether_it_saw_the_response_or_completed_a_text(server):
    found = told(SERVERS[server])
    assert (found.forced, found.completed) == (server in FORCED, server in COMPLETED)


@pytest.mark.parametrize("server", SERVERS)
def test_every_complaint_begins_with_the_line(server):
    """One alternative's logarithm is 0: it would be certain, beside others."""
    wrong = json.dumps({"custom_id": "e", **SERVERS[server]}).replace(repr(math.log(0.2)), "0.0")
    with pytest.raises(UserError, match=r"^file, line 1: the probabilities of .* sum to 1\.700"):
        read_response(wrong.encode(), "file, line 1")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "x"}}]},
        {"choices": [{"text": "x", "logprobs": None}], "prompt_logprobs": None},
        {"prompt": [], "choices": [{"text": "x", "logprobs": None}]},
        {"prompt_logprobs": None, "outputs": []},
        {"prompt_logprobs": None},
        {"outputs": [{"token_ids": [2], "logprobs": None}]},
        {"meta_info": {}},
        {"meta_info": {"input_token_logprobs": [], "output_token_logprobs": None}},
        {"completion_probabilities": []},
        {"completion_probabilities": None},
        {"details": None},
        {"details": {"prefill": [], "tokens": None}},
        {"output": []},
        {"output": [{"type": "message", "content": None}]},
        {"output": [{"type": "message", "content": [{"logprobs": None}]}]},
        {"output": [{"type": "reasoning", "content": [{"logprobs": generated()}]}]},
        {"response": "x", "done": True},
    ],
)
def test_an_answer_without_log_probabilities_is_a_failure_that_is_counted(body):
    found = told({**body, "model": "m"})
    assert (found.where, found.failure, found.model) == ("file, line 1", NO_LOGPROBS, "m")


def test_a_completion_may_tell_ids_and_no_alternatives():
    logprobs = {"tokens": [" The", " cat"], "token_logprobs": [None, -1.0], "token_ids": [7, 9]}
    found = told({"choices": [{"text": "", "logprobs": logprobs}]})
    assert (found.token_ids, found.forced) == ((7, 9), True)
    assert [(place.token.text, place.alternatives) for place in found.places] == [(" The", ()), (" cat", ())]
    assert math.isnan(found.places[0].token.probability)
    assert found.places[1].token.probability == pytest.approx(math.exp(-1))


@pytest.mark.parametrize("longer", ["tokens", "token_logprobs", "top_logprobs", "token_ids"])
def test_lists_of_a_completion_that_differ_in_length_are_refused(longer):
    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [None], "token_ids": [1]}
    logprobs[longer] = logprobs[longer] * 2
    with pytest.raises(UserError, match=r"file, line 1: [12] tokens, but [12] token_logprobs and [12] top_logprobs"):
        told({"choices": [{"text": "", "logprobs": logprobs}]})


def test_a_prompts_first_token_may_be_told_by_its_id():
    found = told(completion(["token_id:5", "token_id:6"]))
    assert [place.token.id for place in found.places] == [5, 6]
    assert [place.token.text for place in found.places] == ["", ""]


def test_a_completion_tells_where_it_stands():
    found = told({**completion(AFTER, -1.0, text_offset=[7]), "usage": {"prompt_tokens": 3}})
    assert (found.offset, found.prompt_tokens) == (7, 3)
    untold = told({**completion(AFTER, -1.0, text_offset=[]), "usage": None})
    assert (untold.offset, untold.prompt_tokens) == (None, None)


@pytest.mark.parametrize("prompt", ["Q:", 3, {"a": 1}])
def test_a_prompt_that_stands_beside_the_choices_as_a_text_is_no_echo(prompt):
    assert told({**SERVERS["completion"], "prompt": prompt}) == told(SERVERS["completion"])


@pytest.mark.parametrize("server", ["vLLM", "SGLang"])
def test_generated_tokens_come_after_the_prompts(server):
    after = triples([" yes", " no"], [YES, NO])
    said = {
        "vLLM": {"outputs": [{"token_ids": [YES, NO], "logprobs": by_id([" yes", " no"], [YES, NO])},
                             {"token_ids": [2], "logprobs": by_id(["x"], [2])}]},
        "SGLang": {"meta_info": {**SERVERS["SGLang"]["meta_info"], "output_token_logprobs": [row[0] for row in after],
                                 "output_top_logprobs": after}},
    }[server]  # fmt: skip
    found = told({**SERVERS[server], **said})
    assert (found.forced, found.token_ids) == (True, (*EXAMPLE.token_ids, YES, NO))
    assert [len(place.alternatives) for place in found.places[-2:]] == [2, 2] if server == "vLLM" else [3, 3]


def test_sglang_may_tell_generated_tokens_only_and_neither_texts_nor_alternatives():
    found = told({"meta_info": {"output_token_logprobs": [[-1.0, 7, None], [None, 8, "b"]]}})
    assert (found.forced, found.token_ids) == (False, (7, 8))
    assert [(place.token.text, place.alternatives) for place in found.places] == [("", ()), ("b", ())]
    assert [place.token.probability for place in found.places] == [
        pytest.approx(math.exp(-1)),
        pytest.approx(math.nan, nan_ok=True),
    ]
    named = told({"meta_info": {"output_token_logprobs": [[-1, 7, "a"]], "output_top_logprobs": [[[-1.0, 7, None]]]}})
    assert named.places[0].alternatives == (Token("", pytest.approx(math.exp(-1)), id=7),)


@pytest.mark.parametrize("side", ["input", "output"])
def test_sglangs_alternatives_need_a_row_for_every_token(side):
    meta = {f"{side}_token_logprobs": [[-1.0, 7, "a"]], f"{side}_top_logprobs": [None, None]}
    with pytest.raises(UserError, match=r"^file, line 1: 1 token_logprobs, but 2 top_logprobs; .*logprob_start_len=0"):
        told({"meta_info": meta})


@pytest.mark.parametrize("field", ["probs", "top_probs"])
def test_llama_cpps_processed_probabilities_are_refused(field):
    rows = [generated()[0], {"content": " yes", field: [{"tok_str": " yes", "prob": 0.5}]}]
    with pytest.raises(UserError, match=r"^file, line 1: completion_probabilities hold processed .*without post_s"):
        told({"completion_probabilities": rows})


@pytest.mark.parametrize("rows", [3, True, "text", {"a": 1}, ["probs"]])
def test_llama_cpps_rows_must_be_a_list_of_tokens(rows):
    with pytest.raises(UserError, match=r"^file, line 1: completion_probabilities.*: Input should be a valid"):
        told({"completion_probabilities": rows})


def test_tgi_may_tell_no_alternatives_and_refuses_to_lack_some():
    tokens = [row[0] for row in TGI]
    found = told({"details": {"tokens": tokens}})
    assert [place.token.text for place in found.places] == SAID
    assert all(place.alternatives == () for place in found.places)
    with pytest.raises(UserError, match=rf"^file, line 1: {len(SAID)} tokens, but 1 top_tokens; request top_n_tokens"):
        told({"details": {"tokens": tokens, "top_tokens": TGI[:1]}})


def test_a_response_of_several_messages_is_read_through():
    parts = [{"content": [{"logprobs": generated()[:1]}, {"logprobs": None}, {"logprobs": generated()[1:2]}]},
             {"type": "tool", "content": [{"logprobs": generated()}]},
             {"content": [{"logprobs": generated()[2:]}]}]  # fmt: skip
    assert [place.token.text for place in told({"output": parts}).places] == SAID


@pytest.mark.parametrize(("body", "servers"), [
    ({"done": True, "choices": []}, "OpenAI completions"), ({"outputs": []}, "vLLM in Python"), ({}, None), ([], None),
    ("choices", None),
])  # fmt: skip
def test_a_format_is_told_by_its_field_and_the_first_of_the_table_wins(body, servers):
    found = format_of(body)
    assert (found and found.servers.startswith(servers)) == (None if servers is None else True)


# -- never silently wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, math.log(0.01)])
def test_an_echo_is_told_by_its_text_whether_its_first_token_is_told_or_not(first):
    found = match(completion(first=first))
    assert found.knowledge.position.tolist() == list(range(EXAMPLE.start, len(EXAMPLE.token_ids)))
    assert found.knowledge.token_ids[0].tolist() == [IDS[0], YES, NO]


AFTER = [" Because"]
LENGTH = len(PROMPT + RESPONSE)


@pytest.mark.parametrize(
    "body",
    [
        completion(AFTER, math.log(0.6), text_offset=[LENGTH]),
        completion([*AFTER, " it"], math.log(0.6), text_offset=[LENGTH, LENGTH + 8]),
        completion([*AFTER, " it"], math.log(0.6)) | {"usage": {"prompt_tokens": len(EXAMPLE.token_ids) - 1}},
        completion(AFTER, math.log(0.6)),
        {"choices": [{"text": " yes", "logprobs": {"content": [{**listed(" yes", YES, 0.6), "top_logprobs": [
            listed(*top) for top in tops(" The", PIECES.ids[b" The"])]}]}}],
            "usage": {"prompt_tokens": len(EXAMPLE.token_ids), "completion_tokens": 1}},
    ],
)  # fmt: skip
def test_what_follows_the_response_is_not_taken_for_the_response(body):
    """The server ignored `echo`, and tells the token that it would write after the whole answer."""
    found = match(body)
    assert found.knowledge is None
    assert reasons(found) == {Reason.ECHO_IGNORED}


@pytest.mark.parametrize("offset", [0, len(PROMPT)])
def test_a_completion_of_the_prompt_alone_is_read(offset):
    found = match(completion([" is", " way"], math.log(0.6), text_offset=[offset, offset + 3]))
    assert found.knowledge.position.tolist() == [EXAMPLE.start]


LETTER = len(TOKENIZER(PROMPT + " The answer is (").input_ids)
LETTERS = Candidates(LETTER, (PIECES.ids[b"a"], PIECES.ids[b"b"]), ("a", "b"))


def at_the_letter(*top):
    """A chat that says the right words up to the letter, and `top` there."""
    content = generated()[: LETTER - EXAMPLE.start]
    said = [{"token": text, "bytes": list(text.encode()), "logprob": math.log(p)} for text, p in top]
    return {"choices": [{"message": {}, "logprobs": {"content": [*content, {**said[0], "top_logprobs": said}]}}]}


@pytest.mark.parametrize("spelling", ["B", " B", " b", "(B", "B)", "B."])
def test_other_spellings_of_a_candidate_count_for_it(spelling):
    found = match(at_the_letter((spelling, 0.9), (" yes", 0.04), ("A", 0.03)), candidates=LETTERS)
    item = found.knowledge
    assert found.respelled
    at = item.position.tolist().index(LETTER)
    told = dict(zip(item.token_ids[at].tolist(), item.probabilities[at].tolist(), strict=True))
    assert told[PIECES.ids[b"b"]] == pytest.approx(0.9)
    assert told[PIECES.ids[b"a"]] == pytest.approx(0.03)
    assert item.residual[at] == pytest.approx(0.03)


def test_a_candidate_and_its_other_spelling_are_added():
    found = match(at_the_letter(("B", 0.5), ("b", 0.3), (" yes", 0.1), (" no", 0.05)), candidates=LETTERS)
    assert found.knowledge.probabilities[-1, 0] == pytest.approx(0.8)
    assert found.knowledge.token_ids[-1, 0] == PIECES.ids[b"b"]


def test_several_spellings_of_a_candidate_are_added_and_the_untold_candidate_gets_nothing():
    item = match(at_the_letter(("B", 0.5), ("(B", 0.25), ("b.", 0.125)), Rules(2), candidates=LETTERS).knowledge
    assert item.token_ids[-1].tolist() == [PIECES.ids[b"b"], PIECES.ids[b"a"]]
    assert item.probabilities[-1] == pytest.approx([0.875, 0])
    assert item.residual[-1] == pytest.approx(0.125)


def test_candidates_fill_no_place_where_none_is_spelled_otherwise():
    found = match(at_the_letter(("b", 0.6), (" yes", 0.3)), candidates=LETTERS)
    assert (found.respelled, LETTER in found.knowledge.position) == (False, False)
    assert Unmatched("e", Reason.TOO_FEW, LETTER) in found.unmatched


def test_the_most_probable_tokens_stay_first_after_spellings_were_added():
    item = match(at_the_letter((" yes", 0.5), (" no", 0.3), ("A", 0.1)), candidates=LETTERS).knowledge
    assert item.token_ids[-1].tolist() == [YES, NO, PIECES.ids[b"a"]]


def test_another_spelling_counts_at_the_answer_only():
    elsewhere = Candidates(LETTER - 1, LETTERS.token_ids, LETTERS.texts)
    found = match(at_the_letter(("B", 0.6), (" yes", 0.2), (" no", 0.1)), candidates=elsewhere)
    assert not found.respelled
    assert LETTER in found.knowledge.position


@pytest.mark.parametrize(("text", "raw"), [(r"\x42", b"B"), ("(B", None), ("\ufffd", b"B)")])
def test_a_spelling_is_read_from_its_bytes_if_they_are_given(text, raw):
    body = at_the_letter(("b", 0.5), ("a", 0.3))
    top = body["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top.append({"token": text, "logprob": math.log(0.1), "bytes": raw and list(raw)})
    found = match(body, Rules(2), candidates=LETTERS)
    assert found.knowledge.probabilities[-1] == pytest.approx([0.6, 0.3])


def test_a_spelling_may_be_told_by_its_id_alone():
    ids = [*EXAMPLE.token_ids[:LETTER], PIECES.ids[b"B"]]
    rows = [None, *({str(i): {"logprob": math.log(0.6)}, str(YES): {"logprob": math.log(0.2)}} for i in ids[1:])]
    found = match({"prompt_token_ids": ids, "prompt_logprobs": rows}, Rules(2, shared_ids=True), candidates=LETTERS)
    assert found.respelled
    assert found.knowledge.token_ids[-1].tolist() == [PIECES.ids[b"b"], YES]


@pytest.mark.parametrize("raw", [b"\xff\xfe", "😀".encode()[:1]])
def test_a_part_of_a_character_means_no_candidate(raw):
    body = at_the_letter(("b", 0.5), ("a", 0.3))
    top = body["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top.append({"token": "\ufffd", "logprob": math.log(0.04), "bytes": list(raw)})
    found = match(body, Rules(2), candidates=LETTERS)
    assert not found.respelled
    assert found.knowledge.probabilities[-1] == pytest.approx([0.5, 0.3])


def test_spellings_of_two_candidates_that_mean_the_same_are_left_alone():
    both = Candidates(LETTER, (PIECES.ids[b"a"], PIECES.ids[b"A"]), ("a", "A"))
    assert not match(at_the_letter((" a", 0.5), ("A", 0.3), (" yes", 0.1)), candidates=both).respelled


def test_nothing_certainly_means_a_candidate_of_signs_alone():
    assert Candidates(0, (7, 8), ("a", ")")).meant("a") is None
    assert Candidates(0, (7, 8), ("a", "Yes.")).meant("▁YES") == 8
    assert Candidates(0, (7, 8), ("a", "b")).meant("c") is None
    assert Candidates(0, (7, 8), ("a", "b")).meant("Ġð") is None  # a space and a part of a character


def test_candidates_say_nothing_below_a_twentieth_of_what_is_told_if_half_is():
    two = Candidates(0, (7, 8), ("a", "b"))
    assert two.say_nothing({7: 0.01, 8: 0.01, 9: 0.5}, 0.5)
    assert not two.say_nothing({7: 0.0125, 8: 0.0125}, 0.5)
    assert not two.say_nothing({9: 0.499}, 0.499)
    assert two.say_nothing({}, 1.0)


@pytest.mark.parametrize(
    ("count", "total", "many"), [(1, 1, False), (1, 10, False), (2, 10, True), (2, 200, False), (3, 200, True)]
)
def test_more_than_one_in_a_hundred_and_more_than_one_are_too_many(count, total, many):
    assert too_many(count, total) is many


def test_what_was_not_imported_is_listed_by_position():
    """The alternatives, and then the positions; a place that the teacher does not tell is listed among the others."""
    content = generated()[:3]
    for at, lost in ((0, "x"), (2, "y")):
        content[at]["top_logprobs"] = [listed(SAID[at], IDS[at], 0.7), {"token": lost + "q", "logprob": math.log(0.2)}]
    content[1]["top_logprobs"] = []
    found = match({"model": "m", "choices": [{"message": {}, "logprobs": {"content": content}}]}, Rules(1, None, 0.5))
    start, end = EXAMPLE.start, len(EXAMPLE.token_ids)
    assert found.unmatched == (
        Unmatched("e", Reason.NO_TOKEN, start, "xq", pytest.approx(0.2)),
        Unmatched("e", Reason.NO_TOKEN, start + 2, "yq", pytest.approx(0.2)),
        Unmatched("e", Reason.NO_ALTERNATIVES, start + 1),
        *(Unmatched("e", Reason.MISSING, at) for at in range(start + 3, end)),
    )
    assert (found.model, found.aligned, found.padded, found.silent, found.respelled) == ("m", 3, 0, None, False)
    assert found.lost == pytest.approx((0.2, 0.2))


def test_an_answer_of_which_the_candidates_have_next_to_nothing_is_refused():
    found = match(at_the_letter((" yes", 0.9), (" no", 0.05), ("b", 0.01)), candidates=LETTERS)
    assert (found.silent, Reason.NOT_AN_ANSWER in reasons(found)) == (" yes", True)
    assert LETTER not in found.knowledge.position
    untold = match(at_the_letter((" yes", 0.2), (" no", 0.05), (" is", 0.05)), candidates=LETTERS)
    assert untold.silent is None  # most of the mass is not told, and the candidates may hold it


def test_tokens_that_have_lost_their_spaces_are_refused():
    tokenizer = sentence_piece()
    pieces, example = pieces_of(tokenizer), encode(tokenizer, Example("e", PROMPT.replace("ï", "i"), RESPONSE))
    stripped = [pieces.texts[i].decode("utf-8", "replace").strip(" ") for i in example.token_ids]
    echoed = match(completion(stripped), example=example, pieces=pieces)
    said = [{"token": t, "logprob": -0.5, "top_logprobs": [{"token": t, "logprob": -0.5}]}
            for t in stripped[example.start :]]  # fmt: skip
    chat = match({"choices": [{"message": {}, "logprobs": {"content": said}}]}, Rules(1), example, pieces)
    assert reasons(echoed) == reasons(chat) == {Reason.SPACES_LOST}


def test_prompt_logprobs_without_spaces_are_matched_by_id():
    body = json.loads(json.dumps(SERVERS["vLLM"]))
    for row in body["prompt_logprobs"][1:]:
        for entry in row.values():
            entry["decoded_token"] = entry["decoded_token"].strip()
    found = match(body)
    assert found.knowledge.token_ids.tolist() == [[i, YES, NO] for i in IDS]


# -- numbers as servers write them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, -math.inf, -9999.0, -3.4e38])
def test_a_token_that_is_ruled_out_has_probability_0(value):
    body = json.loads(json.dumps(SERVERS["chat"]))
    for token in body["choices"][0]["logprobs"]["content"]:
        token["top_logprobs"].append({"token": "qq", "logprob": value, "bytes": None})
    assert match(body).knowledge.token_ids.tolist() == [[i, YES, NO] for i in IDS]


def test_rounding_may_sum_to_two_hundredths_more():
    quarter = -1.3828125  # of ln 0.25 in bfloat16
    top = [(" yes", math.exp(quarter)), (" no", math.exp(quarter)), ("a", math.exp(quarter)), ("b", math.exp(quarter))]
    assert match(at_the_letter(*top)).knowledge.probabilities[-1].sum() == pytest.approx(0.75, abs=1e-2)
    with pytest.raises(UserError, match=r"sum to 1\.057; ask again with temperature 1 and without top_p"):
        match(at_the_letter((" yes", 0.9), (" no", 0.157)))


@pytest.mark.parametrize(("log", "p"), [(0.02, 1), (0.0, 1), (-0.0, 1), (math.log(0.25), 0.25)])
def test_logarithms_up_to_the_rounding_of_servers_are_read(log, p):
    body = {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": log}]}}]}
    assert told(body).places[0].token.probability == pytest.approx(p)
    with pytest.raises(UserError, match=r"a finite number less than or equal to 0\.02, not 0\.021"):
        told({"choices": [{"logprobs": {"content": [{"token": "a", "logprob": 0.021}]}}]})


def test_probabilities_may_sum_to_one_and_the_rounding_but_no_more():
    def top(*probabilities):
        return at_the_letter(*((f"{'long' * 9}{n}", p) for n, p in enumerate(probabilities)))

    assert told(top(0.51, 0.51)).places[-1].alternatives[0].probability == pytest.approx(0.51)
    with pytest.raises(UserError, match=r"probabilities of 'longlonglonglonglong' and its alternatives sum to 1\.025"):
        told(top(0.51, 0.515))


@pytest.mark.parametrize(
    ("token", "read"),
    [
        ({"token": "a", "text": "b", "id": 3, "token_id": 4}, Token("a", 1.0, None, 3)),
        ({"text": "b", "id": None, "token_id": 4}, Token("b", 1.0, None, 4)),
        ({"text": "b", "id": 0, "token_id": 4}, Token("b", 1.0, None, 0)),
        ({"token": "a", "bytes": [195, 175]}, Token("a", 1.0, "ï".encode())),
        ({"token": "a", "bytes": []}, Token("a", 1.0, b"")),
        ({"bytes": None}, Token("", 1.0)),
        ({"token": "token_id:12", "id": 3, "bytes": [1]}, Token("", 1.0, None, 12)),
        ({"token": "token_id:123456789"}, Token("", 1.0, None, 123456789)),
        ({"token": "token_id:1234567890"}, Token("token_id:1234567890", 1.0)),
        ({"token": " token_id:1"}, Token(" token_id:1", 1.0)),
    ],
)
def test_a_token_has_its_text_bytes_and_id_as_servers_name_them(token, read):
    [place] = told({"choices": [{"logprobs": {"content": [{**token, "logprob": 0.0}]}}]}).places
    assert (place.token, place.alternatives) == (read, ())


def test_a_row_by_id_without_its_own_token_is_named():
    outputs = [{"token_ids": [5, 6, 7], "logprobs": [{"5": {"logprob": -1.0}}, {}, {"8": {"logprob": -1.0}}]}]
    with pytest.raises(UserError, match=r"^file, line 1: logprobs\[2\] lacks the prompt's own token 7; repeat the re"):
        told({"outputs": outputs})
    outputs[0]["logprobs"][2] = None
    first, second, third = told({"outputs": outputs}).places
    assert (first.token, first.alternatives) == (Token("", pytest.approx(math.exp(-1)), id=5), (first.token,))
    assert [(each.token.id, each.alternatives) for each in (second, third)] == [(6, ()), (7, ())]
    assert math.isnan(second.token.probability)
    assert (second.token.text, third.token.text) == ("", "")


@pytest.mark.parametrize("ids", [[], [5], [5, 6, 7]])
def test_rows_by_id_need_as_many_ids(ids):
    rows = [{"5": {"logprob": -1.0}}, {"6": {"logprob": -1.0}}]
    complaint = rf"^file, line 1: 2 logprobs, but {len(ids)} token_ids; request return_token_ids=true"
    with pytest.raises(UserError, match=complaint):
        told({"outputs": [{"token_ids": ids, "logprobs": rows}]})
    with pytest.raises(
        UserError, match=complaint.replace("logprobs", "prompt_logprobs").replace(" tok", " prompt_tok")
    ):
        told({"prompt_logprobs": rows, "prompt_token_ids": ids})


def test_one_ruled_out_alternative_of_two_missing_leaves_too_few():
    top = [listed(SAID[0], IDS[0], 0.99), {"token": " yes", "logprob": -9999.0}]
    found = match({"choices": [{"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}]})
    assert Unmatched("e", Reason.TOO_FEW, EXAMPLE.start) in found.unmatched


def test_a_distribution_that_was_cut_is_told_from_too_few_alternatives():
    cut = [{**listed(t, i, 0.99), "top_logprobs": [
        listed(t, i, 0.99), {"token": " yes", "logprob": -9999.0}, {"token": " no", "logprob": -9999.0}]}
        for t, i in zip(SAID, IDS, strict=True)]  # fmt: skip
    assert reasons(match({"choices": [{"logprobs": {"content": cut}}]})) == {Reason.RULED_OUT}


# -- forms of files --------------------------------------------------------------------------------------------------

CHAT = {"custom_id": "e", "id": "chatcmpl", **SERVERS["chat"]}


def chunks(name="e", finish=True):
    """A chat completion as streamed: one token a chunk."""
    for number, token in enumerate(generated(), 1):
        choice = {"delta": {"content": token["token"]}, "logprobs": {"content": [token]}, "finish_reason": None}
        if finish and number == len(SAID):
            choice["finish_reason"] = "stop"
        yield {"custom_id": name, "object": "chat.completion.chunk", "choices": [choice]}


def interleaved():
    return [each for pair in zip(chunks("e"), chunks("f"), strict=True) for each in pair]


def ollama():
    for token in generated():
        yield {"custom_id": "e", "response": token["token"], "done": False, "logprobs": [token]}
    yield {"custom_id": "e", "response": "", "done": True}


def lines(values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def events(values):
    return b"".join(b"event: x\ndata: " + json.dumps(v).encode() + b"\n\n" for v in values) + b"data: [DONE]\n"


FILES = {
    "a list": json.dumps([CHAT]).encode(),
    "a list over lines": json.dumps([CHAT], indent=1).encode(),
    "an object over lines": json.dumps(CHAT, indent=1).encode(),
    "objects over lines": "\n".join(json.dumps({**CHAT, "custom_id": each}, indent=1) for each in "ef").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + lines([CHAT]),
    "UTF-16": json.dumps(CHAT).encode("utf-16"),
    "a list a line": lines([[CHAT], [{**CHAT, "custom_id": "f"}]]),
    "two choices": lines([{**CHAT, "choices": CHAT["choices"] * 2}]),
    "a bare body": lines([{"custom_id": "e", "response": SERVERS["chat"]}]),
    "chunks": lines(chunks()),
    "chunks without an end": lines(chunks(finish=False)),
    "interleaved chunks": lines(interleaved()),
    "events": events(chunks()),
    "Ollama's stream": lines(ollama()),
    "the stream of Responses": events([
        {"type": "response.created", "response": {}},
        {"type": "response.completed", "custom_id": "e", "response": SERVERS["Responses"]}]),
}  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_files_in_every_form_are_read(form, tmp_path):
    file = tmp_path / "responses"
    file.write_bytes(FILES[form])
    found = {response.example_id: response for response in read_responses(file)}
    assert {"e"} <= set(found) <= {"e", "f"}
    for response in found.values():
        assert len(response.places) == len(SAID)
        assert match_response(response, EXAMPLE, PIECES, RULES).knowledge.token_ids.tolist() == [
            [i, YES, NO] for i in IDS
        ]


def test_whole_numbers_are_ids():
    assert read_response(json.dumps({**CHAT, "custom_id": 0}).encode(), "x").example_id == "0"


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        ({"object": "text_completion.chunk"}, True),
        ({"object": "chunk"}, False),
        ({"object": None}, False),
        ({"type": "response.output_text.delta"}, True),
        ({"type": "a response."}, False),
        ({"choices": [{"delta": {}}]}, True),
        ({"choices": [{"text": ""}]}, False),
        ({"choices": [{"text": ""}, {"delta": {}}]}, False),
        ({"choices": []}, False),
        ({"choices": ["delta"]}, False),
        ({"choices": {"0": {"delta": {}}}}, False),
        ({"done": False}, True),
        ({"done": True}, False),
        ({"stop": False}, True),
        ({"stop": True}, False),
        ({}, False),
        ("x.chunk", False),
        (["response."], False),
    ],
)
def test_a_piece_of_a_stream_is_told_by_its_fields(content, piece):
    assert is_piece(content) is piece
    assert Streams().takes(content) is piece


def joined(*pieces):
    """What a stream of these pieces gives, and the lines of the pieces that gave it."""
    streams = Streams()
    given = [(n, whole) for n, piece in enumerate(pieces, 1) for whole in streams.add(piece, f"line {n}")]
    return [*given, *(("end", whole) for whole in streams.finish()), *(("after", each) for each in streams.finish())]


def chunk(tokens, finish=None, **more):
    choice = {"text": "", "logprobs": tokens, "finish_reason": finish}
    return {"id": "c", "object": "x.chunk", "choices": [choice], **more}


@pytest.mark.parametrize(("finish", "when"), [("stop", 2), (None, "end")])
def test_chunks_become_one_completion_that_began_at_the_first(finish, when):
    first, last = {"tokens": ["a"], "text_offset": [3], "other": 1}, {"tokens": ["b"], "text_offset": [4]}
    [(came, (whole, where))] = joined(chunk(first, model="m"), chunk(last, finish, model="n"))
    assert (came, where) == (when, "line 1")
    assert whole == {
        "id": "c", "object": "joined", "model": "m",
        "choices": [{"text": "", "logprobs": {"tokens": ["a", "b"], "text_offset": [3, 4]}}],
    }  # fmt: skip


def test_chunks_without_log_probabilities_become_an_answer_without():
    pieces = [chunk(None), {"id": "c", "choices": None}, {"id": "c", "choices": []}, {"id": "c", "choices": ["x"]}]
    [(_, (whole, _))] = joined(*pieces)
    assert whole["choices"] == [{"text": "", "logprobs": None}]


def test_only_the_first_choice_of_each_chunk_counts():
    said = [{"delta": {}, "logprobs": {"content": [1]}}, {"delta": {}, "logprobs": {"content": [2]}}]
    [(when, (whole, _))] = joined({"choices": [said[0], {**said[1], "finish_reason": "stop"}]})
    assert (when, whole["choices"]) == ("end", [{"message": {}, "logprobs": {"content": [1]}}])


@pytest.mark.parametrize(("field", "end"), [("logprobs", {"done": True}), ("completion_probabilities", {"stop": True})])
def test_pieces_of_a_running_text_become_one_response(field, end):
    going = dict.fromkeys(end, False)
    pieces = [{**going, "response": "x", field: [1]}, {**going, field: None}, {**going, field: [2, 3]}, end]
    assert joined(*pieces) == [(4, ({"response": "x", field: [1, 2, 3], "object": "joined", "done": True}, "line 1"))]
    without = [{**going, "response": "x"}, end]
    assert joined(*without) == [(2, ({"response": "x", "object": "joined", "done": True}, "line 1"))]


def test_a_response_in_events_is_what_the_last_one_holds():
    done = {"type": "response.completed", "response": {"id": "r", "output": []}}
    assert joined({"type": "response.created", "response": {"id": "r"}}, done) == [(2, (done["response"], "line 2"))]
    [(_, (named, _))] = joined({**done, "custom_id": "e"})
    assert named == {"id": "r", "output": [], "custom_id": "e"}
    assert joined({"type": "response.completed", "response": None}, {"type": "response.completed"}) == []


def test_pieces_are_kept_apart_by_their_name():
    streams = Streams()
    for name in ({"custom_id": "e", "id": "x"}, {"id": "f"}, {}):
        assert list(streams.add({**name, "done": False}, "line 1")) == []
    known, others = [{"custom_id": "e"}, {"id": "f"}, {}, {"id": "e"}], [{"id": "x"}, "f", ["f"]]
    assert all(map(streams.takes, known))
    assert not any(map(streams.takes, others))
    [(ended, _)] = streams.add({"id": "f", "done": True}, "line 2")
    assert ended["id"] == "f"
    assert not streams.takes({"id": "f"})
    assert [whole.get("custom_id") for whole, _ in streams.finish()] == ["e", None]


# -- one among thousands ---------------------------------------------------------------------------------------------


def imported(tmp_path, contents, names, candidates=None):
    examples = [encode(TOKENIZER, Example(name, PROMPT, RESPONSE)) for name in names]
    folder = tmp_path / "store"
    folder.mkdir()
    file = tmp_path / "responses.jsonl"
    file.write_bytes(lines(contents))
    origin = Origin("teacher", "tokenizer", "data", 3)
    report = import_logprobs(file, folder, examples, TOKENIZER, origin, RULES, None, candidates)
    return KnowledgeStore(folder, origin), report, folder


def test_one_response_without_log_probabilities_is_counted(tmp_path):
    without = {"custom_id": "f", "choices": [{"message": {"content": "x"}, "logprobs": None}]}
    store, report, folder = imported(tmp_path, [CHAT, without], ["e", "f"], dict.fromkeys("ef", LETTERS))
    assert (next(iter(store)).example_id, len(store)) == ("e", 1)
    assert report.unmatched == {Reason.NO_LOGPROBS: 1}
    assert unanswered(folder) == report.unanswered == ("f",)
    assert [json.loads(line)["example_id"] for line in (folder / UNMATCHED).open()] == ["f"]
    assert "of a provider that gives them" in str(report)


def test_a_file_without_any_is_refused_with_the_remedy(tmp_path):
    without = {"custom_id": "e", "choices": [{"message": {"content": "x"}, "logprobs": None}]}
    with pytest.raises(UserError, match=r"nothing can be imported.*ask with logprobs") as error:
        imported(tmp_path, [without], ["e"])
    assert len(str(error.value)) < 500


def test_silent_answers_are_counted_and_refused_above_one_in_a_hundred(tmp_path):
    silent = at_the_letter((" yes", 0.9), (" no", 0.05), (" is", 0.01))
    said = [{"custom_id": name, **silent} for name in "ef"]
    with pytest.raises(UserError, match=r"2 answers give their candidates next to no mass.* says ' yes'"):
        imported(tmp_path, said, "ef", dict.fromkeys("ef", LETTERS))


def test_half_of_the_positions_missing_is_worth_a_warning(tmp_path):
    short = {"custom_id": "e", "choices": [{"logprobs": {"content": generated()[:2]}}]}
    _, report, _ = imported(tmp_path, [short], ["e"])
    assert "Warning: less than 50% of the positions" in str(report)
