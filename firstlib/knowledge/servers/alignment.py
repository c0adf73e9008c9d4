"""Where a teacher's positions stand among the student's tokens.

By text: a distribution counts at a position of the student's where all text before it is the same, a token of the
teacher's begins there too, and either that token is the student's or the teacher's text parts from the right response
there. After that its context is another one, and nothing is used. So one rule serves a text that was forced
on the teacher (`echo`) and one that it wrote itself (a chat).

By id: the same, with token ids for text.
"""

import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from firstlib.knowledge.servers.responses import Place, Response, Token
from firstlib.knowledge.servers.spelling import READINGS, UNKNOWN, Pieces, Reading
from firstlib.runtime.errors import UserError
from firstlib.tasks.encoding import Encoded


class Reason(StrEnum):
    """Why something was not imported: an alternative, a position, or all of an example."""

    NO_TOKEN = "no token of the student writes this"
    PARTIAL = "part of a character, and its bytes are not told"
    REPEATED = "another alternative is the same token"
    OUTSIDE = "its id is outside the student's vocabulary"

    CUT = "the teacher cuts the text elsewhere"
    CONTEXT = "the teacher's text before it is another"
    MISSING = "the teacher's text ends before it"
    NO_ALTERNATIVES = "no alternatives are told"
    TOO_FEW = "too few alternatives are matched"
    TOO_MUCH_LOST = "too much of its mass is unmatched"

    NOT_FOUND = "the teacher's text holds neither its prompt nor, once, its response"
    NO_RESPONSE = "no response to it"
    FAILED = "the request failed"
    UNKNOWN_EXAMPLE = "no example has this id"


@dataclass(frozen=True)
class Aligned:
    """The teacher's places by the student's positions.

    Attributes:
        found: Each position that has one.
        missing: Why each of the others has none.
        identify: The student's token for one of the teacher's at a position, or why there is none.
    """

    found: dict[int, Place]
    missing: dict[int, Reason]
    identify: Callable[[Token, int], int | Reason]


def align_by_id(response: Response, example: Encoded, pieces: Pieces) -> Aligned:
    """Position by position, for a teacher whose token ids are the student's.

    Raises:
        UserError: An alternative reads otherwise to teacher and student, so that the ids are not shared.
    """
    ids, own = response.token_ids, example.token_ids
    same = _agreement(ids, own)
    found = {at: response.places[at] for at in range(example.start, min(same + 1, len(own), len(ids)))}
    missing = {
        at: Reason.CONTEXT if at < len(ids) else Reason.MISSING
        for at in range(example.start, len(own))
        if at not in found
    }
    return Aligned(found, missing, lambda token, at: _by_id(token, pieces, response.where))


def _agreement(ids: Iterable[int], others: Iterable[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, others, strict=False)))


def _by_id(token: Token, pieces: Pieces, where: str) -> int | Reason:
    if token.id is None or token.id >= len(pieces.texts):
        return Reason.OUTSIDE
    own = pieces.texts[token.id]
    meant = {read(token.text).strip() for read in READINGS}  # a lone token may have lost its leading space
    if token.text and UNKNOWN not in token.text and own.strip() not in meant:
        raise UserError(
            f"{where}: token {token.id} reads {reprlib.repr(token.text)} to the teacher and "
            f"{own.decode(errors='replace')!r} to the student: their ids are not shared; match them by text"
        )
    return token.id


@dataclass(frozen=True)
class _Written:
    """An example as the student's tokens write it.

    Attributes:
        response: Without the end token.
        begins: Positions by the offset in the response where their tokens begin.
        tokens: What each position's token writes.
    """

    prompt: bytes
    response: bytes
    begins: dict[int, int]
    tokens: dict[int, bytes]


def _write(example: Encoded, pieces: Pieces) -> _Written:
    ids, start = example.token_ids, example.start
    texts = [pieces.texts[i] for i in ids]
    first = 1 if ids[0] == pieces.begin else 0
    last = len(ids) - 1 if ids[-1] == pieces.end else len(ids)
    begins, offset = {}, 0
    for position in range(start, len(ids)):
        begins[offset] = position
        offset += len(texts[position])
    return _Written(
        b"".join(texts[first:start]),
        b"".join(texts[start:last]),
        begins,
        dict(enumerate(texts[start:], start)),
    )


def align_by_text(
    response: Response, example: Encoded, pieces: Pieces, read: Reading, ends: frozenset[str] = frozenset()
) -> Aligned:
    """By what the tokens write.

    The right response may begin with a space that a teacher's own text lacks, because nothing stands before it there:
    then that space is put before the teacher's first token and its alternatives.

    Args:
        response: Its places must name the tokens that stand there.
        example: As the student's tokens write it.
        pieces: The student's.
        read: How the response's tokens are meant.
        ends: Texts that mean the end token.
    """
    written = _write(example, pieces)
    end = pieces.texts[pieces.end]

    def spell(token: Token | None) -> bytes:
        if token is None:
            return b""
        return end if token.text in ends else token.raw or read(token.text)

    texts = [spell(place.token) for place in response.places]
    said = b"".join(texts)
    begin = _begin(said, written) if response.forced else 0
    if begin is None:
        return Aligned({}, dict.fromkeys(written.tokens, Reason.NOT_FOUND), lambda token, at: Reason.NOT_FOUND)
    lead = b"" if response.forced or said.startswith(b" ") or not written.response.startswith(b" ") else b" "

    def identify(token: Token, position: int) -> int | Reason:
        text = spell(token)
        if position == example.start and text != end:
            text = lead + text
        if text == written.tokens[position]:
            return example.token_ids[position]
        if UNKNOWN in token.text and token.raw in (None, b"", token.text.encode()):
            return Reason.PARTIAL
        return pieces.ids.get(text, Reason.NO_TOKEN)

    if texts and texts[0] != end:
        texts[0] = lead + texts[0]
    return Aligned(*_walk(_from(begin, texts, response.places), written, response.forced), identify)


def _begin(said: bytes, written: _Written) -> int | None:
    """Where the response begins in an echoed text.

    Some tokenizers write a space before all text: the prompt is also looked for without it. Where it is
    not there, because the teacher was asked in its own format, a response that stands there once tells the place.
    """
    prompts = [prompt for prompt in (written.prompt, written.prompt.removeprefix(b" ")) if prompt]
    for rest in (written.response, b""):
        for prompt in prompts:
            at = said.find(prompt + rest)
            if at >= 0:
                return at + len(prompt)
    return said.find(written.response) if said.count(written.response) == 1 else None


def _from(begin: int, texts: Iterable[bytes], places: Iterable[Place]) -> Iterator[tuple[int, bytes, Place]]:
    """The places from an offset on: offset in the response, text and place of each."""
    at = -begin
    for text, place in zip(texts, places, strict=True):
        if at >= 0:
            yield at, text, place
        at += len(text)


def _walk(
    said: Iterable[tuple[int, bytes, Place]], written: _Written, forced: bool
) -> tuple[dict[int, Place], dict[int, Reason]]:
    """What is found at which position, and why nothing is at the others."""
    found: dict[int, Place] = {}
    reached, parted = 0, False
    for at, text, place in said:
        position = written.begins.get(at, -1)
        same = text == written.tokens.get(position)
        parted = not (same or _goes_on(text, at, written.response, forced))
        if same or (parted and position >= 0):
            found[position] = place
        reached = at if parted else at + len(text)
        if parted:
            break
    after = Reason.CONTEXT if parted else Reason.MISSING
    missing = {position: Reason.CUT if at < reached else after for at, position in written.begins.items()}
    return found, {position: reason for position, reason in missing.items() if position not in found}


def _goes_on(text: bytes, at: int, response: bytes, forced: bool) -> bool:
    """Whether a token's text follows in the response; a forced one may be silent, as parts of characters are."""
    return response.startswith(text, at) if text else forced
