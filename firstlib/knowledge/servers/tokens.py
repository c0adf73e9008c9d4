"""Tokens with their probabilities, as a server's response gives them, whatever its format.

Servers write -9999, minus infinity or null for a token that is ruled out: its probability is 0.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from pydantic.functional_validators import AfterValidator
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from firstlib.runtime.errors import UserError

ROUNDING = 0.02  # by which logs in bfloat16, or with two decimals, may make probabilities sum to more than 1
_AS_ID = re.compile(r"token_id:(\d{1,9})")  # vLLM's `return_tokens_as_token_ids`


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
        token: The token at this position.
        alternatives: The most probable tokens at this position, in order; empty if the server gives none.
    """

    token: Token
    alternatives: tuple[Token, ...]


class Schema(BaseModel):
    """Strict: a text is no number, and true is none either."""

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)  # built when a response comes, not at import


def _is_logarithm(value: float) -> float:
    if math.isnan(value) or value > ROUNDING:
        raise ValueError(f"Input should be the log of a probability, a finite number less than or equal to {ROUNDING}")
    return value


LogProbability = Annotated[float, AfterValidator(_is_logarithm)]
Id = Annotated[int, Field(ge=0)]


# Tokens are dictionaries, not models: a file holds millions, and dictionaries validate in half the time.
class ListedToken(TypedDict):
    """An alternative as most servers list it; TGI calls its text `text`."""

    token: NotRequired[str]
    text: NotRequired[str]
    logprob: LogProbability | None
    bytes: NotRequired[list[Annotated[int, Field(ge=0, le=255)]] | None]
    id: NotRequired[Id | None]
    token_id: NotRequired[Id | None]


class GeneratedToken(ListedToken):
    """A token of a generated text with its alternatives."""

    top_logprobs: NotRequired[list[ListedToken] | None]


class NamedToken(TypedDict):
    """A token listed under its id."""

    logprob: LogProbability | None
    decoded_token: NotRequired[str | None]


ById = dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], NamedToken]


def token_of(text: str, logprob: float | None, raw: Sequence[int] | None = None, id: int | None = None) -> Token:  # noqa: A002
    """Returns an alternative; a text `token_id:123` is an id without a text."""
    named = _AS_ID.fullmatch(text)
    if named:
        return Token("", probability_of(logprob), None, int(named[1]))
    return Token(text, probability_of(logprob), None if raw is None else bytes(raw), id)


def probability_of(logprob: float | None) -> float:
    """Returns a probability from its natural logarithm; null is 0."""
    return 0.0 if logprob is None else math.exp(min(logprob, 0.0))


def listed(token: Mapping[str, Any]) -> Token:
    """Returns a token of a list of alternatives."""
    text = token["token"] if "token" in token else token.get("text", "")
    known = token["id"] if token.get("id") is not None else token.get("token_id")
    return token_of(text, token["logprob"], token.get("bytes"), known)


def generated_places(tokens: Iterable[GeneratedToken], where: str) -> list[Place]:
    """Returns the places of tokens that hold their alternatives."""
    return [place(listed(token), map(listed, token.get("top_logprobs") or ()), where) for token in tokens]


def places_by_id(rows: Sequence[ById | None], ids: Sequence[int], name: str, where: str) -> list[Place]:
    """Returns the places of rows that list tokens by id; a row without a token's own id is refused."""
    if len(rows) != len(ids):
        known = name.replace("logprobs", "token_ids")
        raise UserError(f"{where}: {len(rows)} {name}, but {len(ids)} {known}; request return_token_ids=true")
    places = []
    for index, (row, own) in enumerate(zip(rows, ids, strict=True)):
        tokens = {
            int(n): Token(e.get("decoded_token") or "", probability_of(e["logprob"]), id=int(n))
            for n, e in (row or {}).items()
        }
        if tokens and own not in tokens:
            raise UserError(f"{where}: {name}[{index}] lacks the prompt's own token {own}; repeat the request")
        places.append(place(tokens.get(own, Token("", math.nan, id=own)), tokens.values(), where))
    return places


def place(token: Token, alternatives: Iterable[Token], where: str) -> Place:
    """Returns a place with its alternatives in order.

    Raises:
        UserError: They sum to more than rounding allows.
    """
    ordered = sorted(alternatives, key=lambda each: -each.probability)
    total = math.fsum(each.probability for each in ordered)
    if total > 1 + ROUNDING:
        raise UserError(
            f"{where}: the probabilities of {ordered[0].text[:20]!r} and its alternatives sum to {total:.3f}; ask "
            "again with temperature 1 and without top_p, top_k or a grammar, and for natural logarithms"
        )
    return Place(token, tuple(ordered))
