"""The formats of servers: one short adapter each, and one table (`FORMATS`) of the fields that it reads.

Fields are named as in OpenAI's reference, vLLM 0.30's `entrypoints/openai` and `outputs.py`, SGLang's `meta_info`,
llama.cpp's `completion_probabilities`, Ollama's API and TGI's `details`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from firstlib.knowledge.servers.tokens import (
    ById,
    GeneratedToken,
    Id,
    ListedToken,
    LogProbability,
    Place,
    Schema,
    Token,
    generated_places,
    listed,
    place,
    places_by_id,
    probability_of,
    token_of,
)
from firstlib.runtime.errors import UserError


@dataclass(frozen=True)
class Told:
    """What the body of a response tells.

    Attributes:
        places: Positions of the prompt, the generated text, or both; None: it gives no log-probabilities.
        forced: Whether the places begin with the prompt (teacher forcing).
        completed: Whether it completes a text, rather than a chat: then it may hold its prompt, or have ignored `echo`.
        offset: Where the first place begins, in characters of prompt and answer, if told.
        prompt_tokens: Tokens that the server read, if told.
    """

    places: Sequence[Place] | None
    forced: bool = False
    completed: bool = False
    offset: int | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        servers: Whose it is.
        field: A body with this field has this format; the first of the table wins.
        reads: The fields that hold log-probabilities.
        read: The adapter: from a body to what it tells; `where` begins every message.
    """

    servers: str
    field: str
    reads: str
    read: Callable[[dict[str, Any], str], Told]


# -- OpenAI's completions and chats, and those who speak like it ---------------------------------------------------


class _LogProbabilities(Schema):
    content: list[GeneratedToken] | None = None
    tokens: list[str] | None = None
    token_ids: list[Id] | None = None
    token_logprobs: list[LogProbability | None] | None = None
    top_logprobs: list[dict[str, LogProbability | None] | None] | None = None
    text_offset: list[int] | None = None


class _WithPrompt(Schema):
    prompt_logprobs: list[ById | None] | None = None
    prompt_token_ids: list[Id] | None = None


class _Choice(_WithPrompt):
    logprobs: _LogProbabilities | None = None
    text: str | None = None
    message: Any = None


class _Usage(Schema):
    prompt_tokens: int | None = None


class _Prompt(Schema):
    logprobs: _LogProbabilities | None = None


class _Choices(_WithPrompt):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None
    prompt: list[_Prompt] | None = None


def _read_choices(content: dict[str, Any], where: str) -> Told:
    """The first choice counts, where a server was asked for several."""
    if not isinstance(content.get("prompt"), list):
        content = {name: value for name, value in content.items() if name != "prompt"}
    body = _Choices.model_validate(content)
    choice = body.choices[0]
    prompt, said = choice if choice.prompt_logprobs is not None else body, choice.logprobs
    echoed = body.prompt[0].logprobs if body.prompt else None  # Together's echo stands beside the choices
    if prompt.prompt_logprobs is None and said is None:
        return Told(None)
    before = _places_of(echoed, where) if echoed else _prompt_places(prompt, where)
    places = [] if said is None else _places_of(said, where)
    told = bool(places) and math.isnan(places[0].token.probability)
    return Told(
        before + ([] if told and before else places),
        forced=told or bool(before),
        completed=choice.text is not None and choice.message is None,
        offset=said.text_offset[0] if said and said.text_offset else None,
        prompt_tokens=body.usage.prompt_tokens if body.usage else None,
    )


def _prompt_places(prompt: _WithPrompt, where: str) -> list[Place]:
    if prompt.prompt_logprobs is None:
        return []
    return places_by_id(prompt.prompt_logprobs, prompt.prompt_token_ids or [], "prompt_logprobs", where)


def _places_of(logprobs: _LogProbabilities, where: str) -> list[Place]:
    if logprobs.tokens is not None:
        return _completion_places(logprobs, logprobs.tokens, where)
    if "content" in logprobs.model_fields_set:  # null if the teacher refused to answer
        return generated_places(logprobs.content or (), where)
    raise UserError(f"{where}: unknown format; {EXPECTED}")


def _completion_places(logprobs: _LogProbabilities, tokens: list[str], where: str) -> list[Place]:
    own = logprobs.token_logprobs or []
    top = logprobs.top_logprobs or [None] * len(tokens)
    ids: Sequence[int | None] = logprobs.token_ids or [None] * len(tokens)
    if not len(tokens) == len(own) == len(top) == len(ids):
        raise UserError(f"{where}: {len(tokens)} tokens, but {len(own)} token_logprobs and {len(top)} top_logprobs")
    return [
        place(_own(text, value, known), (token_of(t, v) for t, v in (others or {}).items()), where)
        for text, value, others, known in zip(tokens, own, top, ids, strict=True)
    ]


def _own(text: str, logprob: float | None, known: int | None) -> Token:
    """A text's own token: without a log-probability it is the prompt's first, which nothing precedes."""
    found = token_of(text, logprob, None, known)
    return Token(found.text, math.nan, None, found.id) if logprob is None else found


# -- vLLM in Python: a `RequestOutput` as JSON -----------------------------------------------------------------------


class _VllmOutput(Schema):
    token_ids: list[Id] = Field(default_factory=list)
    logprobs: list[ById | None] | None = None


class _VllmRequest(_WithPrompt):
    outputs: list[_VllmOutput] = Field(default_factory=list)


def _read_vllm(content: dict[str, Any], where: str) -> Told:
    request = _VllmRequest.model_validate(content)
    said = request.outputs[0] if request.outputs else _VllmOutput()
    places = places_by_id(said.logprobs, said.token_ids, "logprobs", where) if said.logprobs else []
    if request.prompt_logprobs is None and not places:
        return Told(None)
    before = _prompt_places(request, where)
    return Told(before + places, forced=bool(before))


# -- SGLang ------------------------------------------------------------------------------------------------------

_Triple = tuple[LogProbability | None, Id, str | None]


class _SglangMeta(Schema):
    model_config = ConfigDict(strict=False, frozen=True)  # tuples are lists in JSON
    input_token_logprobs: list[_Triple] | None = None
    input_top_logprobs: list[list[_Triple] | None] | None = None
    output_token_logprobs: list[_Triple] | None = None
    output_top_logprobs: list[list[_Triple] | None] | None = None


def _read_sglang(content: dict[str, Any], where: str) -> Told:
    meta = _SglangMeta.model_validate(content["meta_info"])
    before = _triples(meta.input_token_logprobs or [], meta.input_top_logprobs or [], where)
    after = _triples(meta.output_token_logprobs or [], meta.output_top_logprobs or [], where)
    return Told(before + after if before or after else None, forced=bool(before))


def _triples(own: Sequence[_Triple], top: Sequence[list[_Triple] | None], where: str) -> list[Place]:
    if top and len(top) != len(own):
        raise UserError(f"{where}: {len(own)} token_logprobs, but {len(top)} top_logprobs; request logprob_start_len=0")
    rows = top or [None] * len(own)
    return [
        place(
            Token(text or "", math.nan if log is None else probability_of(log), id=known),
            (Token(t or "", probability_of(v), id=i) for v, i, t in row or ()),
            where,
        )
        for (log, known, text), row in zip(own, rows, strict=True)
    ]


# -- llama.cpp, Ollama, TGI, OpenAI's Responses ----------------------------------------------------------------------


class _LlamaCpp(Schema):
    completion_probabilities: list[GeneratedToken] | None


def _read_llama_cpp(content: dict[str, Any], where: str) -> Told:
    rows = content["completion_probabilities"]
    if isinstance(rows, list) and any(isinstance(row, dict) and {"probs", "top_probs"} & row.keys() for row in rows):
        raise UserError(
            f"{where}: completion_probabilities hold processed probabilities, not `logprob`; update llama.cpp, and ask "
            "without post_sampling_probs"
        )
    said = _LlamaCpp.model_validate(content).completion_probabilities
    return Told(generated_places(said, where) if said else None, completed=True)


class _Ollama(Schema):
    logprobs: list[GeneratedToken] | None = None


def _read_ollama(content: dict[str, Any], where: str) -> Told:
    said = _Ollama.model_validate(content).logprobs
    return Told(generated_places(said, where) if said is not None else None, completed="response" in content)


class _TgiDetails(Schema):
    prefill: list[ListedToken] = Field(default_factory=list)
    tokens: list[ListedToken] | None = None
    top_tokens: list[list[ListedToken]] | None = None


class _Tgi(Schema):
    details: _TgiDetails | None


def _read_tgi(content: dict[str, Any], where: str) -> Told:
    """The prompt's tokens (`prefill`) have no alternatives, so only the generated ones are read."""
    details = _Tgi.model_validate(content).details
    if details is None or details.tokens is None:
        return Told(None)
    top = details.top_tokens or [[] for _ in details.tokens]
    if len(top) != len(details.tokens):
        raise UserError(f"{where}: {len(details.tokens)} tokens, but {len(top)} top_tokens; request top_n_tokens")
    pairs = zip(details.tokens, top, strict=True)
    return Told([place(listed(token), map(listed, others), where) for token, others in pairs], completed=True)


class _OutputText(Schema):
    logprobs: list[GeneratedToken] | None = None


class _OutputItem(Schema):
    type: str = "message"
    content: list[_OutputText] | None = None


class _OpenAIResponse(Schema):
    output: list[_OutputItem]


def _read_openai_response(content: dict[str, Any], where: str) -> Told:
    output = _OpenAIResponse.model_validate(content).output
    texts = [text for item in output if item.type == "message" for text in item.content or ()]
    said = [token for text in texts for token in text.logprobs or ()]
    return Told(generated_places(said, where) if said else None)


FORMATS = (
    Format(
        "OpenAI completions and chat, vLLM, LMDeploy, Fireworks, Together, llama.cpp's and SGLang's /v1",
        "choices",
        "`choices[0].logprobs` (`tokens`, `token_logprobs`, `top_logprobs`, or `content`), `prompt_logprobs` with "
        "`prompt_token_ids`, Together's `prompt[0].logprobs`",
        _read_choices,
    ),
    Format("SGLang /generate", "meta_info", "`input_token_logprobs`, `input_top_logprobs`, `output_...`", _read_sglang),
    Format("llama.cpp /completion", "completion_probabilities", "`completion_probabilities`", _read_llama_cpp),
    Format("TGI /generate", "details", "`details.tokens` and `details.top_tokens`", _read_tgi),
    Format("OpenAI Responses", "output", "`output[].content[].logprobs`", _read_openai_response),
    Format("vLLM in Python (RequestOutput)", "prompt_logprobs", "`prompt_logprobs`, `outputs[0].logprobs`", _read_vllm),
    Format("vLLM in Python (RequestOutput)", "outputs", "`prompt_logprobs`, `outputs[0].logprobs`", _read_vllm),
    Format("Ollama /api/generate and /api/chat", "done", "`logprobs`", _read_ollama),
)

EXPECTED = (
    "expected an OpenAI or vLLM completion with log-probabilities (`choices[0].logprobs` or `prompt_logprobs`), or the "
    "form of SGLang, llama.cpp, Ollama, TGI or OpenAI's Responses, alone or as `response.body` of a batch's line"
)


def format_of(content: Any) -> Format | None:
    """Returns the format of a body, by its fields; None if it is none of the table's."""
    if not isinstance(content, dict):
        return None
    return next((each for each in FORMATS if each.field in content), None)
