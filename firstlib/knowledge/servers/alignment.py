"""Alignment of a teacher's positions with the student's tokens.

By text: the teacher's distribution is used at a student's position if all text before it is the same, a token of the
teacher begins there, and either that token is the student's or the teacher's text diverges from the right response
there. After a divergence the context differs, and nothing is used. This rule covers both a text that was forced on the
teacher (`echo`) and one that it generated (chat).

By id: the same rule on token ids.
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
    """Why an alternative, a position or a whole example was not imported."""

    NO_TOKEN = "no student token has this text"
    PARTIAL = "part of a character, without its bytes"
    REPEATED = "duplicate of another alternative"
    OUTSIDE = "id outside the student's vocabulary"

    CUT = "no teacher token begins here"
    CONTEXT = "the teacher's preceding text differs"
    MISSING = "the teacher's text ends earlier"
    NO_ALTERNATIVES = "no alternatives given"
    TOO_FEW = "too few matched alternatives"
    TOO_MUCH_LOST = "too much unmatched mass"

    NOT_FOUND = "neither prompt nor a unique copy of the response in the teacher's text"
    NO_RESPONSE = "no response"
    FAILED = "the request failed"
    UNKNOWN_EXAMPLE = "no example has this id"


@dataclass(frozen=True)
class Alignment:
    """The teacher's places, by the student's positions.

    Attributes:
        found: The teacher's place for each aligned position.
        missing: For each other position, why it has none.
        identify: Maps a teacher's token at a position to the student's token id, or to the reason why there is none.
    """

    found: dict[int, Place]
    missing: dict[int, Reason]
    identify: Callable[[Token, int], int | Reason]


def align_by_id(response: Response, example: Encoded, pieces: Pieces) -> Alignment:
    """Aligns by token id, for a teacher whose token ids are the student's.

    Raises:
        UserError: A token id has different texts for teacher and student, so ids are not shared.
    """
    ids, own = response.token_ids, example.token_ids
    same = _common_prefix(ids, own)
    found = {at: response.places[at] for at in range(example.start, min(same + 1, len(own), len(ids)))}
    missing = {
        at: Reason.CONTEXT if at < len(ids) else Reason.MISSING
        for at in range(example.start, len(own))
        if at not in found
    }
    return Alignment(found, missing, lambda token, at: _identify_by_id(token, pieces, response.where))


def _common_prefix(ids: Iterable[int], others: Iterable[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, others, strict=False)))


def _identify_by_id(token: Token, pieces: Pieces, where: str) -> int | Reason:
    if token.id is None or token.id >= len(pieces.texts):
        return Reason.OUTSIDE
    own = pieces.texts[token.id]
    spellings = {read(token.text).strip() for read in READINGS}  # servers may strip a single token's leading space
    if token.text and UNKNOWN not in token.text and own.strip() not in spellings:
        raise UserError(
            f"{where}: token {token.id} is {reprlib.repr(token.text)} for the teacher and "
            f"{own.decode(errors='replace')!r} for the student, so ids are not shared; import without --shared-ids"
        )
    return token.id


@dataclass(frozen=True)
class _StudentText:
    """The text of an example's tokens, in bytes.

    Attributes:
        prompt: Without the token that begins every text.
        response: Without the end token.
        begins: Positions by the offset in the response at which their tokens begin.
        tokens: The text of each position's token.
    """

    prompt: bytes
    response: bytes
    begins: dict[int, int]
    tokens: dict[int, bytes]


def _student_text(example: Encoded, pieces: Pieces) -> _StudentText:
    ids, start = example.token_ids, example.start
    texts = [pieces.texts[i] for i in ids]
    first = 1 if ids[0] == pieces.begin else 0
    last = len(ids) - 1 if ids[-1] == pieces.end else len(ids)
    begins, offset = {}, 0
    for position in range(start, len(ids)):
        begins[offset] = position
        offset += len(texts[position])
    return _StudentText(
        b"".join(texts[first:start]),
        b"".join(texts[start:last]),
        begins,
        dict(enumerate(texts[start:], start)),
    )


def align_by_text(
    response: Response, example: Encoded, pieces: Pieces, read: Reading, ends: frozenset[str] = frozenset()
) -> Alignment:
    """Aligns by the text of tokens.

    The right response may begin with a space that a generated text lacks because nothing precedes it. That space is
    then prepended to the teacher's first token and its alternatives.

    Args:
        response: Must name the token at each place.
        example: The example in the student's tokens.
        pieces: Token texts of the student.
        read: Decodes the text of the response's tokens.
        ends: Texts of the teacher's end token.
    """
    student = _student_text(example, pieces)
    end = pieces.texts[pieces.end]

    def spell(token: Token | None) -> bytes:
        if token is None:
            return b""
        return end if token.text in ends else token.raw or read(token.text)

    texts = [spell(place.token) for place in response.places]
    begin = _response_offset(b"".join(texts), student) if response.forced else 0
    if begin is None:
        return Alignment({}, dict.fromkeys(student.tokens, Reason.NOT_FOUND), lambda token, at: Reason.NOT_FOUND)
    lead = b"" if response.forced else _missing_space(b"".join(texts), student.response)

    def identify(token: Token, position: int) -> int | Reason:
        text = spell(token)
        if position == example.start and text != end:
            text = lead + text
        if text == student.tokens[position]:
            return example.token_ids[position]
        if UNKNOWN in token.text and token.raw in (None, b"", token.text.encode()):
            return Reason.PARTIAL
        return pieces.ids.get(text, Reason.NO_TOKEN)

    if texts and texts[0] != end:
        texts[0] = lead + texts[0]
    return Alignment(*_align_places(_places_from(begin, texts, response.places), student, response.forced), identify)


def _missing_space(generated: bytes, response: bytes) -> bytes:
    return b" " if response.startswith(b" ") and not generated.startswith(b" ") else b""


def _response_offset(teacher_text: bytes, student: _StudentText) -> int | None:
    """Returns the offset of the response in an echoed text, or None if it cannot be determined.

    Some tokenizers add a space before all text, so the prompt is also tried without it. If the prompt is absent,
    because the teacher was asked in another format, a unique occurrence of the response determines the offset.
    """
    prompts = [prompt for prompt in (student.prompt, student.prompt.removeprefix(b" ")) if prompt]
    for rest in (student.response, b""):
        for prompt in prompts:
            at = teacher_text.find(prompt + rest)
            if at >= 0:
                return at + len(prompt)
    return teacher_text.find(student.response) if teacher_text.count(student.response) == 1 else None


def _places_from(begin: int, texts: Iterable[bytes], places: Iterable[Place]) -> Iterator[tuple[int, bytes, Place]]:
    """Yields the places from offset `begin` on: offset in the response, text and place."""
    at = -begin
    for text, place in zip(texts, places, strict=True):
        if at >= 0:
            yield at, text, place
        at += len(text)


def _align_places(
    places: Iterable[tuple[int, bytes, Place]], student: _StudentText, forced: bool
) -> tuple[dict[int, Place], dict[int, Reason]]:
    """Returns the place of each aligned position, and the reason for each other position."""
    found: dict[int, Place] = {}
    reached, diverged = 0, False
    for at, text, place in places:
        position = student.begins.get(at, -1)
        same = text == student.tokens.get(position)
        diverged = not (same or _continues(text, at, student.response, forced))
        if same or (diverged and position >= 0):
            found[position] = place
        reached = at if diverged else at + len(text)
        if diverged:
            break
    after = Reason.CONTEXT if diverged else Reason.MISSING
    missing = {position: Reason.CUT if at < reached else after for at, position in student.begins.items()}
    return found, {position: reason for position, reason in missing.items() if position not in found}


def _continues(text: bytes, at: int, response: bytes, forced: bool) -> bool:
    """Returns whether a token continues the response; a forced token may be empty, as parts of characters are."""
    return response.startswith(text, at) if text else forced
