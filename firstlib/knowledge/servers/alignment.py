"""Alignment of a teacher's positions with the student's tokens.

By text: the teacher's distribution is used at a student's position if all text before it is the same, a token of the
teacher begins there, and either that token is the student's or the teacher's text diverges from the right response
there. After a divergence the context differs, and nothing is used. This rule covers both a text that was forced on the
teacher (`echo`) and one that it generated (chat).

By id: the same rule on token ids.

A completion may hold its prompt without saying so (`echo`), or have ignored `echo` and tell what follows the response:
both are found out here, because they would shift every position.
"""

import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from firstlib.knowledge.servers.responses import Response
from firstlib.knowledge.servers.spelling import READINGS, UNKNOWN, Pieces, Reading
from firstlib.knowledge.servers.tokens import Place, Token
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
    RULED_OUT = "all but a few tokens are ruled out"
    NOT_AN_ANSWER = "the candidates have next to no mass"

    NOT_FOUND = "neither prompt nor a unique copy of the response in the teacher's text"
    SPACES_LOST = "the teacher's tokens have lost their spaces"
    ONLY_IDS = "the teacher's tokens are ids without a text"
    ECHO_IGNORED = "the server answered after the response"
    NO_RESPONSE = "no response"
    NO_LOGPROBS = "the response has no log-probabilities"
    FAILED = "the request failed"
    UNKNOWN_EXAMPLE = "no example has this id"


REMEDIES = {
    Reason.TOO_FEW: "ask for more alternatives than k, or import and run with a lower k",
    Reason.RULED_OUT: "ask without top_k, top_p or a grammar, which cut the distribution before it is told",
    Reason.NO_ALTERNATIVES: "ask for log-probabilities with alternatives",
    Reason.NOT_FOUND: "send prompt and response as `first requests` writes them",
    Reason.SPACES_LOST: "ask vLLM for prompt_logprobs with return_token_ids, and import with --shared-ids",
    Reason.ONLY_IDS: "import with --shared-ids if teacher and student have the same token ids",
    Reason.ECHO_IGNORED: "it ignored `echo`; ask a server that echoes, or chat with the prompt alone",
    Reason.NO_LOGPROBS: "ask with logprobs, of a provider that gives them",
    Reason.UNKNOWN_EXAMPLE: "set custom_id to the example's id, as `first requests` does",
}


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
    first = _first_place(ids, own, pieces.begin) if response.forced else -example.start
    same = _common_prefix(ids[max(first, 0) :], own[max(-first, 0) :]) + max(-first, 0)
    told = {at: response.places[at + first] for at in range(example.start, min(same + 1, len(own), len(ids) - first))}
    missing = {
        at: Reason.CONTEXT if at < len(ids) - first else Reason.MISSING
        for at in range(example.start, len(own))
        if at not in told
    }
    return Alignment(told, missing, lambda token, at: _identify_by_id(token, pieces, response.where))


def _first_place(ids: Sequence[int], own: Sequence[int], begin: int | None) -> int:
    """Returns which place is the example's first token: one side may lack the token that begins every text."""
    return (list(ids[:1]) == [begin]) - (list(own[:1]) == [begin])


def same_ids(response: Response, example: Encoded, pieces: Pieces) -> bool:
    """Returns whether a response's ids are the example's over its whole prompt: then the vocabularies are one."""
    ids, own = response.token_ids, example.token_ids
    first = _first_place(ids, own, pieces.begin)
    prompt = own[max(-first, 0) : example.start]
    return response.forced and len(prompt) > 1 and list(ids[max(first, 0) :][: len(prompt)]) == prompt


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

    def prompt_is_in(self, text: bytes) -> bool:
        """Returns whether a text holds the whole prompt, with or without the space that some tokenizers put first."""
        return bool(self.prompt.strip()) and self.prompt.removeprefix(b" ") in text

    @property
    def characters(self) -> int:
        """Length of prompt and response."""
        return len((self.prompt + self.response).decode(errors="replace"))


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
        response: What the server said.
        example: The example in the student's tokens.
        pieces: Token texts of the student.
        read: Decodes the text of the response's tokens.
        ends: Texts of the teacher's end token.
    """
    student = _student_text(example, pieces)
    end = pieces.texts[pieces.end]

    def spell(token: Token) -> bytes:
        return end if token.text in ends else token.raw or read(token.text)

    texts = [spell(place.token) for place in response.places]
    whole = b"".join(texts)
    forced = response.forced or (response.completed and student.prompt_is_in(whole))
    if problem := _problem(response, texts, student, example, forced):
        return Alignment({}, dict.fromkeys(student.tokens, problem), lambda token, at: problem)
    begin = _response_offset(whole, student) if forced else 0
    assert begin is not None
    lead = b"" if forced else _missing_space(whole, student.response)

    def identify(token: Token, position: int) -> int | Reason:
        text = spell(token)
        if position == example.start and text != end:
            text = lead + text
        if text == student.tokens[position]:
            return example.token_ids[position]
        if UNKNOWN in token.text and token.raw in (None, b"", token.text.encode()):
            return Reason.PARTIAL
        return pieces.ids.get(text, Reason.NO_TOKEN)

    if texts:
        texts[0] = lead + texts[0]
    return Alignment(*_align_places(_places_from(begin, texts, response.places), student, forced), identify)


def _problem(
    response: Response, texts: Sequence[bytes], student: _StudentText, example: Encoded, forced: bool
) -> Reason | None:
    """Returns why nothing of a text can be aligned, if so."""
    whole = b"".join(texts)
    if response.token_ids and not whole:
        return Reason.ONLY_IDS
    if forced and _response_offset(whole, student) is None:
        return Reason.SPACES_LOST if _squeezed(student.prompt) in _squeezed(whole) else Reason.NOT_FOUND
    if not forced and _lost_spaces(whole, student.response):
        return Reason.SPACES_LOST
    if not forced and response.completed and _echo_ignored(response, texts, student, example):
        return Reason.ECHO_IGNORED
    return None


def _squeezed(text: bytes) -> bytes:
    return b"".join(text.split())


def _lost_spaces(generated: bytes, response: bytes) -> bool:
    """Returns whether a text continues the response beyond its first word, if spaces do not count, and has none."""
    words = response.split()
    same = _common_prefix(_squeezed(generated), _squeezed(response))
    return bool(words) and b" " not in generated.strip() and same > len(words[0])


def _echo_ignored(response: Response, texts: Sequence[bytes], student: _StudentText, example: Encoded) -> bool:
    """Returns whether a completion was made after the response that was sent along with its prompt.

    Its offset or the number of tokens that the server read is then nearer to those of prompt and response. A single
    token that is not the response's first is taken for such a completion, too, if nothing says where it stands.
    """
    prompt, whole = len(student.prompt.decode(errors="replace")), student.characters
    if response.offset:
        return abs(response.offset - whole) < abs(response.offset - prompt)
    if texts and student.response.lstrip().startswith(texts[0].lstrip() or b" "):
        return False
    if response.prompt_tokens:
        read, tokens = response.prompt_tokens, len(example.token_ids) - 1
        return abs(read - tokens) < abs(read - example.start)
    return len(texts) == 1


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
