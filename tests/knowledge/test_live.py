"""A server on loopback: a stub that fails as servers do, and llama.cpp's own where it is installed."""

import http.client
import io
import json
import resource
import threading
import time
import urllib.error
from concurrent.futures import wait
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from firstlib.knowledge.servers import live
from firstlib.knowledge.servers.live import Server, answered, ask_server, first_model
from firstlib.knowledge.servers.requests import FORMS, requests, vllm_script
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import PROGRESS_FILE
from firstlib.tasks.question import Example, Question

QUESTION = Question("q", "Q: Red? A:", " The answer is (", ("a", "b"), ").", 1, ("yes", "no"))
ITEMS = [QUESTION, Example("e", "Go.", " Gone.")]


class Stub(ThreadingHTTPServer):
    """Answers each request with the next of `script`, a status, a body or both, and with no choices after the last."""

    request_queue_size = 64

    def __init__(self, script=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.keys, self.headers = list(script), [], [], {}
        self.models, self.kinds, self.held = [{"id": "the-model"}, {"id": "another"}], set(), None
        self.listing, self.lost = 200, 0  # status of the list of models; bytes that the next body is cut short by
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(self.server.listing, {"data": self.server.models} if self.path == "/v1/models" else {"data": []})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        self.server.keys.append(self.headers.get("Authorization"))
        self.server.kinds.add(self.headers.get("Content-Type"))
        if self.server.held:
            self.server.held.wait(timeout=5)
        step = self.server.script.pop(0) if self.server.script else {"choices": []}
        step = (step, {"error": "no"}) if isinstance(step, int) else step
        self.reply(*(step if isinstance(step, tuple) else (200, step)))

    def reply(self, status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) + self.server.lost))
        self.server.lost = 0
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    made = []

    def start(*script):
        made.append(Stub(script))
        return made[-1]

    yield start
    for each in made:
        each.shutdown()
        each.server_close()


def server(stub, **changes):
    return Server(stub.url, **{"pause": 0.01, "concurrency": 2, **changes})


def asked(form="completions"):
    return list(requests(ITEMS, form, "m", 5))


def numbered(count):
    return [Example(str(number), "Go.", " Gone.") for number in range(count)]


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_requests_hold_prompt_and_response_or_the_prompt_alone():
    forced, chat, vllm = (asked(form)[0] for form in FORMS)
    text = "Q: Red? A: The answer is (b)."
    said = {"model": "m", "prompt": text, "max_tokens": 1, "temperature": 0}
    post = {"custom_id": "q", "method": "POST", "url": "/v1/completions"}
    assert forced == {**post, "body": {**said, "echo": True, "logprobs": 5}}
    assert vllm == {**post, "body": {**said, "prompt_logprobs": 10, "return_token_ids": True}}
    assert chat == {**post, "url": "/v1/chat/completions", "body": {
        "model": "m", "messages": [{"role": "user", "content": "Q: Red? A:"}], "temperature": 0,
        "max_tokens": len(" The answer is (b).") + 16, "logprobs": True, "top_logprobs": 10}}  # fmt: skip


@pytest.mark.parametrize(("k", "spare", "forced"), [(1, 6, 1), (5, 10, 5), (6, 11, 11), (16, 20, 20), (30, 30, 30)])
def test_five_more_alternatives_than_k_are_asked_for_up_to_the_limits(k, spare, forced):
    """OpenAI's completions give at most 5, and chats 20; what is above both is asked for as it is."""
    completions, chat, vllm = (next(requests(ITEMS, form, "m", k))["body"] for form in FORMS)
    assert (completions["logprobs"], chat["top_logprobs"], vllm["prompt_logprobs"]) == (forced, spare, spare)
    assert f"SamplingParams(prompt_logprobs={spare}, " in vllm_script("s", k)
    assert f"max_logprobs={max(spare, 20)}, " in vllm_script("s", k)


def test_the_program_for_vllm_is_valid_python():
    text = vllm_script("own-train", 5)
    compile(text, "own-train.py", "exec")
    assert "prompt_logprobs=10" in text
    assert "responses-own-train.jsonl" in text


def test_every_request_is_answered_once(stub, tmp_path):
    one = stub()
    ask_server(server(one), asked(), tmp_path / "r.jsonl", 2)
    answer = {"status_code": 200, "body": {"choices": []}}
    assert sorted(lines(tmp_path / "r.jsonl"), key=str) == [
        {"custom_id": name, "response": answer} for name in ("e", "q")
    ]
    assert sorted(one.seen, key=str) == sorted(((each["url"], each["body"]) for each in asked()), key=str)
    assert (one.kinds, one.keys) == ({"application/json"}, [None] * 2)
    ask_server(server(one), asked(), tmp_path / "r.jsonl", 2)
    assert len(one.seen) == 2  # nothing is asked again


def test_as_many_requests_run_at_a_time_as_asked_for(stub, tmp_path):
    one = stub()
    one.held = threading.Barrier(40)  # opens when so many requests have arrived, and never for fewer
    asking = requests(numbered(40), "chat", "m", 5)
    ask_server(server(one, concurrency=40, retries=0), asking, tmp_path / "r.jsonl", 40)
    assert len(answered(tmp_path / "r.jsonl")) == 40


class UntilThird:
    """The first request waits until the third has come."""

    def __init__(self):
        self.came, self.numbers = threading.Event(), iter(range(9))

    def wait(self, timeout):
        number = next(self.numbers)
        if number == 2:
            self.came.set()
        assert number or self.came.wait(timeout)


def test_a_slow_answer_does_not_hold_up_the_others(stub, tmp_path):
    one = stub()
    one.held = UntilThird()
    asking = requests(numbered(3), "chat", "m", 5)
    ask_server(server(one, retries=0), asking, tmp_path / "r.jsonl", 3)
    assert answered(tmp_path / "r.jsonl") == set("012")


def test_an_answer_is_not_awaited_for_ever(stub, monkeypatch, tmp_path):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    one = stub()
    one.held = threading.Event()
    with pytest.raises(UserError, match=r"fails again and again \(timed out\)"):
        ask_server(server(one, concurrency=1, retries=0), asked(), tmp_path / "r.jsonl", 2)
    one.held.set()


def test_no_more_requests_are_made_than_run(stub, tmp_path):
    """A split may be large, so its requests are not all held."""
    taken = []

    def watched():
        for each in asked():
            taken.append(each["custom_id"])
            yield each

    with pytest.raises(UserError, match="answers 401"):
        ask_server(server(stub(401), concurrency=1), watched(), tmp_path / "r.jsonl", 2)
    assert taken == ["q"]


def test_progress_counts_what_an_earlier_attempt_has_answered(stub, tmp_path, monkeypatch):
    shown = tmp_path / "progress"
    monkeypatch.setenv(PROGRESS_FILE, str(shown))
    ask_server(server(stub(), concurrency=1), asked()[:1], tmp_path / "r.jsonl", 2)
    assert json.loads(shown.read_text())["total"] == 2
    ask_server(server(stub(), concurrency=1), asked(), tmp_path / "r.jsonl", 2)
    assert json.loads(shown.read_text()) == {"label": "asking the server", "done": 2, "total": 2}


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_was_answered_is_on_disk_before_the_next_request_is_made(stub, tmp_path, concurrency):
    file, one = tmp_path / "r.jsonl", stub()

    def watched():
        for number, each in enumerate(requests(numbered(6), "chat", "m", 5)):
            assert number - len(answered(file)) < concurrency
            yield each

    ask_server(server(one, concurrency=concurrency), watched(), file, 6)
    assert len(one.seen) == 6


def test_the_key_comes_from_the_environment(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    one = stub()
    ask_server(server(one, key="MY_KEY"), asked(), tmp_path / "r.jsonl", 2)
    assert one.keys == ["Bearer secret"] * 2


def test_failures_that_pass_are_asked_again_with_growing_pauses(stub, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(live.time, "sleep", pauses.append)
    one = stub(429, 503, 500)
    ask_server(server(one, concurrency=1), asked()[:1], tmp_path / "r.jsonl", 1)
    assert len(one.seen) == 4
    assert pauses == [0.01, 0.02, 0.04]
    one.script, one.headers = [429], {"Retry-After": "7"}
    ask_server(server(one, concurrency=1), asked()[1:], tmp_path / "r.jsonl", 1)
    assert pauses[-1] == 7  # as long as the server asks for


@pytest.mark.parametrize("script", [[], [503]])
def test_a_body_that_was_cut_off_is_asked_again(stub, tmp_path, script):
    one = stub(*script)
    one.lost = 5
    ask_server(server(one, concurrency=1), asked()[:1], tmp_path / "r.jsonl", 1)
    assert len(one.seen) == 2
    assert lines(tmp_path / "r.jsonl")[0]["response"] == {"status_code": 200, "body": {"choices": []}}


def test_bodies_that_are_always_cut_off_cost_one_line(stub, tmp_path):
    one = stub()
    one.lost = 5
    with pytest.raises(UserError, match=r"fails again and again \(IncompleteRead.*\); answers so far are kept"):
        ask_server(server(one, retries=0), asked()[:1], tmp_path / "r.jsonl", 1)


def test_a_refusal_that_cannot_be_read_has_its_status():
    class Cut(io.BytesIO):
        def read(self, *_):
            raise http.client.IncompleteRead(b"")

    assert live._beginning(urllib.error.HTTPError("http://x", 503, "", None, Cut())) == ""


@pytest.mark.parametrize(("after", "pause"), [("Wed, 21 Oct 2026 07:28:00 GMT", 0.01), ("0.001", 0.01), ("0.5", 0.5)])
def test_a_server_may_ask_for_a_longer_pause_only(stub, tmp_path, monkeypatch, after, pause):
    pauses = []
    monkeypatch.setattr(live.time, "sleep", pauses.append)
    one = stub(429)
    one.headers = {"Retry-After": after}
    ask_server(server(one, concurrency=1), asked()[:1], tmp_path / "r.jsonl", 1)
    assert pauses == [pause]


def test_pauses_stop_growing_at_a_minute(monkeypatch):
    pauses = []
    monkeypatch.setattr(live.time, "sleep", pauses.append)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 fails again and again .*refused.*; answers so far are kept"):
        first_model(Server("http://127.0.0.1:9", pause=0.5, retries=9))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("status", [400, 422])
def test_a_question_that_the_server_refuses_is_kept_as_refused(stub, tmp_path, status):
    ask_server(server(stub(status), concurrency=1), asked(), tmp_path / "r.jsonl", 2)
    assert [line["response"] for line in lines(tmp_path / "r.jsonl")] == [
        {"status_code": status, "body": '{"error": "no"}'}, {"status_code": 200, "body": {"choices": []}}
    ]  # fmt: skip


def test_the_beginning_of_a_long_refusal_is_kept_whatever_its_bytes(stub, tmp_path):
    ask_server(server(stub((400, b"\xff" + b"x" * 999))), asked()[:1], tmp_path / "r.jsonl", 1)
    assert lines(tmp_path / "r.jsonl")[0]["response"]["body"] == "\N{REPLACEMENT CHARACTER}" + "x" * 499


def test_an_answer_that_is_no_json_names_the_server(stub, tmp_path):
    one = stub(b"<html>\nlog in</html>")
    with pytest.raises(
        UserError, match=rf"knowledge\.server: {one.url} answers without JSON \(Expecting value"
    ) as error:
        ask_server(server(one), asked(), tmp_path / "r.jsonl", 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [([401], r"/v1/completions answers 401 \('{\"error\": \"no\"}'\); .*FIRST_API_KEY"),
     ([503] * 9, r"fails again and again \(status 503\)")],
)  # fmt: skip
def test_a_server_that_does_not_answer_costs_one_line_and_resumes(stub, tmp_path, script, complaint):
    one = stub({"choices": []}, *script)
    with pytest.raises(UserError, match=complaint) as error:
        ask_server(server(one, concurrency=1, retries=2), asked(), tmp_path / "r.jsonl", 2)
    assert "\n" not in str(error.value)
    assert answered(tmp_path / "r.jsonl") == {"q"}
    one.script = []
    ask_server(server(one, concurrency=1), asked(), tmp_path / "r.jsonl", 2)
    assert answered(tmp_path / "r.jsonl") == {"q", "e"}


class FirstIsLast:
    """The first request to come is answered a moment after all that the script holds."""

    def __init__(self, one):
        self.one, self.numbers = one, iter(range(9))

    def wait(self, timeout):
        if next(self.numbers) == 0:
            until = time.monotonic() + timeout
            while self.one.script and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.3)


def test_what_is_in_flight_when_a_request_fails_is_kept(stub, tmp_path):
    one = stub(401)
    one.held = FirstIsLast(one)
    asking = requests(numbered(5), "chat", "m", 5)
    with pytest.raises(UserError, match="answers 401"):
        ask_server(server(one, retries=0), asking, tmp_path / "r.jsonl", 5)
    assert len(answered(tmp_path / "r.jsonl")) == 1
    assert len(one.seen) == 2  # and none is sent after the failure


def test_what_comes_at_once_with_a_failure_is_kept(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "wait", lambda running, **_: wait(running))  # for all
    asking = requests(numbered(8), "chat", "m", 5)
    with pytest.raises(UserError, match="answers 401"):
        ask_server(server(stub(401), concurrency=8), asking, tmp_path / "r.jsonl", 8)
    assert len(answered(tmp_path / "r.jsonl")) == 7


@contextmanager
def full_disk():
    """Nothing can be written, as far as this process knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_does_not_lose_the_answers(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"custom_id": "q"}\n{"custom_id": "e", "resp')
    with full_disk():
        assert answered(file) == {"q"}
    assert file.read_text() == '{"custom_id": "q"}\n'


def test_a_line_that_was_cut_short_is_asked_again(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"custom_id": "q"}\n{"custom_id": "e", "resp')
    assert answered(file) == {"q"}
    assert file.read_text() == '{"custom_id": "q"}\n'


def test_nobody_at_the_address(tmp_path):
    with pytest.raises(UserError, match="fails again and again"):
        ask_server(Server("http://127.0.0.1:9", pause=0.0, retries=1), asked(), tmp_path / "r.jsonl", 2)


def test_the_first_model_is_taken(stub):
    assert first_model(server(stub())) == "the-model"


@pytest.mark.parametrize("models", [[], [{}], None])
def test_a_server_without_models_needs_one_named(stub, models):
    one = stub()
    one.models = models
    with pytest.raises(UserError, match=rf"{one.url} lists no model; set knowledge\.server_model"):
        first_model(server(one))


@pytest.mark.parametrize("status", [400, 501])
def test_a_server_that_refuses_to_list_models_needs_one_named(stub, status):
    one = stub()
    one.listing = status
    with pytest.raises(UserError, match=rf"{one.url} lists no model; set knowledge\.server_model"):
        first_model(server(one))


@pytest.mark.parametrize("url", ["http://x:1", "http://x:1/", "http://x:1/v1", "http://x:1/v1/"])
def test_an_address_may_end_with_v1_or_not(url):
    assert Server(url).root == "http://x:1"
