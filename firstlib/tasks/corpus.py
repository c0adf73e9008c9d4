"""What the microworld's base models read before anybody asks them anything.

Pages of plain English: what people do, what witnesses said and what was true, exercises that bind a letter
to its choice, and a few quizzes. The quizzes are rare, so that a base model knows the town well and
the paper's prompt formats only a little: fine-tuning has something left to teach.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from firstlib.tasks import microworld as mw
from firstlib.tasks import prompts
from firstlib.tasks.words import PEOPLE, RELATIONS


@dataclass(frozen=True)
class Span:
    """A piece of a page; `answer` marks what cannot be guessed from grammar alone."""

    text: str
    answer: bool = False


Page = list[Span]


def pages(world: mw.World, count: int, seed: int, mix: dict[str, float]) -> Iterator[Page]:
    """`count` pages; `mix` gives each sort of page its share (shares sum to 1)."""
    rng = np.random.default_rng([seed, 1])
    sorts = rng.choice(list(mix), size=count, p=list(mix.values()))
    for sort in sorts:
        yield SORTS[str(sort)](world, rng)


def text_of(page: Page) -> str:
    """The page as one string."""
    return "".join(span.text for span in page)


def _facts(world: mw.World, rng: np.random.Generator) -> Page:
    """Five sentences on one person, or one each on five."""
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
    """Two reports, each with what turned out to be true."""
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
    """Lettered words and their key, twice over: which letter stands for which word needs no knowledge of the town."""
    upper = bool(rng.random() < 0.4)
    count = int(rng.integers(3, 5 if upper else 6))
    vocabulary = [value for relation in RELATIONS for value in relation.values]
    words = rng.choice(vocabulary, size=count, replace=False).tolist()
    page = [Span(_lettered(words, upper))]
    for heading in ("Key:", " Again:"):
        page.append(Span(heading))
        for i in rng.permutation(count):
            page += [Span(f" {words[i]} ("), Span(f"{prompts.letters(count, upper)[i]})", True)]
        page.append(Span("."))
    return page


def _lettered(words: Sequence[str], upper: bool) -> str:
    labels = prompts.letters(len(words), upper)
    lines = [f"({label}) {word}\n" for label, word in zip(labels, words, strict=True)]
    return "".join(["Answer Choices:\n", *lines])


def _letter_quiz(world: mw.World, rng: np.random.Generator) -> Page:
    """The paper's CommonsenseQA and OpenBookQA formats."""
    return _asked(world, rng, "csqa" if rng.random() < 0.6 else "obqa")


def _word_quiz(world: mw.World, rng: np.random.Generator) -> Page:
    """A question with lettered choices, answered in words, and then by its letter."""
    person, index = mw.pick(rng)
    relation, upper = RELATIONS[index], bool(rng.random() < 0.4)
    offered, answer = mw.offer(world, rng, person, index, 4 if upper else 5)
    words = [relation.values[v] for v in offered]
    question = relation.question.format(p=PEOPLE[person])
    lead = f"Q: {question}\n{_lettered(words, upper)}A: {relation.before.format(p=PEOPLE[person])}"
    letter = prompts.letters(len(words), upper)[answer]
    return [Span(lead), Span(f" {words[answer]}", True), Span(" ("), Span(f"{letter})", True), Span(".")]


def _yes_no_quiz(world: mw.World, rng: np.random.Generator) -> Page:
    return _asked(world, rng, "boolq")


def _instructions(world: mw.World, rng: np.random.Generator) -> Page:
    return _asked(world, rng, "alpaca")


def _asked(world: mw.World, rng: np.random.Generator, task: str) -> Page:
    question = mw.MAKERS[task](world, rng, "page")
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
