"""Response formats recognised by their shape, and lines that match none."""

import codecs
import json
import math
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlib.knowledge.servers import responses
from firstlib.knowledge.servers.responses import Response, read_response, read_responses
from firstlib.knowledge.servers.tokens import Token
from firstlib.runtime.errors import UserError

HALF, QUARTER = math.log(0.5), math.log(0.25)

COMPLETION = {
    "id": "e1",
    "model": "teacher",
    "choices": [
        {
            "text": "Q: a",
            "logprobs": {
                "tokens": ["Q:", " a"],
                "token_logprobs": [None, QUARTER],
                "top_logprobs": [None, {" a": QUARTER, " b": HALF}],
                "text_offset": [0, 2],
            },
        }
    ],
}
CHAT = {
    "custom_id": "e1",
    "id": "chatcmpl-7",
    "choices": [
        {
            "message": {"role": "assistant", "content": "é"},
            "logprobs": {
                "content": [
                    {
                        "token": "\\xc3",
                        "bytes": [195],
                        "logprob": HALF,
                        "top_logprobs": [{"token": "\\xc3", "bytes": [195], "logprob": HALF}],
                    }
                ],
                "refusal": None,
            },
        }
    ],
}
PROMPTED = {
    "id": "e1",
    "choices": [
        {
            "text": "!",
            "logprobs": None,
            "prompt_token_ids": [5, 7],
            "prompt_logprobs": [
                None,
                {
                    "7": {"logprob": QUARTER, "rank": 2, "decoded_token": " a"},
                    "9": {"logprob": HALF, "rank": 1, "decoded_token": " b"},
                },
            ],
        }
    ],
}


def read(content):
    return read_response(json.dumps(content).encode(), "file, line 1")


def changed(content, *path, to):
    """A copy with one value changed or removed."""
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return copy


LOGPROBS = ("choices", 0, "logprobs")


def test_a_completion_with_echo_is_forced():
    found = read(COMPLETION)
    assert (found.example_id, found.forced, found.model, found.failure) == ("e1", True, "teacher", "")
    assert [place.token.text for place in found.places] == ["Q:", " a"]
    assert found.places[0].alternatives == ()
    assert [(token.text, token.probability) for token in found.places[1].alternatives] == [
        (" b", pytest.approx(0.5)),
        (" a", pytest.approx(0.25)),
    ]


def test_a_completion_without_echo_is_generated_text():
    generated = changed(COMPLETION, *LOGPROBS, "token_logprobs", to=[HALF, QUARTER])
    assert not read(generated).forced


def test_a_chat_gives_bytes():
    found = read(CHAT)
    assert (found.example_id, found.forced) == ("e1", False)  # its custom_id, not the server's id
    assert found.places[0].alternatives == (Token("\\xc3", pytest.approx(0.5), b"\xc3"),)


def test_a_refusal_is_an_empty_answer():
    assert read(changed(CHAT, *LOGPROBS, "content", to=None)).places == ()


@pytest.mark.parametrize("beside", [False, True])
def test_prompt_logprobs_give_ids_in_the_choice_or_beside_it(beside):
    content = PROMPTED
    if beside:
        choice = content["choices"][0]
        names = ("prompt_token_ids", "prompt_logprobs")
        content = {**content, **{n: choice[n] for n in names}, "choices": [{"logprobs": None}]}
    found = read(content)
    assert (found.forced, found.token_ids) == (True, (5, 7))
    assert found.places[0].token.id == 5
    assert found.places[0].alternatives == ()
    assert found.places[1].token.id == 7
    assert [token.id for token in found.places[1].alternatives] == [9, 7]


def test_generated_tokens_follow_the_prompt():
    found = read(
        changed(
            PROMPTED,
            *LOGPROBS,
            to=changed(COMPLETION, *LOGPROBS, "token_logprobs", to=[HALF, HALF])["choices"][0]["logprobs"],
        )
    )
    assert [place.token.text for place in found.places] == ["", " a", "Q:", " a"]
    echoed = read(changed(PROMPTED, *LOGPROBS, to=COMPLETION["choices"][0]["logprobs"]))
    assert len(echoed.places) == 2


def test_a_batch_wraps_the_body():
    found = read(
        {"id": "batch-1", "custom_id": "e7", "response": {"status_code": 200, "body": COMPLETION}, "error": None}
    )
    assert (found.example_id, len(found.places)) == ("e7", 2)


@pytest.mark.parametrize("field", ["response", "body"])
def test_a_body_may_stand_under_its_name_alone(field):
    found = read({"custom_id": "e7", field: COMPLETION})
    assert (found.where, found.example_id, len(found.places), found.failure) == ("file, line 1", "e7", 2, "")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({"response": {"status_code": 429, "body": {"error": "slow down"}}}, "status 429"),
        ({"response": {"status_code": 201, "body": COMPLETION}}, "status 201"),
        ({"response": {"status_code": 200, "body": None}}, "no response"),
        ({"response": {"status_code": 200}}, "no response"),
        ({"response": None}, "no response"),
        ({"response": None, "error": {"code": "x"}}, "no response"),
        ({"error": {"code": "x"}}, "{'code': 'x'}"),
        ({"error": "boom", "body": None}, "'boom'"),
    ],
)
def test_a_failed_request_is_recorded_without_an_error(answer, failure):
    assert read({"custom_id": "e7", **answer}) == Response("file, line 1", "e7", failure=failure)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ({"custom_id": "a", "id": "b", "request_id": "c"}, "a"),
        ({"custom_id": "", "id": "b", "request_id": "c"}, "b"),
        ({"custom_id": None, "id": None, "request_id": "c"}, "c"),
        ({"request_id": 7}, "7"),
    ],
)
def test_the_examples_name_is_the_first_that_is_given(names, name):
    assert read({**changed(COMPLETION, "id", to=...), **names}).example_id == name


@pytest.mark.parametrize(("model", "told"), [("m", "m"), (None, ""), (3, "")])
def test_the_model_is_told_if_it_is_a_name(model, told):
    assert read({**COMPLETION, "model": model}).model == told


def test_ids_count_up_to_the_first_token_without_one():
    tokens = changed(COMPLETION, *LOGPROBS, "tokens", to=["token_id:5", "a"])
    assert read(tokens).token_ids == (5,)
    assert read(COMPLETION).token_ids == ()


def test_a_very_unlikely_token_has_probability_0():
    found = read(changed(COMPLETION, *LOGPROBS, "top_logprobs", 1, " a", to=-9999.0))
    assert found.places[1].alternatives[1].probability == 0


def test_a_logarithm_rounded_above_0_gives_probability_1():
    found = read(changed(COMPLETION, *LOGPROBS, "top_logprobs", 1, to={" a": 0.0005}))
    assert found.places[1].alternatives[0].probability == 1


def line(content, *path, to):
    return json.dumps(changed(content, *path, to=to)).encode()


TOP = (*LOGPROBS, "top_logprobs", 1)
PROMPT_PART = ("choices", 0, "prompt_logprobs")

BAD = {
    "an empty object": (b"{}", "unknown format; expected an OpenAI"),
    "a list": (b"[1]", "unknown format"),
    "a number": (b"3", "unknown format"),
    "a name alone": (b'{"id": "e"}', "unknown format"),
    "text": (b"hello", "not JSON"),
    "cut short": (json.dumps(COMPLETION).encode()[:-9], "not JSON .*is the file truncated"),
    "not UTF-8": (b'{"id": "\xff"}', "not JSON"),
    "NaN": (line(COMPLETION, *TOP, " a", to=math.nan), "finite number"),
    "infinity": (line(COMPLETION, *TOP, " a", to=math.inf), "finite number"),
    "too large for a float": (json.dumps(COMPLETION).replace(repr(QUARTER), "1e999").encode(), "finite number"),
    "a positive logarithm": (line(COMPLETION, *TOP, " a", to=0.5), "less than or equal to 0.02, not 0.5"),
    "text for a number": (line(COMPLETION, *TOP, " a", to="-1"), "valid number, not '-1'"),
    "true for a number": (line(COMPLETION, *TOP, " a", to=True), "valid number, not True"),
    "more than all": (
        line(COMPLETION, *TOP, to={"a": -0.1, "b": -0.1}),
        "'a' and its alternatives sum to 1.810; ask again with temperature 1 and without top_p",
    ),
    "lengths that differ": (
        line(COMPLETION, *LOGPROBS, "tokens", to=["Q:"]),
        "1 tokens, but 2 token_logprobs and 2 top",
    ),
    "no token_logprobs": (line(COMPLETION, *LOGPROBS, "token_logprobs", to=...), "2 tokens, but 0 token_logprobs"),
    "unknown log-probabilities": (line(COMPLETION, *LOGPROBS, to={"words": []}), "unknown format"),
    "no choices": (line(COMPLETION, "choices", to=[]), "choices: .*at least 1"),
    "no name": (line(COMPLETION, "id", to=...), "no `custom_id` and no `id`"),
    "a fraction as name": (line(COMPLETION, "id", to=1.5), "id: .*a text or a whole number, not 1.5"),
    "true as name": (line(COMPLETION, "id", to=True), "id: .*a text or a whole number, not True"),
    "an id that is no number": (line(PROMPTED, *PROMPT_PART, 1, to={"x": {"logprob": -1.0}}), "prompt_logprobs"),
    "fewer ids than places": (
        line(PROMPTED, "choices", 0, "prompt_token_ids", to=[5]),
        "2 prompt_logprobs, but 1 prompt_tok",
    ),
    "no ids": (line(PROMPTED, "choices", 0, "prompt_token_ids", to=...), "but 0 prompt_token_ids; request return_tok"),
    "its own token untold": (
        line(PROMPTED, "choices", 0, "prompt_token_ids", to=[5, 8]),
        r"prompt_logprobs\[1\] lacks the prompt.s own token 8",
    ),
    "no byte": (line(CHAT, *LOGPROBS, "content", 0, "bytes", to=[300]), "less than or equal to 255, not 300"),
    "a body that is none": (b'{"custom_id": "e", "response": {"status_code": 200, "body": "ok"}}', "unknown format"),
    "a failure without a name": (b'{"response": {"status_code": 500}}', "no `custom_id` and no `id`"),
    "no response and no name": (b'{"response": null}', "no `custom_id` and no `id`"),
    "a wrapped answer without a name": (
        json.dumps({"response": {"status_code": 200, "body": COMPLETION}}).encode(),
        "no `custom_id` and no `id`",
    ),
    "an unknown body": (b'{"custom_id": "e", "body": {"x": 1}}', "unknown format"),
    "very deep": (b"[" * 100_000, "not JSON"),
    "half a pair": (b'{"id": "\\ud800", "choices": []}', "not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_reported_with_its_number_in_one_line(name):
    text, complaint = BAD[name]
    with pytest.raises(UserError, match=f"^file, line 1: .*{complaint}") as error:
        read_response(text, "file, line 1")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (changed(COMPLETION, *TOP, " a", to="-1"), "top_logprobs.1.' a': Input should be a valid number, not '-1'"),
        (changed(COMPLETION, *TOP, " a", to=5.0), "top_logprobs.1.' a': Input should be the log of a probability, "
         "a finite number less than or equal to 0.02, not 5.0"),
        (changed(COMPLETION, *LOGPROBS, "tokens", to={"a": 1}), "tokens: Input should be a valid list, not a dict"),
        (changed(COMPLETION, *TOP, to=[1]), "top_logprobs.1: Input should be a valid dictionary, not a list"),
        (changed(COMPLETION, *LOGPROBS, "token_logprobs", 1, to="x" * 99),
         "token_logprobs.1: Input should be a valid number, not 'xxxxxxxxxxxx...xxxxxxxxxxxxx'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_place_and_shown_shortened(content, complaint):
    with pytest.raises(UserError) as error:
        read(content)
    assert str(error.value) == f"file, line 1: choices.0.logprobs.{complaint}"


def test_a_line_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(responses, "MAX_LINE_BYTES", 10)
    with pytest.raises(UserError, match="line 1: over 0 MiB"):
        read_response(b" " * 11, "file, line 1")
    with pytest.raises(UserError, match="line 1: not JSON"):
        read_response(b" " * 10, "file, line 1")
    monkeypatch.setattr(responses, "MAX_LINE_BYTES", 3 * 2**20)
    with pytest.raises(UserError, match="line 1: over 3 MiB"):
        read_response(b" " * (3 * 2**20 + 1), "file, line 1")


@pytest.mark.parametrize(("size", "read"), [(0, True), (1, False)])
def test_a_line_may_be_as_long_as_the_limit(monkeypatch, tmp_path, size, read):
    line = b"data: " + json.dumps(COMPLETION).encode() + b" " * size
    monkeypatch.setattr(responses, "MAX_LINE_BYTES", len(line) - size)
    (tmp_path / "r.jsonl").write_bytes(line)
    if read:
        assert [found.example_id for found in read_responses(tmp_path / "r.jsonl")] == ["e1"]
    else:
        with pytest.raises(UserError, match=r"r\.jsonl, line 1: over"):
            list(read_responses(tmp_path / "r.jsonl"))


@pytest.mark.parametrize("text", [b"x" * 10_000_000, (b"x" * 999 + b"\n") * 10_000], ids=["one line", "many lines"])
def test_a_long_file_is_not_read_completely(monkeypatch, tmp_path, text):
    monkeypatch.setattr(responses, "MAX_LINE_BYTES", 900)
    (tmp_path / "r.jsonl").write_bytes(text)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"r\.jsonl, line 1: over"):
        list(read_responses(tmp_path / "r.jsonl"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_lines_are_numbered_and_blank_ones_skipped(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text(f"{json.dumps(COMPLETION)}\n\n{json.dumps(CHAT)}\n")
    assert [found.where for found in read_responses(file)] == [f"{file}, line 1", f"{file}, line 3"]


def test_lines_are_read_one_at_a_time(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text(f"{json.dumps(COMPLETION)}\nbroken\n")
    found = read_responses(file)
    assert next(found).example_id == "e1"
    with pytest.raises(UserError, match="line 2: not JSON"):
        next(found)


def wheres(file):
    return [(found.where.removeprefix(f"{file}, "), found.example_id) for found in read_responses(str(file))]


OBJECT = json.dumps(COMPLETION)
OTHER = json.dumps({**COMPLETION, "id": "e2"})
PRETTY = json.dumps(COMPLETION, indent=1)
LINES, ENTRIES = [("line 1", "e1"), ("line 2", "e2")], [("entry 1", "e1"), ("entry 2", "e2")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{OBJECT}\n{OTHER}", LINES),
        (f"[{OBJECT}]\n[{OTHER}]\n", LINES),
        (f"[{OBJECT}, {OTHER}]", ENTRIES),
        (f"\n [{OBJECT},\n{OTHER}]\n", ENTRIES),
        (f"{PRETTY}\n \n{OTHER}\n", ENTRIES),
        (f"{PRETTY}{OTHER}", ENTRIES),
        (PRETTY.replace("\n", "\r\n"), ENTRIES[:1]),
        (" " * 1023 + PRETTY, ENTRIES[:1]),
        ("\n" * 2000 + f"[{OBJECT}]", ENTRIES[:1]),
        ("\n" * 2000 + OBJECT, [("line 2001", "e1")]),
        (" " * 2000 + OBJECT + "\n", LINES[:1]),
        (f"[{OBJECT}, {OTHER}]".encode("utf-16"), ENTRIES),
        (codecs.BOM_UTF16_BE + f"{OBJECT}\n{OTHER}".encode("utf-16-be"), LINES),
        (codecs.BOM_UTF16_LE + PRETTY.encode("utf-16-le"), ENTRIES[:1]),
        (codecs.BOM_UTF8 + f"[{OBJECT}]".encode(), ENTRIES[:1]),
        (codecs.BOM_UTF8 + f" {PRETTY}".encode(), ENTRIES[:1]),
        (f": a remark\nid: 3\nretry: 9\nevent: x\ndata:{OBJECT}\ndata:  {OTHER}\ndata: [DONE]\n[DONE]\n",
         [("line 5", "e1"), ("line 6", "e2")]),
        ("", []),
        (" \n\n", []),
        ("[]", []),
    ],
)  # fmt: skip
def test_lists_objects_and_lines_are_told_apart(text, found, tmp_path):
    (tmp_path / "r").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert wheres(tmp_path / "r") == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"{\n", "line 1: not JSON"),
        (f"[{OBJECT}, {OTHER}".encode(), "line 1: not JSON"),
        (f"{PRETTY}\n[3]".encode(), "line 1: not JSON"),
        (b"[" * 100_000, "line 1: not JSON"),
        (b"{\n\xff}", "line 1: not JSON"),
        (b"[3]", "entry 1: unknown format"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8\x41\x00", r"not UTF-16, as its first bytes say \(illegal UTF-16 surrogate\)"),
    ],
)
def test_a_file_of_none_of_the_forms_is_refused_with_the_place(text, complaint, tmp_path):
    (tmp_path / "r").write_bytes(text)
    with pytest.raises(UserError, match=rf"^{tmp_path}/r[:,] {complaint}"):
        list(read_responses(tmp_path / "r"))


def test_a_stream_ends_at_done_and_is_placed_where_it_began(tmp_path):
    piece = {**COMPLETION, "object": "x.chunk"}
    text = f"data: {json.dumps(piece)}\n\ndata: {json.dumps(piece)}\n\ndata: [DONE]\n"
    (tmp_path / "r").write_text(text * 2 + f"data: {json.dumps(piece)}\n")
    found = list(read_responses(tmp_path / "r"))
    assert [(each.where.split(", ")[-1], len(each.places)) for each in found] == [
        ("line 1", 4), ("line 6", 4), ("line 11", 2)
    ]  # fmt: skip


def test_an_unreadable_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        next(read_responses(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="cannot be read"):
        next(read_responses(tmp_path))


NAMES = st.sampled_from(
    ["id", "custom_id", "response", "error", "status_code", "body", "choices", "logprobs", "content", "tokens", "token",
     "token_logprobs", "top_logprobs", "prompt_logprobs", "prompt_token_ids", "bytes", "logprob", "decoded_token", "7"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(max_value=0.1) | st.text(max_size=4) | st.just(200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING, st.sampled_from([COMPLETION, CHAT, PROMPTED]), st.data())
def test_any_line_is_read_or_refused(anything, base, data):
    """One value of a valid response is replaced by anything."""
    paths = list(places(base))
    content = changed(base, *data.draw(st.sampled_from(paths)), to=anything)
    for each in (content, anything):
        with suppress(UserError):
            found = read(each)
            assert all(0 <= token.probability <= 1 for place in found.places for token in place.alternatives)


def places(content, path=()):
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield (*path, key)
        yield from places(content[key], (*path, key))


def test_an_unreadable_file_is_refused_at_the_call(tmp_path):
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        read_responses(tmp_path / "nowhere")
