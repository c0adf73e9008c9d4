"""What a teacher says at the position of an answer: other spellings of a candidate count for it.

A chat model asked for `(b)` may write `B`, ` b` or `(B`. Each is another token, but there is no doubt what it means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from firstlib.knowledge.servers.spelling import readings

NEXT_TO_NONE = 0.05  # share of the told mass below which the candidates say nothing about the question
MOSTLY_TOLD = 0.5  # mass that a server must have told for that to be certain
TOLERATED = 0.01  # share of answers that may say nothing

_AROUND = " \t\n()[]{}<>.,:;*'\"`"  # what may surround a letter or a word without changing it


@dataclass(frozen=True)
class Candidates:
    """The candidates of one question.

    Attributes:
        position: The answer's position in the example's tokens.
        token_ids: The candidates' token ids.
        texts: Their texts.
    """

    position: int
    token_ids: tuple[int, ...]
    texts: tuple[str, ...]

    @cached_property
    def _by_meaning(self) -> dict[str, int]:
        named = {meaning(text): i for text, i in zip(self.texts, self.token_ids, strict=True)}
        return named if len(named) == len(self.texts) and "" not in named else {}

    def meant(self, text: str) -> int | None:
        """Returns the token id of the candidate that a text certainly means, if any.

        >>> Candidates(0, (7, 8), ("a", "b")).meant(" (B)")
        8
        """
        return self._by_meaning.get(meaning(text))

    def say_nothing(self, probabilities: Mapping[int, float], told: float) -> bool:
        """Returns whether the candidates hold next to none of the mass that was told."""
        mass = sum(probabilities.get(i, 0.0) for i in self.token_ids)
        return told >= MOSTLY_TOLD and mass < NEXT_TO_NONE * told


def meaning(text: str) -> str:
    """Returns a text without case and without what may surround it.

    >>> meaning(" (B)"), meaning("Yes."), meaning("ĠNo")
    ('b', 'yes', 'no')
    """
    spelled = readings([text])[-1](text).decode(errors="replace")
    return spelled.strip(_AROUND).casefold()


def too_many(count: int, total: int, share: float = TOLERATED) -> bool:
    """Returns whether more than a share of all questions, and more than one, lack an answer.

    >>> too_many(1, 10), too_many(2, 10), too_many(2, 200)
    (False, True, False)
    """
    return count > max(1, share * total)
