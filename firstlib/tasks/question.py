"""Questions and training examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """A prompt and the response to learn. The loss covers the response only."""

    id: str
    prompt: str
    response: str


@dataclass(frozen=True)
class Question:
    """A question with candidate answers: letters, each of which is one token, or words, which may be several.

    The response is `lead + candidates[answer] + closing`; a model answers at the position after `prompt + lead`,
    where the next token is the answer.

    >>> q = Question("q1", "Q: Is it so? A:", " The answer is (", ("a", "b"), ").", 1, ("yes", "no"))
    >>> q.response
    ' The answer is (b).'

    Attributes:
        lead: Text of the response before the answer.
        candidates: Texts of the candidates, including leading spaces.
        closing: Text of the response after the answer.
        answer: Index of the right candidate.
        choices: What each candidate stands for, for display.
        posterior: Exact probability of each candidate, if known (microworld only).
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
        """The right response, as a model is trained on it."""
        return self.lead + self.candidates[self.answer] + self.closing

    @property
    def in_words(self) -> bool:
        """Whether the response is a choice's own text, as from `text_answers.in_words`: possibly several tokens."""
        alike = all(text.strip() == choice for text, choice in zip(self.candidates, self.choices, strict=True))
        return alike and not self.lead and not self.closing

    def example(self) -> Example:
        """Returns this question as a training example."""
        return Example(self.id, self.prompt, self.response)


def without_right_choice(question: Question, foreign: Sequence[str], rng: np.random.Generator) -> Question:
    """Replaces the choices of a lettered question with draws from `foreign`: none is right, the posterior uniform."""
    choices = tuple(rng.choice(foreign, size=len(question.choices), replace=False).tolist())
    prompt = question.prompt
    for old, new in zip(question.choices, choices, strict=True):
        prompt = prompt.replace(f") {old}\n", f") {new}\n")
    uniform = tuple(1 / len(choices) for _ in choices)
    candidates = tuple(f" {choice}" for choice in choices) if question.in_words else question.candidates
    return replace(
        question, id=f"{question.id}-no-right-choice", prompt=prompt, candidates=candidates, choices=choices,
        posterior=uniform,
    )  # fmt: skip


Item = Question | Example


def from_json(content: dict[str, Any]) -> Item:
    """Builds an item from JSON fields, with lists in place of tuples.

    >>> from_json({"id": "1", "prompt": "Go.", "response": " Gone."})
    Example(id='1', prompt='Go.', response=' Gone.')
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Question(**fields) if "candidates" in fields else Example(**fields)


def characters(item: Item) -> int:
    """Returns the number of characters of prompt and response."""
    return len(item.prompt) + len(item.response)


def as_example(item: Item) -> Example:
    """Returns the item as a training example; an example is returned unchanged."""
    return item.example() if isinstance(item, Question) else item
