"""The loss's options, apart from it: who only names them need not import torch."""

from enum import StrEnum


class _Choice(StrEnum):
    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"{cls.__name__.lower()}={value!r} is unknown: choose one of {', '.join(cls)}")


class Tail(_Choice):
    """What becomes of the residual, the mass 1 - sum_i q_i that the target's K tokens leave over."""

    DROP = "drop"  # ignored, as in the paper: only the K terms of Eq. 5
    RENORMALISE = "renormalise"  # shared out among the K tokens: q divided by its sum
    GHOST = "ghost"  # one more bucket, matched against the student's mass outside the K tokens
    SMOOTH = "smooth"  # spread evenly over the V - K other tokens
    GOLD = "gold"  # given to the true token, whether it is among the K or not


class Student(_Choice):
    """Which softmax the student's probabilities s_i come from."""

    FULL = "full"  # over the vocabulary, which also teaches that other tokens are improbable
    RENORMALISED = "renormalised"  # over the teacher's K tokens alone
