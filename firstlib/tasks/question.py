"""What a model is asked, and what it is taught with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A prompt and the response that a model is to learn. Loss is taken on the response only."""

    id: str
    prompt: str
    response: str


@dataclass(frozen=True)
class Question:
    """A question with candidate answers, each of which is one token.

    The response reads `lead + candidates[answer] + closing`; a model is asked at the position after
    `prompt + lead`, where the next token is the answer.

    >>> q = Question("q1", "Q: Is it so? A:", " The answer is (", ("a", "b"), ").", 1, ("yes", "no"))
    >>> q.response
    ' The answer is (b).'

    Attributes:
        candidates: Texts of the candidate tokens, leading space included.
        answer: Index of the right candidate.
        choices: What each candidate stands for, to show to a reader.
        posterior: Exact probability of each candidate, where the world that asked knows it.
    """

    id: str
    prompt: str
    lead: str
    candidates: tuple[str, ...]
    closing: str
    answer: int
    choices: tuple[str, ...]
    posterior: tuple[float, ...] | None = None

    @property
    def response(self) -> str:
        """The right response, as a model is taught it."""
        return self.lead + self.candidates[self.answer] + self.closing

    def example(self) -> Example:
        """This question as a training example."""
        return Example(self.id, self.prompt, self.response)
