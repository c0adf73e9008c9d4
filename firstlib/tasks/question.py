"""What a model is asked, and what it is taught with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


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


def without_right_choice(question: Question, foreign: Sequence[str], rng: np.random.Generator) -> Question:
    """The same lettered question with choices drawn from `foreign`: none is right, and honest is 1/number each."""
    choices = tuple(rng.choice(foreign, size=len(question.choices), replace=False).tolist())
    prompt = question.prompt
    for old, new in zip(question.choices, choices, strict=True):
        prompt = prompt.replace(f") {old}\n", f") {new}\n")
    even = tuple(1 / len(choices) for _ in choices)
    return replace(question, id=f"{question.id}-no-right-choice", prompt=prompt, choices=choices, posterior=even)


Item = Question | Example


def from_json(content: dict[str, Any]) -> Item:
    """An item from its fields, as JSON holds them: with lists for tuples.

    >>> from_json({"id": "1", "prompt": "Go.", "response": " Gone."})
    Example(id='1', prompt='Go.', response=' Gone.')
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Question(**fields) if "candidates" in fields else Example(**fields)


def characters(item: Item) -> int:
    """How much text an item is."""
    return len(item.prompt) + len(item.response)


def as_example(item: Item) -> Example:
    """The item as a training example, which it may be already."""
    return item.example() if isinstance(item, Question) else item
