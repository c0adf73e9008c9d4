"""A server on loopback: a stub that fails as servers do, and llama.cpp's own where it is installed."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from firstlib.knowledge.servers import live
from firstlib.knowledge.servers.live import Server, answered, ask_server, first_model
from firstlib.knowledge.servers.requests import FORMS, requests, vllm_script
from firstlib.runtime.errors import UserError
from firstlib.tasks.question import Example, Question

QUESTION = Question("q", "Q: Red? A:", " The answer is (", ("a", "b"), ").", 1, ("yes", "no"))
ITEMS = [QUESTION, Example("e", "Go.", " Gone.")]


class Stub(ThreadingHTTPServer):
    """Answers each request with the next of `script`, a status or a body, and then always with its last."""

    def __init__(self, script=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.keys, self.headers = list(script), [], [], {}
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, {"data": [{"id": "the-model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        self.server.keys.append(self.headers.get("Authorization"))
        step = self.server.script.pop(0) if self.server.script else {"choices": []}
        self.reply(*((step, {"error": "no"}) if isinstance(step, int) else (200, step)))

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
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


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_requests_hold_prompt_and_response_or_the_prompt_alone():
    forced, chat, vllm = (asked(form)[0] for form in FORMS)
    assert {each["custom_id"] for each in (forced, chat, vllm)} == {"q"}
    text = "Q: Red? A: The answer is (b)."
    assert forced["body"] == {
        "model": "m",
        "prompt": text,
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": 5,
    }
    assert chat["url"] == "/v1/chat/completions"
    assert chat["body"]["messages"] == [{"role": "user", "content": "Q: Red? A:"}]
    assert chat["body"]["top_logprobs"] == vllm["body"]["prompt_logprobs"] == 10
    assert vllm["body"]["prompt"] == text
    assert vllm["body"]["return_token_ids"] is True


def test_the_program_for_vllm_is_valid_python():
    text = vllm_script("own-train", 5)
    compile(text, "own-train.py", "exec")
    assert "prompt_logprobs=10" in text
    assert "responses-own-train.jsonl" in text


def test_every_request_is_answered_once(stub, tmp_path):
    one = stub()
    ask_server(server(one), asked(), tmp_path / "r.jsonl", 2)
    assert {line["custom_id"] for line in lines(tmp_path / "r.jsonl")} == {"q", "e"}
    assert [path for path, _ in one.seen] == ["/v1/completions"] * 2
    ask_server(server(one), asked(), tmp_path / "r.jsonl", 2)
    assert len(one.seen) == 2  # nothing is asked again


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


def test_a_question_that_the_server_refuses_is_kept_as_refused(stub, tmp_path):
    ask_server(server(stub(400), concurrency=1), asked(), tmp_path / "r.jsonl", 2)
    assert [line["response"]["status_code"] for line in lines(tmp_path / "r.jsonl")] == [400, 200]


@pytest.mark.parametrize(("script", "complaint"), [([401], "answers 401 .*FIRST_API_KEY"), ([503] * 9, "fails again")])
def test_a_server_that_does_not_answer_costs_one_line_and_resumes(stub, tmp_path, script, complaint):
    one = stub({"choices": []}, *script)
    with pytest.raises(UserError, match=complaint) as error:
        ask_server(server(one, concurrency=1, retries=2), asked(), tmp_path / "r.jsonl", 2)
    assert "\n" not in str(error.value)
    assert answered(tmp_path / "r.jsonl") == {"q"}
    one.script = []
    ask_server(server(one, concurrency=1), asked(), tmp_path / "r.jsonl", 2)
    assert answered(tmp_path / "r.jsonl") == {"q", "e"}


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
