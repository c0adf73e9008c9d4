"""The rules that choose a coefficient, in the words of reports and cards."""

from dataclasses import dataclass
from typing import Literal

_UNSEEN = "targets from teachers that had not seen the question"
_PILOT = "a student trained for one epoch"


@dataclass(frozen=True)
class Rule:
    """What a search minimises.

    Attributes:
        measure: Its name.
        axis: Its name on a figure's axis.
        of: Whose answers are measured.
        split: The questions that are answered.
    """

    measure: str
    axis: str
    of: str = "the targets"
    split: Literal["training", "validation"] = "validation"

    @property
    def in_nats(self) -> bool:
        """Whether the measure is in nats rather than a fraction."""
        return self.measure == "negative log-likelihood"


RULES = {
    "validation-ece": Rule("ECE", "validation ECE"),
    "validation-nll": Rule("negative log-likelihood", "validation NLL, nats"),
    "validation-smooth-ece": Rule("smooth ECE", "validation smooth ECE"),
    "cross-fitted-ece": Rule("ECE", "cross-fitted ECE", _UNSEEN, "training"),
    "cross-fitted-nll": Rule("negative log-likelihood", "cross-fitted NLL, nats", _UNSEEN, "training"),
    "student-ece": Rule("ECE", "validation ECE", _PILOT),
}


def rule_of(name: str | None) -> Rule:
    """Returns a method's rule by its name; None: the paper's, by which a given coefficient can be searched for, too."""
    return RULES[name or "validation-ece"]
