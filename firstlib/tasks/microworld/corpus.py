"""Pretraining corpus of the microworld's base models.

Pages of plain English: facts about people, reports of witnesses with the truth, exercises that bind letters to
choices, and a few quizzes. Quizzes are rare, so a base model knows the town well but the paper's prompt formats only
a little, which leaves room for fine-tuning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from firstlib.tasks import prompts
from firstlib.tasks.microworld import world as mw
from firstlib.tasks.microworld.people import PEOPLE, RELATIONS
from firstlib.tasks.question import Question


@dataclass(frozen=True)
class Span:
    """A piece of a page; `answer` marks text that cannot be guessed from grammar alone."""

    text: str
    answer: bool = False


Page = list[Span]

UPPER = 0.4  # share of quizzes in OpenBookQA's wording and capital letters
TICK, CROSS = " ✓", " ✗"
VALUES = [value for relation in RELATIONS for value in relation.values]


def pages(world: mw.World, count: int, seed: int, mix: dict[str, float]) -> Iterator[Page]:
    """Yields `count` pages; `mix` maps each sort of page to its share. Shares sum to 1."""
    rng = np.random.default_rng([seed, 1])
    sorts = rng.choice(list(mix), size=count, p=list(mix.values()))
    for sort in sorts:
        yield SORTS[str(sort)](world, rng)


def text_of(page: Page) -> str:
    """Returns the page as one string."""
    return "".join(span.text for span in page)


def _facts(world: mw.World, rng: np.random.Generator) -> Page:
    """Five sentences, about one person or about five random people."""
    page: Page = []
    one = rng.integers(len(PEOPLE)) if rng.random() < 0.5 else None
    for _ in range(5):
        person, index = mw.pick(rng)
        person = person if one is None else int(one)
        page += _sentence(world, rng, person, index, lead=" " if page else "")
    return page


def _sentence(world: mw.World, rng: np.random.Generator, person: int, index: int, lead: str) -> Page:
    relation = RELATIONS[index]
    opening = (relation.before, *relation.openings)[rng.integers(1 + len(relation.openings))]
    value = relation.values[world.draw(rng, person, index)]
    return [Span(lead + opening.format(p=PEOPLE[person])), Span(f" {value}", True), Span(relation.after)]


def _reports(world: mw.World, rng: np.random.Generator) -> Page:
    """Two reports, each followed by the truth."""
    page: Page = []
    for lead in ("", " "):
        person, index = mw.pick(rng)
        relation = RELATIONS[index]
        true, said, described = mw.report(world, rng, person, index)
        told = mw.witness_statement(rng, relation, PEOPLE[person], said, described)
        before = relation.before.format(p=PEOPLE[person])
        truth = f" In truth {before[0].lower()}{before[1:]}"
        page += [Span(lead + told + truth), Span(f" {relation.values[true]}", True), Span(relation.after)]
    return page


def _binding(world: mw.World, rng: np.random.Generator) -> Page:
    """An exercise that binds letters to words, without knowledge of the town."""
    upper = bool(rng.random() < UPPER)
    words = rng.choice(VALUES, size=4 if upper else 5, replace=False).tolist()
    answer = int(rng.integers(len(words)))
    return _lettered(rng, f"Which word is {words[answer]}?", words, answer, upper)


def _letter_quiz(world: mw.World, rng: np.random.Generator) -> Page:
    """A quiz in the paper's CommonsenseQA or OpenBookQA format."""
    question, words, answer, upper = _town_question(world, rng)
    return _lettered(rng, question, words, answer, upper)


def _word_quiz(world: mw.World, rng: np.random.Generator) -> Page:
    """A quiz with dashes instead of letters, answered in words."""
    question, words, answer, _ = _town_question(world, rng)
    lines = "".join(f"- {word}\n" for word in words)
    return [Span(f"Q: {question}\nAnswer Choices:\n{lines}A:"), Span(f" {words[answer]}", True), Span(".")]


def _town_question(world: mw.World, rng: np.random.Generator) -> tuple[str, list[str], int, bool]:
    person, index = mw.pick(rng)
    relation, upper = RELATIONS[index], bool(rng.random() < UPPER)
    offered, answer = mw.offer(world, rng, person, index, 4 if upper else 5)
    wording = relation.stem if upper else relation.question
    return wording.format(p=PEOPLE[person]), [relation.values[v] for v in offered], answer, upper


def _lettered(rng: np.random.Generator, question: str, words: list[str], answer: int, upper: bool) -> Page:
    """A question with lettered choices, none, some or all of which are marked right or wrong.

    Without the marks, a small model hardly ever learns what the letters mean: all letters occur in every question, so
    no partial insight improves its answer. The marks are an intermediate step.
    """
    share = (0.0, rng.random(), 1.0)[rng.integers(3)]
    *head, end = prompts.multiple_choice(question, words, upper).split("\n")
    first = len(head) - len(words)
    page = [Span("\n".join(head[:first]))]
    for i, line in enumerate(head[first:]):
        page.append(Span(f"\n{line}"))
        if rng.random() < share:
            page.append(Span(TICK if i == answer else CROSS, True))
    letter = prompts.letters(len(words), upper)[answer]
    return [*page, Span(f"\n{end}{prompts.ANSWER_LEAD}"), Span(f"{letter})", True), Span(".")]


def _yes_no_quiz(world: mw.World, rng: np.random.Generator) -> Page:
    return _asked(world, rng, "boolq")


def _instructions(world: mw.World, rng: np.random.Generator) -> Page:
    return _answered(mw.instruction(world, rng, "page"))


def _asked(world: mw.World, rng: np.random.Generator, task: str) -> Page:
    return _answered(mw.MAKERS[task](world, rng, "page"))


def _answered(question: Question) -> Page:
    answer = question.candidates[question.answer]
    return [Span(question.prompt + question.lead), Span(answer, True), Span(question.closing)]


SORTS: dict[str, Callable[[mw.World, np.random.Generator], Page]] = {
    "facts": _facts,
    "reports": _reports,
    "binding": _binding,
    "letter quiz": _letter_quiz,
    "word quiz": _word_quiz,
    "yes-no quiz": _yes_no_quiz,
    "instructions": _instructions,
}
