"""What a teacher behind an interface answered, whatever the format: one `Response` to a line of JSONL.

Formats are told apart by their shape (field names as in OpenAI's reference and in vLLM 0.30's
`entrypoints/openai/completion/protocol.py`):

- an envelope as batches write it, `{"custom_id", "response": {"status_code", "body"}}`, or the bare body, whose
  `custom_id` or `id` is then the example's id;
- in the body, completions with `choices[0].logprobs = {tokens, token_logprobs, top_logprobs}`; with `echo` the
  first log-probability is null, because nothing stands before the prompt's first token;
- chat completions with `choices[0].logprobs.content = [{token, bytes, logprob, top_logprobs}]`;
- vLLM's `prompt_logprobs = [null, {"<token id>": {logprob, rank, decoded_token}}, ...]` with `prompt_token_ids`,
  in the choice (completions) or beside the choices (chat). What was generated after the prompt follows it.

Servers write -9999 for "very unlikely": that is a probability of 0.
"""

import math
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from firstlib.runtime.errors import UserError

LONGEST = 2**25  # bytes of a line: 32 MiB
ROUNDING = 1e-3  # by which rounded probabilities may pass 1, as in `losses.SUM_TOLERANCE`
EXPECTED = (
    "expected an OpenAI or vLLM completion with log-probabilities: `choices[0].logprobs` with `tokens` or `content`, "
    "or `prompt_logprobs`, alone or as `response.body` of a batch's line"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the server names it.

    Attributes:
        text: As written in the response; how it spells spaces and bytes is the server's affair.
        probability: In [0, 1]; NaN where the server tells none.
        raw: Its bytes, where the server tells them.
        id: In the teacher's vocabulary, where the server tells it.
    """

    text: str
    probability: float
    raw: bytes | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One position of the teacher's text.

    Attributes:
        token: What stands there; None where the server tells nothing, as of the first token of a prompt.
        alternatives: What might stand there, most probable first; empty if not told.
    """

    token: Token | None
    alternatives: tuple[Token, ...]


@dataclass(frozen=True)
class Response:
    """The answer to one request.

    Attributes:
        where: File and line, for messages.
        forced: The places begin with the prompt (teacher-forced), and not with what was generated after it.
        token_ids: Of the prompt's places, where the server tells ids.
        failure: Why there is no answer, where there is none.
    """

    where: str
    example_id: str
    places: tuple[Place, ...] = ()
    forced: bool = False
    token_ids: tuple[int, ...] = ()
    model: str = ""
    failure: str = ""


def read_responses(path: Path | str) -> Iterator[Response]:
    """The responses of a JSONL file, a line at a time: memory stays flat however long the file is.

    Raises:
        UserError: The file cannot be read; or a line is no response, naming it and what was expected.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a JSONL file of responses") from error
    with file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            if line.strip():
                yield read_response(line, f"{path}, line {number}")


def read_response(line: bytes, where: str) -> Response:
    """One line of such a file.

    Raises:
        UserError: It is no response; the message begins with `where`.
    """
    if len(line) > LONGEST:
        raise UserError(f"{where}: over {LONGEST // 2**20} MiB; ask for fewer log-probabilities or shorter prompts")
    try:
        return _response(from_json(line), where)
    except ValidationError as error:
        raise UserError(f"{where}: {_complaint(error)}") from error
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); is the file cut short, or not UTF-8?") from error


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


_LogProbability = Annotated[float, Field(le=ROUNDING, allow_inf_nan=False)]
_Id = Annotated[int, Field(ge=0)]


# Dictionaries, and not models, where there are millions: they are checked in half the time.
class _Named(TypedDict):
    token: str
    logprob: _LogProbability
    bytes: NotRequired[list[Annotated[int, Field(ge=0, le=255)]] | None]


class _Generated(_Named):
    top_logprobs: NotRequired[list[_Named] | None]


class _LogProbabilities(_Part):
    content: list[_Generated] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[_LogProbability | None] | None = None
    top_logprobs: list[dict[str, _LogProbability] | None] | None = None


class _Decoded(TypedDict):
    logprob: _LogProbability
    decoded_token: NotRequired[str | None]


_Prompt = list[dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], _Decoded] | None]


class _Prompted(_Part):
    prompt_logprobs: _Prompt | None = None
    prompt_token_ids: list[_Id] | None = None


class _Choice(_Prompted):
    logprobs: _LogProbabilities | None = None


class _Body(_Prompted):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=1)]
    model: str = ""


class _Answer(_Part):
    status_code: int
    body: Any = None


class _Envelope(_Part):
    custom_id: str
    response: _Answer | None = None


class _Bare(_Part):
    custom_id: str | None = None
    id: str | None = None


def _response(content: Any, where: str) -> Response:
    if isinstance(content, dict) and "choices" in content:
        names = _Bare.model_validate(content)
        name = names.custom_id or names.id
        if not name:
            raise UserError(f"{where}: no `custom_id` and no `id`; name the example that was asked about")
        return _of_body(content, name, where)
    if isinstance(content, dict) and "custom_id" in content and ("response" in content or "error" in content):
        envelope = _Envelope.model_validate(content)
        if envelope.response is None or envelope.response.status_code != 200:
            return Response(where, envelope.custom_id, failure=_failure(envelope.response))
        if isinstance(envelope.response.body, dict) and "choices" in envelope.response.body:
            return _of_body(envelope.response.body, envelope.custom_id, where)
    raise UserError(f"{where}: not a format that is known; {EXPECTED}")


def _failure(answer: _Answer | None) -> str:
    return f"status {answer.status_code}" if answer else "no response"


def _of_body(content: Any, name: str, where: str) -> Response:
    body = _Body.model_validate(content)
    choice = body.choices[0]
    part = choice if choice.prompt_logprobs is not None else body
    said = choice.logprobs
    if part.prompt_logprobs is None and said is None:
        raise UserError(f"{where}: without log-probabilities; {EXPECTED}")
    places = [] if said is None else _said(said, where)
    forced = bool(places) and places[0].token is not None and math.isnan(places[0].token.probability)
    ids: list[int] = []
    if part.prompt_logprobs is not None:
        ids = part.prompt_token_ids or []
        places = _prompt(part.prompt_logprobs, ids, where) + ([] if forced else places)
    return Response(where, name, tuple(places), forced or bool(ids), tuple(ids), body.model)


def _said(logprobs: _LogProbabilities, where: str) -> list[Place]:
    if logprobs.tokens is not None:
        return _completion(logprobs, logprobs.tokens, where)
    if "content" in logprobs.model_fields_set:  # null where the teacher refused to answer
        return [
            _place(_named(token), map(_named, token.get("top_logprobs") or ()), where)
            for token in logprobs.content or ()
        ]
    raise UserError(f"{where}: not a format that is known; {EXPECTED}")


def _completion(logprobs: _LogProbabilities, tokens: list[str], where: str) -> list[Place]:
    own = logprobs.token_logprobs or []
    top = logprobs.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(own) == len(top):
        raise UserError(f"{where}: {len(tokens)} tokens, but {len(own)} token_logprobs and {len(top)} top_logprobs")
    return [
        _place(Token(text, _probability(value)), (Token(t, _probability(v)) for t, v in (others or {}).items()), where)
        for text, value, others in zip(tokens, own, top, strict=True)
    ]


def _prompt(prompt: _Prompt, ids: list[int], where: str) -> list[Place]:
    if len(ids) != len(prompt):
        raise UserError(
            f"{where}: {len(prompt)} prompt_logprobs, but {len(ids)} prompt_token_ids; ask with return_token_ids=true"
        )
    places = []
    for index, (row, i) in enumerate(zip(prompt, ids, strict=True)):
        told = {
            int(n): Token(e.get("decoded_token") or "", _probability(e["logprob"]), id=int(n))
            for n, e in (row or {}).items()
        }
        if told and i not in told:
            raise UserError(f"{where}: prompt_logprobs[{index}] does not hold token {i}, which stands there")
        places.append(_place(told.get(i), told.values(), where))
    return places


def _named(token: _Named) -> Token:
    raw = token.get("bytes")
    return Token(token["token"], _probability(token["logprob"]), None if raw is None else bytes(raw))


def _probability(logprob: float | None) -> float:
    return math.nan if logprob is None else math.exp(min(logprob, 0.0))


def _place(token: Token | None, alternatives: Iterable[Token], where: str) -> Place:
    told = sorted(alternatives, key=lambda each: -each.probability)
    _check_sum(told, where)
    return Place(token, tuple(told))


def _check_sum(tokens: Sequence[Token], where: str) -> None:
    total = math.fsum(token.probability for token in tokens)
    if total > 1 + ROUNDING:
        near = tokens[0].text[:20]
        raise UserError(
            f"{where}: the probabilities beside {near!r} sum to {total:.3f}, over 1; are they logs of base e?"
        )


def _part(part: str | int) -> str:
    """A field's name, or a token's text, which may be anything."""
    return str(part) if isinstance(part, int) or part.isidentifier() else reprlib.repr(part)


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(_part(part) for part in first["loc"])
    value = first["input"]
    shown = f"a {type(value).__name__}" if isinstance(value, dict | list) else reprlib.repr(value)
    return f"{place}: {first['msg']}, not {shown}"
