"""Reads a file of a teacher's responses: JSONL, a JSON list, or saved streams, in any format of `formats`.

A response stands alone, with the example's id as `custom_id` or `id`, or in the envelope of a batch, `{"custom_id",
"response": {"status_code", "body"}}`.
"""

import codecs
import io
import json
import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from pydantic_core import from_json

from firstlib.knowledge.servers.formats import EXPECTED, format_of
from firstlib.knowledge.servers.streams import Streams
from firstlib.knowledge.servers.tokens import Place, Schema
from firstlib.runtime.errors import UserError

MAX_LINE_BYTES = 2**25  # 32 MiB
NO_LOGPROBS = "no log-probabilities"
_PEEK = 2**10  # bytes that show whether a file is a list
_INK = re.compile(r"\S")
_SSE = (b":", b"event:", b"id:", b"retry:")  # lines of server-sent events beside their data


@dataclass(frozen=True)
class Response:
    """The answer to one request.

    Attributes:
        where: File and line, for error messages.
        example_id: Id of the example that was asked about.
        places: Positions of the prompt, the generated text, or both.
        forced: Whether the places include the prompt (teacher forcing), not only generated text.
        token_ids: Token ids of the first places, as far as the server gives them.
        model: The model that answered, as the server names it.
        failure: Why the request failed; empty if it succeeded.
        completed: Whether it completes a text rather than a chat.
        offset: Where the first place begins, in characters of prompt and answer, if told.
        prompt_tokens: Tokens that the server read, if told.
    """

    where: str
    example_id: str
    places: tuple[Place, ...] = ()
    forced: bool = False
    token_ids: tuple[int, ...] = ()
    model: str = ""
    failure: str = ""
    completed: bool = False
    offset: int | None = None
    prompt_tokens: int | None = None


# -- the file ----------------------------------------------------------------------------------------------------


def read_responses(path: Path | str) -> Iterator[Response]:
    """Yields the responses of a file. JSONL is read line by line, so memory use does not grow with it.

    Raises:
        UserError: The file cannot be read (raised by the call itself), or a line is not a valid response (raised during
            iteration; the message names the line and the expected format).
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a JSONL file of responses") from error
    return _read_file(file, path)


def _read_file(file: BinaryIO, path: Path) -> Iterator[Response]:
    streams = Streams()
    with file:
        for content, where in _contents(file, path):
            if content is None:
                yield from (_response(*whole) for whole in streams.finish())
            elif streams.takes(content):
                yield from (_response(*whole) for whole in streams.add(content, where))
            else:
                yield _response(content, where)
        yield from (_response(*whole) for whole in streams.finish())


def _contents(file: BinaryIO, path: Path) -> Iterator[tuple[Any, str]]:
    """Yields the JSON values of a file with their places; None where a stream ends."""
    start = file.read(_PEEK)
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's `>`
        try:
            file = io.BytesIO(file.read().decode("utf-16").encode())
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-16, as its first bytes say ({error.reason}); save it as UTF-8") from error
        start = file.getvalue()[:_PEEK]
    bare = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if bare.startswith((b"[", b"{\n", b"{\r")) or bare in (b"{", b""):
        whole = _whole(file)
        if whole is not None:
            yield from ((content, f"{path}, entry {number}") for number, content in enumerate(whole, 1))
            return
        file.seek(0)
    yield from _lines(file, path)


def _whole(file: BinaryIO) -> list[Any] | None:
    """Returns the values of one JSON list, or of JSON objects on several lines each; None if the file is neither."""
    try:
        text = file.read().decode("utf-8-sig").strip()
        decoder, at, values = json.JSONDecoder(), 0, []
        while begins := _INK.search(text, at):
            value, at = decoder.raw_decode(text, begins.start())
            values.append(value)
    except (ValueError, RecursionError):
        return None
    lists = [value for value in values if isinstance(value, list)]
    if len(values) == 1 and lists:
        return lists[0]
    return values if not lists and "\n" in text else None


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
        where = f"{path}, line {number}"
        data = line.removeprefix(codecs.BOM_UTF8).strip()
        if data.startswith(b"data:"):
            data = data.removeprefix(b"data:").strip()
        elif data.startswith(_SSE):
            continue
        if data == b"[DONE]":
            yield None, where
        elif data:
            yield _parsed(data if len(line) <= MAX_LINE_BYTES else line, where), where


def read_response(line: bytes, where: str) -> Response:
    """Parses one line of such a file.

    Raises:
        UserError: The line is not a valid response; the message begins with `where`.
    """
    return _response(_parsed(line, where), where)


def _parsed(line: bytes, where: str) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise UserError(
            f"{where}: over {MAX_LINE_BYTES // 2**20} MiB; request fewer log-probabilities or use shorter prompts"
        )
    try:
        return from_json(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); is the file truncated, or not UTF-8?") from error


# -- one response ------------------------------------------------------------------------------------------------


class _BatchResponse(Schema):
    status_code: int
    body: Any = None


def _response(content: Any, where: str) -> Response:
    if isinstance(content, list) and len(content) == 1:  # servers that were asked for one prompt in a list
        content = content[0]
    if not isinstance(content, dict):
        raise UserError(f"{where}: unknown format; {EXPECTED}")
    try:
        return _read(content, where)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(error)}") from error


def _read(content: dict[str, Any], where: str) -> Response:
    if format_of(content) is not None:
        return _read_body(content, _name(content, where), where)
    inner = content.get("response")
    if isinstance(inner, dict) and "status_code" in inner:
        answer = _BatchResponse.model_validate(inner)
        if answer.status_code != 200:
            return Response(where, _name(content, where), failure=f"status {answer.status_code}")
        inner = answer.body
    elif inner is None and "body" in content:
        inner = content["body"]
    if isinstance(inner, dict) and format_of(inner) is not None:
        return _read_body(inner, _name(content, where), where)
    if inner is None and ("response" in content or content.get("error")):
        return Response(where, _name(content, where), failure=_failure(content))
    raise UserError(f"{where}: unknown format; {EXPECTED}")


def _failure(content: dict[str, Any]) -> str:
    return "no response" if "response" in content else reprlib.repr(content["error"])


def _name(content: dict[str, Any], where: str) -> str:
    """The example's id; a whole number becomes text, as in data files."""
    for field in ("custom_id", "id", "request_id"):
        found = content.get(field)
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
        if isinstance(found, str) and found:
            return found
        if found not in (None, ""):
            raise UserError(f"{where}: {field}: Input should be a text or a whole number, not {reprlib.repr(found)}")
    raise UserError(f"{where}: no `custom_id` and no `id`; set one of them to the example's id")


def _read_body(content: dict[str, Any], name: str, where: str) -> Response:
    known, model = format_of(content), content.get("model")
    assert known is not None
    told = known.read(content, where)
    model = model if isinstance(model, str) else ""
    if told.places is None:
        return Response(where, name, model=model, failure=NO_LOGPROBS)
    return Response(
        where, name, tuple(told.places), told.forced, tuple(_ids(told.places)), model,
        completed=told.completed, offset=told.offset, prompt_tokens=told.prompt_tokens,
    )  # fmt: skip


def _ids(places: Iterable[Place]) -> Iterator[int]:
    for place in places:
        if place.token.id is None:
            return
        yield place.token.id


def _location_part(part: str | int) -> str:
    """Returns an index, a field's name, or, quoted, a token's text, which may be anything."""
    return str(part) if isinstance(part, int) or part.isidentifier() else reprlib.repr(part)


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(_location_part(part) for part in first["loc"])
    value = first["input"]
    shown = f"a {type(value).__name__}" if isinstance(value, dict | list) else reprlib.repr(value)
    return f"{place}: {first['msg'].removeprefix('Value error, ')}, not {shown}"
