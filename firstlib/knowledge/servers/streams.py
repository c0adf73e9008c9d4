"""Streamed answers, put together: their pieces become the response that the server would have sent at once."""

from collections.abc import Iterator
from typing import Any

Content = dict[str, Any]
Whole = tuple[Content, str]


def is_piece(content: Any) -> bool:
    """Returns whether a JSON value is one piece of a streamed answer.

    >>> is_piece({"object": "chat.completion.chunk"}), is_piece({"object": "chat.completion"})
    (True, False)
    >>> is_piece({"done": False, "response": " The"}), is_piece({"type": "response.created"})
    (True, True)
    """
    if not isinstance(content, dict):
        return False
    if str(content.get("object")).endswith(".chunk") or _is_event(content):
        return True
    choices = content.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and "delta" in choices[0]:
        return True
    return content.get("done") is False or content.get("stop") is False


def _is_event(content: Content) -> bool:
    return str(content.get("type")).startswith("response.")  # OpenAI's Responses


class Streams:
    """Answers whose pieces are still coming; several may be interleaved in a file."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[list[Content], str]] = {}

    def takes(self, content: Any) -> bool:
        """Returns whether a JSON value is a piece, or the last message of a stream whose pieces came before it."""
        return is_piece(content) or (isinstance(content, dict) and _key(content) in self._open)

    def add(self, piece: Content, where: str) -> Iterator[Whole]:
        """Takes a piece; yields the answer that it ends, if it does."""
        if _is_event(piece):
            if piece["type"] == "response.completed" and isinstance(piece.get("response"), dict):
                yield (
                    {**piece["response"], **({"custom_id": piece["custom_id"]} if "custom_id" in piece else {})},
                    where,
                )
            return
        key = _key(piece)
        self._open.setdefault(key, ([], where))[0].append(piece)
        if _ends(piece):
            pieces, began = self._open.pop(key)
            yield _joined(pieces), began

    def finish(self) -> Iterator[Whole]:
        """Yields the answers that no piece has ended."""
        left, self._open = self._open, {}
        for pieces, where in left.values():
            yield _joined(pieces), where


def _key(content: Content) -> str:
    return str(content.get("custom_id") or content.get("id"))


def _ends(piece: Content) -> bool:
    if piece.get("done") is True or piece.get("stop") is True:
        return True
    choices = piece.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and first.get("finish_reason") is not None


def _joined(pieces: list[Content]) -> Content:
    """Returns one response: lists of log-probabilities in a row, everything else as in the first piece."""
    whole = {**pieces[0], "object": "joined"}
    whole.pop("stop", None)
    if "choices" in whole:
        return {**whole, "choices": [_joined_choice(pieces)]}
    for field in ("logprobs", "completion_probabilities"):
        if any(isinstance(piece.get(field), list) for piece in pieces):
            whole[field] = [token for piece in pieces for token in _list(piece.get(field))]
    return {**whole, "done": True}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _joined_choice(pieces: list[Content]) -> Content:
    choices = [each for piece in pieces for each in _list(piece.get("choices"))[:1] if isinstance(each, dict)]
    told = [each["logprobs"] for each in choices if isinstance(each.get("logprobs"), dict)]
    logprobs: Content = {}
    for part in told:
        for field, value in part.items():
            if isinstance(value, list):
                logprobs.setdefault(field, []).extend(value)
    kind: Content = {"message": {}} if any("delta" in each for each in choices) else {"text": ""}
    return {**kind, "logprobs": logprobs or None}
