"""llama.cpp's server on loopback tells what the same model gives here.

Needs a Python with llama-cpp-python[server] and gguf, which this project does not install:
`FIRST_LLAMA_CPP=/path/to/python pytest tests/knowledge/test_real_server.py`.
"""

import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tokenizers import PROMPT, RESPONSE, sentence_piece
from transformers import LlamaConfig, LlamaForCausalLM

from firstlib.knowledge import KnowledgeStore, Origin, extract_top_k
from firstlib.knowledge.servers.live import Server, ask_server, first_model
from firstlib.knowledge.servers.logprobs import import_logprobs
from firstlib.knowledge.servers.matching import Rules
from firstlib.knowledge.servers.requests import requests
from firstlib.tasks.encoding import encode
from firstlib.tasks.question import Example

PYTHON = os.environ.get("FIRST_LLAMA_CPP")
ITEMS = [Example(f"e{at}", PROMPT.replace("naïve", word), RESPONSE) for at, word in enumerate(("small", "red", "old"))]

pytestmark = pytest.mark.skipif(not PYTHON, reason="FIRST_LLAMA_CPP names no Python with llama-cpp-python")


@pytest.fixture
def model(tmp_path):
    tokenizer = sentence_piece()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    built = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # llama.cpp writes bytes that are no characters all alike: they shall not be probable
        built.lm_head.weight[: tokenizer.convert_tokens_to_ids("<0xFF>") + 1] = 0
    built.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return built


@pytest.fixture
def served(model, tmp_path):
    writer = Path(__file__).parent / "write_gguf.py"
    subprocess.run([PYTHON, writer, tmp_path / "model", tmp_path / "model.gguf"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", tmp_path / "model.gguf", "--port", port, "--logits_all", "True", "--n_ctx", 512]
    command = [PYTHON, "-m", "llama_cpp.server", *options]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}/v1"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/models", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield url
        process.terminate()


def test_llama_cpp_tells_what_the_model_gives_here(model, served, tmp_path):
    tokenizer, server = sentence_piece(), Server(served, concurrency=2)
    examples = [encode(tokenizer, item) for item in ITEMS]
    ask_server(server, requests(ITEMS, "completions", first_model(server), 5), tmp_path / "r.jsonl", len(ITEMS))
    (tmp_path / "store").mkdir()
    origin = Origin("teacher", "tokenizer", "data", 5)
    report = import_logprobs(tmp_path / "r.jsonl", tmp_path / "store", examples, tokenizer, origin, Rules(5))
    assert report.imported == report.positions
    ours = {item.example_id: item for item in extract_top_k(model, examples, 5)}
    for item in KnowledgeStore(tmp_path / "store", origin):
        wanted = ours[item.example_id]
        np.testing.assert_allclose(item.probabilities, wanted.probabilities, rtol=0.05, atol=2e-3)
        assert (item.token_ids == wanted.token_ids).mean() > 0.9  # near ties may swap
