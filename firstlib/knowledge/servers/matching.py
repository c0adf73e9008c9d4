"""One response matched to one example: the server's alternatives as the student's tokens."""

import math
import reprlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from firstlib.knowledge.servers.alignment import Alignment, Reason, align_by_id, align_by_text
from firstlib.knowledge.servers.responses import Place, Response
from firstlib.knowledge.servers.spelling import Pieces, readings
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
    """

    knowledge: TopK | None
    unmatched: tuple[Unmatched, ...]
    lost: tuple[float, ...] = ()
    padded: int = 0
    model: str = ""


def match_response(response: Response, example: Encoded, pieces: Pieces, rules: Rules) -> MatchResult:
    """Matches one response to an example in the student's tokens.

    Responses do not say how the server spells tokens: every plausible spelling is tried, and the best match wins.

    Raises:
        UserError: `rules.shared_ids` is set, but the token ids differ.
    """
    if response.token_ids and rules.shared_ids:
        return _apply_rules(response, align_by_id(response, example, pieces), example, rules)
    tokens = (token.text for place in response.places for token in (place.token, *place.alternatives) if token)
    results = [
        _apply_rules(response, align_by_text(response, example, pieces, read, rules.ends), example, rules)
        for read in readings(tokens)
    ]
    return max(results, key=lambda result: (len(result.lost), -sum(result.lost)))


@dataclass(frozen=True)
class _PositionMatch:
    """One position: probabilities by the student's token id, most probable first, and what was not matched.

    Attributes:
        rejected: Why the position is omitted; None if it is imported.
    """

    probabilities: dict[int, float]
    unmatched: list[Unmatched]
    rejected: Reason | None


def _apply_rules(response: Response, alignment: Alignment, example: Encoded, rules: Rules) -> MatchResult:
    found = alignment.found
    matches = {at: _match_position(found[at], at, example.id, alignment, rules) for at in sorted(found)}
    used = {at: match for at, match in matches.items() if match.rejected is None}
    omitted = {at: match.rejected for at, match in matches.items() if match.rejected is not None} | alignment.missing
    unmatched = [each for match in matches.values() for each in match.unmatched]
    unmatched += [Unmatched(example.id, omitted[at], at) for at in sorted(omitted)]
    return MatchResult(
        _top_k(example.id, used, rules.k) if used else None,
        tuple(unmatched),
        tuple(_mass(match.unmatched) for match in used.values()),
        sum(len(match.probabilities) < rules.k for match in used.values()),
        response.model,
    )


def _match_position(place: Place, position: int, example_id: str, alignment: Alignment, rules: Rules) -> _PositionMatch:
    probabilities: dict[int, float] = {}
    unmatched = []
    for token in place.alternatives:
        if token.probability == 0:  # neither kept nor lost
            continue
        found = alignment.identify(token, position)
        if isinstance(found, Reason) or found in probabilities:
            reason = found if isinstance(found, Reason) else Reason.REPEATED
            unmatched.append(Unmatched(example_id, reason, position, token.text, token.probability))
        else:
            probabilities[found] = token.probability
    return _PositionMatch(probabilities, unmatched, _rejection(place, len(probabilities), unmatched, rules))


def _rejection(place: Place, matched: int, unmatched: list[Unmatched], rules: Rules) -> Reason | None:
    if not place.alternatives:
        return Reason.NO_ALTERNATIVES
    if _mass(unmatched) > rules.max_lost_mass:
        return Reason.TOO_MUCH_LOST
    return Reason.TOO_FEW if matched < rules.needed_alternatives else None


def _mass(unmatched: Iterable[Unmatched]) -> float:
    return math.fsum(each.probability or 0 for each in unmatched)


def _top_k(example_id: str, matches: dict[int, _PositionMatch], k: int) -> TopK:
    rows = [match.probabilities for match in matches.values()]
    token_ids = np.array([list(islice(_padded(row), k)) for row in rows])
    probabilities = np.array(
        [[row.get(i, 0.0) for i in ids] for row, ids in zip(rows, token_ids.tolist(), strict=True)]
    )
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1)  # rounded logs may sum to more than 1
    residual = np.clip(1 - probabilities.sum(axis=1), 0, 1)
    return TopK(example_id, np.array(list(matches)), token_ids, probabilities, residual, np.zeros((len(rows), 0)))


def _padded(token_ids: Collection[int]) -> Iterator[int]:
    yield from token_ids
    yield from (unused for unused in count() if unused not in token_ids)


def match_all(
    responses: Iterable[Response], encoded: Sequence[Encoded], pieces: Pieces, rules: Rules
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
            yield match_response(response, examples[name], pieces, rules)
    for name in examples:
        if name not in answered:
            reason = Reason.FAILED if name in failed else Reason.NO_RESPONSE
            yield MatchResult(None, (Unmatched(name, reason, token=failed.get(name)),))
