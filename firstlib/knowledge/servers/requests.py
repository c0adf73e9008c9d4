"""The requests that ask a teacher behind a server for a split: what to send, under which id.

Three forms. `completions` and `vllm` send prompt and response, so that the teacher sees the right response, as in the
paper; `chat` sends the prompt alone, for servers that only chat.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

from firstlib.tasks.question import Item, as_example

Form = Literal["completions", "chat", "vllm"]
FORMS: tuple[str, ...] = get_args(Form)

_PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions", "vllm": "/v1/completions"}
_SPARE = 5  # alternatives beyond k, as some have no token here
_MOST = 20  # OpenAI's and vLLM's limit
_FEWEST = 5  # OpenAI's limit for completions
_LONGER = 16  # tokens that a chat may say beyond the right response's characters


def requests(items: Sequence[Item], form: Form, model: str, k: int) -> Iterator[dict[str, Any]]:
    """Yields one request an item, as lines of an OpenAI batch have them.

    Args:
        items: A split.
        form: What the server takes.
        model: The model's name on the server.
        k: Tokens that will be kept at each position.
    """
    for item in items:
        example = as_example(item)
        body = {"model": model, **_body(form, example.prompt, example.response, k)}
        yield {"custom_id": example.id, "method": "POST", "url": _PATHS[form], "body": body}


def _body(form: Form, prompt: str, response: str, k: int) -> dict[str, Any]:
    spare = max(k, min(k + _SPARE, _MOST))
    if form == "chat":
        return {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": len(response) + _LONGER,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": spare,
        }
    forced = {"prompt": prompt + response, "max_tokens": 1, "temperature": 0}
    if form == "vllm":
        return {**forced, "prompt_logprobs": spare, "return_token_ids": True}
    return {**forced, "echo": True, "logprobs": k if k <= _FEWEST else spare}


VLLM_SCRIPT = '''\
"""Asks a model through vLLM in Python: python {name}.py MODEL [GPUS]. Written by `first requests`.

Reads {name}.jsonl and writes responses-{name}.jsonl, for `first import-logprobs`.
"""

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams

here = Path(__file__).parent
lines = (here / "{name}.jsonl").read_text(encoding="utf-8").splitlines()
asked = [json.loads(line) for line in lines]
gpus = int(sys.argv[2]) if len(sys.argv) > 2 else 1  # that share the model
engine = LLM(sys.argv[1], tensor_parallel_size=gpus, max_logprobs={most}, enable_prefix_caching=False)
how = SamplingParams(prompt_logprobs={spare}, max_tokens=1, temperature=0.0)
with (here / "responses-{name}.jsonl").open("w", encoding="utf-8") as file:
    for request, output in zip(asked, engine.generate([each["body"]["prompt"] for each in asked], how)):
        places = [
            place
            and {{str(i): {{"logprob": t.logprob, "decoded_token": t.decoded_token}} for i, t in place.items()}}
            for place in output.prompt_logprobs
        ]
        told = {{"prompt_token_ids": list(output.prompt_token_ids), "prompt_logprobs": places}}
        file.write(json.dumps({{"custom_id": request["custom_id"], "model": sys.argv[1], **told}}) + "\\n")
'''


def vllm_script(name: str, k: int) -> str:
    """Returns a Python program that asks vLLM's engine what `<name>.jsonl` holds."""
    spare = max(k, min(k + _SPARE, _MOST))
    return VLLM_SCRIPT.format(name=name, spare=spare, most=max(spare, _MOST))
