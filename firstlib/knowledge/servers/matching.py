"""One response matched to one example: the server's alternatives as the student's tokens."""

import math
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from firstlib.knowledge.servers.alignment import Alignment, Reason, align_by_id, align_by_text, same_ids
from firstlib.knowledge.servers.candidates import Candidates
from firstlib.knowledge.servers.responses import NO_LOGPROBS, Response
from firstlib.knowledge.servers.spelling import Pieces, readings
from firstlib.knowledge.servers.tokens import Place, Token
from firstlib.knowledge.top_k import TopK
from firstlib.runtime.errors import UserError
from firstlib.tasks.encoding import Encoded


@dataclass(frozen=True)
class Rules:
    """What to import.

    Attributes:
        k: Tokens to keep per position.
        min_alternatives: Matched alternatives that a position needs; fewer than k are padded (default: k, no padding).
        max_lost_mass: Largest mass of unmatched alternatives that a position may lose.
        shared_ids: Whether the teacher's token ids are the student's; if so, match by id where the server returns ids.
        ends: Texts of the teacher's end token, besides the student's.
    """

    k: int
    min_alternatives: int | None = None
    max_lost_mass: float = 0.05
    shared_ids: bool = False
    ends: frozenset[str] = frozenset()

    @property
    def needed_alternatives(self) -> int:
        """Matched alternatives that a position needs: `min_alternatives`, or k."""
        return self.k if self.min_alternatives is None else self.min_alternatives


@dataclass(frozen=True)
class Unmatched:
    """An alternative, a position or an example that was not imported.

    Attributes:
        example_id: The example's id.
        reason: Why it was not imported.
        position: In the student's tokens; None for a whole example.
        token: Text of the alternative, or how a request failed; None for a position.
        probability: Probability of the alternative, else None.
    """

    example_id: str
    reason: Reason
    position: int | None = None
    token: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class MatchResult:
    """The result of matching one response.

    Attributes:
        knowledge: The imported positions, if any; the residual is 1 minus the matched mass.
        unmatched: Everything that was not imported.
        lost: `(P,)`, mass of unmatched alternatives at the imported positions.
        padded: Number of imported positions with fewer than k alternatives.
        model: The model that answered, as the server names it.
        aligned: Number of positions that a place was found for, imported or not.
        silent: What the teacher most probably says at the answer, where its candidates have next to no mass.
        respelled: Whether other spellings of candidates were counted for them.
    """

    knowledge: TopK | None
    unmatched: tuple[Unmatched, ...]
    lost: tuple[float, ...] = ()
    padded: int = 0
    model: str = ""
    aligned: int = 0
    silent: str | None = None
    respelled: bool = False


def match_response(
    response: Response, example: Encoded, pieces: Pieces, rules: Rules, candidates: Candidates | None = None
) -> MatchResult:
    """Matches one response to an example in the student's tokens.

    Responses do not say how the server spells tokens: every plausible spelling is tried, and the best match wins.

    Args:
        response: What the server said.
        example: The example in the student's tokens.
        pieces: The student's tokens.
        rules: What to import.
        candidates: Those of the question that the example answers; None for free text.

    Raises:
        UserError: `rules.shared_ids` is set, but the token ids differ.
    """
    asked = _Asked(response, example, pieces, rules, candidates)
    if response.token_ids and rules.shared_ids:
        return _apply_rules(asked, align_by_id(response, example, pieces))
    tokens = (token.text for place in response.places for token in (place.token, *place.alternatives))
    results = [
        _apply_rules(asked, align_by_text(response, example, pieces, read, rules.ends)) for read in readings(tokens)
    ]
    best = max(results, key=lambda result: (len(result.lost), -sum(result.lost), result.aligned))
    if not best.aligned and same_ids(response, example, pieces):
        return _apply_rules(asked, align_by_id(response, example, pieces))
    return best


@dataclass(frozen=True)
class _Asked:
    """One response with everything that it is matched to."""

    response: Response
    example: Encoded
    pieces: Pieces
    rules: Rules
    candidates: Candidates | None

    def candidates_at(self, position: int) -> Candidates | None:
        """The question's candidates, at the position of its answer only."""
        return self.candidates if self.candidates and self.candidates.position == position else None


@dataclass(frozen=True)
class _PositionMatch:
    """One position: probabilities by the student's token id, most probable first, and what was not matched.

    Attributes:
        rejected: Why the position is omitted; None if it is imported.
        respelled: Whether other spellings of candidates were counted for them.
    """

    probabilities: dict[int, float]
    unmatched: list[Unmatched]
    rejected: Reason | None
    respelled: bool


def _apply_rules(asked: _Asked, alignment: Alignment) -> MatchResult:
    found, name = alignment.found, asked.example.id
    matches = {at: _match_position(asked, found[at], at, alignment) for at in sorted(found)}
    used = {at: match for at, match in matches.items() if match.rejected is None}
    omitted = {at: match.rejected for at, match in matches.items() if match.rejected is not None} | alignment.missing
    unmatched = [each for match in matches.values() for each in match.unmatched]
    unmatched += [Unmatched(name, omitted[at], at) for at in sorted(omitted)]
    silent = next((at for at, reason in omitted.items() if reason is Reason.NOT_AN_ANSWER), None)
    return MatchResult(
        _top_k(name, used, asked.rules.k) if used else None,
        tuple(unmatched),
        tuple(_mass(match.unmatched) for match in used.values()),
        sum(len(match.probabilities) < asked.rules.k for match in used.values()),
        asked.response.model,
        len(found),
        None if silent is None else found[silent].alternatives[0].text,
        any(match.respelled for match in used.values()),
    )


def _match_position(asked: _Asked, place: Place, position: int, alignment: Alignment) -> _PositionMatch:
    probabilities: dict[int, float] = {}
    respelled: dict[int, float] = {}
    unmatched = []
    candidates = asked.candidates_at(position)
    for token in place.alternatives:
        if token.probability == 0:  # neither kept nor lost
            continue
        found = alignment.identify(token, position)
        meant = None if candidates is None else _meant(token, found, candidates, asked.pieces)
        if meant is not None:
            respelled[meant] = respelled.get(meant, 0.0) + token.probability
        elif isinstance(found, Reason) or found in probabilities:
            reason = found if isinstance(found, Reason) else Reason.REPEATED
            unmatched.append(Unmatched(asked.example.id, reason, position, token.text, token.probability))
        else:
            probabilities[found] = token.probability
    if candidates and respelled:
        probabilities = _with_respelled(probabilities, respelled, candidates)
    rejected = _rejection(place, probabilities, unmatched, asked.rules, candidates)
    return _PositionMatch(probabilities, unmatched, rejected, bool(respelled))


def _meant(token: Token, found: int | Reason, candidates: Candidates, pieces: Pieces) -> int | None:
    """Returns the candidate of which a token is another spelling; None if it is none, or the candidate itself."""
    if found in candidates.token_ids:
        return None
    text = pieces.texts[found] if isinstance(found, int) else token.raw
    return candidates.meant(text.decode(errors="replace") if text else token.text)


def _with_respelled(
    probabilities: Mapping[int, float], respelled: Mapping[int, float], candidates: Candidates
) -> dict[int, float]:
    """Adds the mass of other spellings; the other candidates, at probability 0, fill the places that these leave."""
    whole = dict(probabilities)
    for i, probability in respelled.items():
        whole[i] = whole.get(i, 0.0) + probability
    for i in candidates.token_ids:
        whole.setdefault(i, 0.0)
    return dict(sorted(whole.items(), key=lambda pair: -pair[1]))


def _rejection(
    place: Place, probabilities: Mapping[int, float], unmatched: list[Unmatched], rules: Rules,
    candidates: Candidates | None,
) -> Reason | None:  # fmt: skip
    if not place.alternatives:
        return Reason.NO_ALTERNATIVES
    told = math.fsum(token.probability for token in place.alternatives)
    if candidates and candidates.say_nothing(probabilities, told):
        return Reason.NOT_AN_ANSWER
    if _mass(unmatched) > rules.max_lost_mass:
        return Reason.TOO_MUCH_LOST
    if len(probabilities) >= rules.needed_alternatives:
        return None
    ruled_out = sum(token.probability == 0 for token in place.alternatives)
    return Reason.RULED_OUT if len(probabilities) + ruled_out >= rules.needed_alternatives else Reason.TOO_FEW


def _mass(unmatched: Iterable[Unmatched]) -> float:
    return math.fsum(each.probability or 0 for each in unmatched)


def _top_k(example_id: str, matches: dict[int, _PositionMatch], k: int) -> TopK:
    rows = [match.probabilities for match in matches.values()]
    token_ids = np.array([list(islice(_padded(row), k)) for row in rows])
    probabilities = np.array(
        [[row.get(i, 0.0) for i in ids] for row, ids in zip(rows, token_ids.tolist(), strict=True)]
    )
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1)  # rounded logs may sum to more than 1
    residual = np.maximum(1 - probabilities.sum(axis=1), 0)
    return TopK(example_id, np.array(list(matches)), token_ids, probabilities, residual, np.zeros((len(rows), 0)))


def _padded(token_ids: Collection[int]) -> Iterator[int]:
    yield from token_ids
    yield from (unused for unused in count() if unused not in token_ids)


def match_all(
    responses: Iterable[Response],
    encoded: Sequence[Encoded],
    pieces: Pieces,
    rules: Rules,
    candidates: Mapping[str, Candidates] | None = None,
) -> Iterator[MatchResult]:
    """Yields the result of each response as it is read, and finally one for each example without a response.

    Raises:
        UserError: An example has two responses, or as `match_response`; raised during iteration.
    """
    examples = {example.id: example for example in encoded}
    answered: set[str] = set()
    failed: dict[str, str] = {}
    for response in responses:
        name = response.example_id
        if name not in examples:
            yield MatchResult(None, (Unmatched(name, Reason.UNKNOWN_EXAMPLE),), model=response.model)
        elif response.failure:
            failed[name] = response.failure
        elif name in answered:
            raise UserError(f"{response.where}: a second response to example {reprlib.repr(name)}; remove one of them")
        else:
            answered.add(name)
            yield match_response(response, examples[name], pieces, rules, (candidates or {}).get(name))
    for name in examples:
        if name not in answered:
            yield MatchResult(None, (_unanswered(name, failed.get(name)),))


def _unanswered(name: str, failure: str | None) -> Unmatched:
    if failure == NO_LOGPROBS:
        return Unmatched(name, Reason.NO_LOGPROBS)
    return Unmatched(name, Reason.NO_RESPONSE if failure is None else Reason.FAILED, token=failure)
