"""A live server with OpenAI's interface, asked over HTTP: several requests at a time, again after failures, resumable.

Every response is appended to a file as it comes; what the file holds is not asked again.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.progress import steps

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)  # statuses after which the same request may succeed
_REFUSED = (401, 403, 404, 405)  # statuses after which no request will
_LONGEST_PAUSE = 60.0  # seconds, unless the server says more
_PATIENCE = 600  # seconds for one answer
_CUT_OFF = (OSError, http.client.HTTPException)  # URLError and time-outs are the first; IncompleteRead is the second


@dataclass(frozen=True)
class Server:
    """How a server is asked.

    Attributes:
        url: Its address, with or without `/v1`.
        key: Name of the environment variable with the key; unset: none is sent.
        concurrency: Requests at a time.
        retries: Times that a failed request is sent again.
        pause: Seconds before the first of them; it doubles each time.
    """

    url: str
    key: str = "FIRST_API_KEY"
    concurrency: int = 8
    retries: int = 6
    pause: float = 1.0

    @property
    def root(self) -> str:
        """The address without `/v1`, which the requests' paths begin with."""
        return self.url.rstrip("/").removesuffix("/v1")


def first_model(server: Server) -> str:
    """Returns the name of the server's first model.

    Raises:
        UserError: The server cannot be reached, or lists none.
    """
    try:
        return str(json.loads(_send(server, "/v1/models", None))["data"][0]["id"])
    except (_RefusedError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"knowledge.server: {server.url} lists no model; set knowledge.server_model") from error


def ask_server(server: Server, requests: Iterable[dict[str, Any]], to: Path, count: int) -> None:
    """Sends requests, and appends to a JSONL file one line with `custom_id` and `response` each.

    A request that the server refuses for good, as content filters do, is a line with its status.

    Args:
        server: Where to.
        requests: As `requests.requests` gives them; sent as fast as the server answers.
        to: The file; what it holds is not asked again.
        count: Number of requests, for progress.

    Raises:
        UserError: The server cannot be reached, refuses the key, or fails again and again; what was answered is kept.
    """
    known = answered(to)
    left = (request for request in requests if request["custom_id"] not in known)
    with (
        to.open("a", encoding="utf-8") as file,
        ThreadPoolExecutor(server.concurrency) as pool,
        steps("asking the server", count) as at,
    ):
        running: set[Future[dict[str, Any]]] = set()
        done = len(known)
        try:
            while running := running | {
                pool.submit(_answer, server, each) for each in islice(left, server.concurrency - len(running))
            }:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                if errors := _append(finished, file):
                    raise errors[0]
                at(done := done + len(finished))
        finally:
            _append(wait(running).done, file)  # what is in flight is paid for, whatever stopped the others


def _append(finished: Iterable[Future[dict[str, Any]]], file: TextIO) -> list[BaseException]:
    """Writes all answers; returns the errors of the requests that have none."""
    errors = {each: each.exception() for each in finished}
    file.writelines(json.dumps(each.result()) + "\n" for each, error in errors.items() if error is None)
    file.flush()
    return [error for error in errors.values() if error is not None]


def answered(file: Path) -> set[str]:
    """Returns the ids that a file of responses holds; a last line that was cut short is removed."""
    if not file.is_file():
        return set()
    with file.open("rb+") as lines:  # whole lines are left alone: on a full disk, writing them again would lose them
        whole = [line for line in lines if line.endswith(b"\n")]
        lines.truncate(sum(map(len, whole)))
    return {json.loads(line)["custom_id"] for line in whole}


def _answer(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    try:
        response = {"status_code": 200, "body": json.loads(_send(server, request["url"], request["body"]))}
    except _RefusedError as refused:
        response = {"status_code": refused.status, "body": refused.told}
    except ValueError as error:
        raise UserError(f"knowledge.server: {server.url} answers without JSON ({first_line(error)[:100]})") from error
    return {"custom_id": request["custom_id"], "response": response}


class _RefusedError(Exception):
    """The server refuses one request for good."""

    def __init__(self, status: int, told: str) -> None:
        self.status, self.told = status, told


def _send(server: Server, path: str, body: dict[str, Any] | None) -> bytes:
    """Sends one request, again after failures that may pass."""
    for pause in _pauses(server):
        try:
            return _once(server, path, body)
        except urllib.error.HTTPError as error:
            status, told = error.code, _beginning(error)
            if status in _REFUSED:
                raise UserError(
                    f"knowledge.server: {server.root}{path} answers {status} ({told[:120]!r}); check the address, the "
                    f"model, and the key in the environment variable {server.key}"
                ) from error
            if status not in _AGAIN:
                raise _RefusedError(status, told) from error
            reason, wanted = f"status {status}", _seconds(error.headers.get("Retry-After"))
        except _CUT_OFF as error:
            reason, wanted = first_line(error), 0.0
        if pause is None:
            break
        time.sleep(max(pause, wanted))
    raise UserError(
        f"knowledge.server: {server.root} fails again and again ({reason[:120]}); answers so far are kept, and the "
        "same command resumes"
    )


def _beginning(refusal: urllib.error.HTTPError) -> str:
    try:
        return refusal.read(500).decode(errors="replace")
    except _CUT_OFF:  # the status alone says what to do
        return ""


def _pauses(server: Server) -> Iterator[float | None]:
    for attempt in range(server.retries):
        yield min(server.pause * 2**attempt, _LONGEST_PAUSE)
    yield None


def _seconds(value: str | None) -> float:
    try:
        return float(value or 0)
    except ValueError:  # a date
        return 0.0


def _once(server: Server, path: str, body: dict[str, Any] | None) -> bytes:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(server.key):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.root + path, data, headers)
    with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
        return response.read()
