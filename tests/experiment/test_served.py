"""A run whose teacher is a live server: the tiny teacher behind OpenAI's completions, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from command_line import first_here

from firstlib import Experiment
from firstlib.models import loading


class Teacher(BaseHTTPRequestHandler):
    """Echoes a text with its log-probabilities; refuses texts that the test names."""

    def do_GET(self):
        self.reply(200, {"data": [{"id": "tiny"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.seen += 1
        if any(text in body["prompt"] for text in server.refused):
            self.reply(400, {"error": {"code": "content_filter"}})
            return
        ids = server.tokenizer(body["prompt"])["input_ids"]
        with torch.no_grad():
            logs = server.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        names = [server.tokenizer.convert_ids_to_tokens(i) for i in range(len(server.tokenizer))]
        rows = [{names[i]: float(log[i]) for i in log.topk(body["logprobs"]).indices.tolist()} for log in logs]
        own = [None, *(float(log[i]) for log, i in zip(logs, ids[1:], strict=False))]
        said = {"tokens": [names[i] for i in ids], "token_logprobs": own, "top_logprobs": [None, *rows[:-1]]}
        said = {name: [*values, values[-1]] for name, values in said.items()}  # and one token more
        said["top_logprobs"][-1] = rows[-1]
        said["tokens"][-1] = names[int(logs[-1].argmax())]
        self.reply(200, {"model": "tiny", "choices": [{"text": "", "logprobs": said}]})

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def teacher(base):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Teacher)
    server.model, server.tokenizer = loading.load_base(base).eval(), loading.load_tokenizer(base)
    server.refused, server.seen = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    server.server_close()


def served(tiny_preset, tmp_path, teacher, *more):
    overrides = [f"knowledge.server={teacher.url}", "teacher.base=nobody/unknown", *more]
    return Experiment(str(tiny_preset), run_folder=str(tmp_path / "runs"), overrides=overrides)


def test_a_live_server_is_the_teacher(tiny_preset, tmp_path, teacher):
    experiment = served(tiny_preset, tmp_path, teacher)
    store = experiment.knowledge("csqa")
    assert len(store) == 24
    plain = Experiment(str(tiny_preset), run_folder=str(tmp_path / "plain"))
    example = plain.run.data.encoded("csqa", "train")[0]
    with torch.no_grad():
        logits = teacher.model(input_ids=torch.tensor([example.token_ids])).logits[0, example.start - 1]
    top = logits.softmax(-1).topk(5)
    assert store[example.id].token_ids[0].tolist() == top.indices.tolist()
    assert store[example.id].probabilities[0].tolist() == pytest.approx(top.values.tolist(), rel=1e-2)
    asked = teacher.seen
    assert len(served(tiny_preset, tmp_path, teacher).knowledge("csqa")) == 24
    assert teacher.seen == asked


def test_a_question_that_the_server_refuses_is_left_out_for_all(tiny_preset, tmp_path, teacher):
    plain = Experiment(str(tiny_preset), run_folder=str(tmp_path / "plain"))
    refused = plain.questions("csqa", "test")[3]
    teacher.refused = [refused.prompt]
    experiment = served(tiny_preset, tmp_path, teacher)
    assert len(experiment.questions("csqa", "test")) == 15
    assert refused.id not in experiment.predictions("teacher", "csqa", "csqa").question_id
    assert len(experiment.base_predictions("student", "csqa")) == 15
    assert experiment.run.data.unanswered("csqa", "test") == (refused.id,)


def test_too_many_refused_questions_stop_the_run(tiny_preset, tmp_path, teacher):
    plain = Experiment(str(tiny_preset), run_folder=str(tmp_path / "plain"))
    teacher.refused = [question.prompt for question in plain.questions("csqa", "test")[:2]]
    with pytest.raises(Exception, match=r"2 of 16 questions have no answer.*data\.max_unusable"):
        served(tiny_preset, tmp_path, teacher).questions("csqa", "test")
    more = served(tiny_preset, tmp_path, teacher, "data.max_unusable=0.2")
    assert len(more.questions("csqa", "test")) == 14


def test_the_command_writes_requests(tiny_preset, tmp_path):
    for form, names in (("completions", ["csqa-test.jsonl"]), ("vllm", ["csqa-test.jsonl", "csqa-test.py"])):
        to = tmp_path / form
        done = first_here("requests", "--task", "csqa", "--split", "test", "--to", to, "--for", form,
                          "--preset", tiny_preset)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in to.iterdir()) == names
        lines = [json.loads(line) for line in (to / "csqa-test.jsonl").read_text().splitlines()]
        assert len(lines) == 16
        assert "The answer is (" in lines[0]["body"]["prompt"]
    wrong = first_here("requests", "--task", "csqa", "--to", tmp_path, "--for", "tgi", "--preset", tiny_preset)
    assert wrong.returncode == 2
    assert "the forms are completions, chat, vllm" in " ".join(wrong.stderr.split())


def test_a_changed_server_gets_a_place_of_its_own(tmp_path):
    served = {"server": "http://127.0.0.1:9/v1", "server_model": "a"}
    texts = [f"knowledge.{name}={value}" for name, value in served.items()]
    one = Experiment("smoke", run_folder=str(tmp_path), overrides=texts)
    other, local = one.change(knowledge__server_model="b"), one.change(knowledge__server=None)
    places = [each.settings.knowledge.imported for each in (one, one.change(training__epochs=2), other)]
    assert places[0] == places[1] != places[2]
    assert local.settings.knowledge.imported is None
    again = local.change(**{f"knowledge__{name}": value for name, value in served.items()})
    assert again.settings.knowledge.imported == places[0]
