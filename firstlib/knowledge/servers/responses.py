"""Parses the responses of an API-only teacher: one `Response` per line of JSONL, in several formats.

Formats are recognised by their fields (named as in OpenAI's reference and in vLLM 0.30's
`entrypoints/openai/completion/protocol.py`):

- the envelope of a batch, `{"custom_id", "response": {"status_code", "body"}}`, or the body alone, whose `custom_id`
  or `id` is then the example's id;
- in the body, completions with `choices[0].logprobs = {tokens, token_logprobs, top_logprobs}`; with `echo` the
  first log-probability is null, because nothing precedes the prompt's first token;
- chat completions with `choices[0].logprobs.content = [{token, bytes, logprob, top_logprobs}]`;
- vLLM's `prompt_logprobs = [null, {"<token id>": {logprob, rank, decoded_token}}, ...]` with `prompt_token_ids`,
  in the choice (completions) or beside the choices (chat), followed by the generated tokens.

Servers write -9999 for "very unlikely", which becomes probability 0.
"""

import math
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NotRequired

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from firstlib.metrics.checks import SUM_TOLERANCE
from firstlib.runtime.errors import UserError

MAX_LINE_BYTES = 2**25  # 32 MiB
EXPECTED = (
    "expected an OpenAI or vLLM completion with log-probabilities: `choices[0].logprobs` with `tokens` or `content`, "
    "or `prompt_logprobs`, alone or as `response.body` of a batch's line"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the server returns it.

    Attributes:
        text: As in the response; servers spell spaces and bytes differently.
        probability: In [0, 1]; NaN if the server gives none.
        raw: Its bytes, if the server gives them.
        id: Its id in the teacher's vocabulary, if the server gives it.
    """

    text: str
    probability: float
    raw: bytes | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One position of the teacher's text.

    Attributes:
        token: The token at this position; None if the server does not name it, as for the first token of a prompt.
        alternatives: The most probable tokens at this position, in order; empty if the server gives none.
    """

    token: Token | None
    alternatives: tuple[Token, ...]


@dataclass(frozen=True)
class Response:
    """The answer to one request.

    Attributes:
        where: File and line, for error messages.
        example_id: Id of the example that was asked about.
        places: Positions of the prompt, the generated text, or both.
        forced: Whether the places include the prompt (teacher forcing), not only generated text.
        token_ids: Token ids of the prompt's places, if the server gives them.
        model: The model that answered, as the server names it.
        failure: Why the request failed; empty if it succeeded.
    """

    where: str
    example_id: str
    places: tuple[Place, ...] = ()
    forced: bool = False
    token_ids: tuple[int, ...] = ()
    model: str = ""
    failure: str = ""


def read_responses(path: Path | str) -> Iterator[Response]:
    """Yields the responses of a JSONL file line by line, so memory use does not grow with the file.

    Raises:
        UserError: The file cannot be read (raised by the call itself), or a line is not a valid response (raised during
            iteration; the message names the line and the expected format).
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a JSONL file of responses") from error
    return _read_lines(file, path)


def _read_lines(file: BinaryIO, path: Path) -> Iterator[Response]:
    with file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if line.strip():
                yield read_response(line, f"{path}, line {number}")


def read_response(line: bytes, where: str) -> Response:
    """Parses one line of such a file.

    Raises:
        UserError: The line is not a valid response; the message begins with `where`.
    """
    if len(line) > MAX_LINE_BYTES:
        raise UserError(
            f"{where}: over {MAX_LINE_BYTES // 2**20} MiB; request fewer log-probabilities or use shorter prompts"
        )
    try:
        return _response(from_json(line), where)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(error)}") from error
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); is the file truncated, or not UTF-8?") from error


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


_LogProbability = Annotated[float, Field(le=SUM_TOLERANCE, allow_inf_nan=False)]
_Id = Annotated[int, Field(ge=0)]


# Tokens are dictionaries, not models: a file holds millions, and dictionaries validate in half the time.
class _ChatToken(TypedDict):
    token: str
    logprob: _LogProbability
    bytes: NotRequired[list[Annotated[int, Field(ge=0, le=255)]] | None]


class _GeneratedToken(_ChatToken):
    top_logprobs: NotRequired[list[_ChatToken] | None]


class _LogProbabilities(_Schema):
    content: list[_GeneratedToken] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[_LogProbability | None] | None = None
    top_logprobs: list[dict[str, _LogProbability] | None] | None = None


class _PromptToken(TypedDict):
    logprob: _LogProbability
    decoded_token: NotRequired[str | None]


_PromptLogprobs = list[dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], _PromptToken] | None]


class _WithPrompt(_Schema):
    prompt_logprobs: _PromptLogprobs | None = None
    prompt_token_ids: list[_Id] | None = None


class _Choice(_WithPrompt):
    logprobs: _LogProbabilities | None = None


class _Body(_WithPrompt):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=1)]
    model: str = ""


class _BatchResponse(_Schema):
    status_code: int
    body: Any = None


class _Envelope(_Schema):
    custom_id: str
    response: _BatchResponse | None = None


class _Ids(_Schema):
    custom_id: str | None = None
    id: str | None = None


def _response(content: Any, where: str) -> Response:
    if isinstance(content, dict) and "choices" in content:
        ids = _Ids.model_validate(content)
        name = ids.custom_id or ids.id
        if not name:
            raise UserError(f"{where}: no `custom_id` and no `id`; set one of them to the example's id")
        return _parse_body(content, name, where)
    if isinstance(content, dict) and "custom_id" in content and ("response" in content or "error" in content):
        envelope = _Envelope.model_validate(content)
        if envelope.response is None or envelope.response.status_code != 200:
            return Response(where, envelope.custom_id, failure=_failure(envelope.response))
        if isinstance(envelope.response.body, dict) and "choices" in envelope.response.body:
            return _parse_body(envelope.response.body, envelope.custom_id, where)
    raise UserError(f"{where}: unknown format; {EXPECTED}")


def _failure(response: _BatchResponse | None) -> str:
    return f"status {response.status_code}" if response else "no response"


def _parse_body(content: Any, name: str, where: str) -> Response:
    body = _Body.model_validate(content)
    choice = body.choices[0]
    prompt = choice if choice.prompt_logprobs is not None else body
    logprobs = choice.logprobs
    if prompt.prompt_logprobs is None and logprobs is None:
        raise UserError(f"{where}: no log-probabilities; {EXPECTED}")
    places = [] if logprobs is None else _generated_places(logprobs, where)
    forced = bool(places) and places[0].token is not None and math.isnan(places[0].token.probability)
    ids: list[int] = []
    if prompt.prompt_logprobs is not None:
        ids = prompt.prompt_token_ids or []
        places = _prompt_places(prompt.prompt_logprobs, ids, where) + ([] if forced else places)
    return Response(where, name, tuple(places), forced or bool(ids), tuple(ids), body.model)


def _generated_places(logprobs: _LogProbabilities, where: str) -> list[Place]:
    if logprobs.tokens is not None:
        return _completion_places(logprobs, logprobs.tokens, where)
    if "content" in logprobs.model_fields_set:  # null if the teacher refused to answer
        return [
            _place(_chat_token(token), map(_chat_token, token.get("top_logprobs") or ()), where)
            for token in logprobs.content or ()
        ]
    raise UserError(f"{where}: unknown format; {EXPECTED}")


def _completion_places(logprobs: _LogProbabilities, tokens: list[str], where: str) -> list[Place]:
    own = logprobs.token_logprobs or []
    top = logprobs.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(own) == len(top):
        raise UserError(f"{where}: {len(tokens)} tokens, but {len(own)} token_logprobs and {len(top)} top_logprobs")
    return [
        _place(Token(text, _probability(value)), (Token(t, _probability(v)) for t, v in (others or {}).items()), where)
        for text, value, others in zip(tokens, own, top, strict=True)
    ]


def _prompt_places(prompt: _PromptLogprobs, ids: list[int], where: str) -> list[Place]:
    if len(ids) != len(prompt):
        raise UserError(
            f"{where}: {len(prompt)} prompt_logprobs, but {len(ids)} prompt_token_ids; request return_token_ids=true"
        )
    places = []
    for index, (row, i) in enumerate(zip(prompt, ids, strict=True)):
        tokens = {
            int(n): Token(e.get("decoded_token") or "", _probability(e["logprob"]), id=int(n))
            for n, e in (row or {}).items()
        }
        if tokens and i not in tokens:
            raise UserError(f"{where}: prompt_logprobs[{index}] lacks the prompt's own token {i}; repeat the request")
        places.append(_place(tokens.get(i), tokens.values(), where))
    return places


def _chat_token(token: _ChatToken) -> Token:
    raw = token.get("bytes")
    return Token(token["token"], _probability(token["logprob"]), None if raw is None else bytes(raw))


def _probability(logprob: float | None) -> float:
    return math.nan if logprob is None else math.exp(min(logprob, 0.0))


def _place(token: Token | None, alternatives: Iterable[Token], where: str) -> Place:
    ordered = sorted(alternatives, key=lambda each: -each.probability)
    _check_sum(ordered, where)
    return Place(token, tuple(ordered))


def _check_sum(tokens: Sequence[Token], where: str) -> None:
    total = math.fsum(token.probability for token in tokens)
    if total > 1 + SUM_TOLERANCE:
        first = tokens[0].text[:20]
        raise UserError(
            f"{where}: the probabilities of {first!r} and its alternatives sum to {total:.3f}; use natural logarithms"
        )


def _location_part(part: str | int) -> str:
    """Returns an index, a field's name, or, quoted, a token's text, which may be anything."""
    return str(part) if isinstance(part, int) or part.isidentifier() else reprlib.repr(part)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(_location_part(part) for part in first["loc"])
    value = first["input"]
    shown = f"a {type(value).__name__}" if isinstance(value, dict | list) else reprlib.repr(value)
    return f"{place}: {first['msg']}, not {shown}"
