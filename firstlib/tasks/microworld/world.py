"""The microworld: a small town with known true distributions, against which calibration can be measured.

Each person belongs to one of a few kinds that no text mentions. Every person and relation has a true distribution
over values, which depends mostly on the kind. Answers are *drawn* from it, so a question has an uncertainty that no
model can remove, and its exact Bayes posterior is known.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from firstlib.tasks import prompts
from firstlib.tasks.microworld.people import PEOPLE, RELATIONS, RELIABILITY, WITNESSES, Relation
from firstlib.tasks.question import Question

KINDS = 12
SHARPNESS = 2.6  # scale of the logits: with this value, the best guess is right about three times in four
OWN = 0.35  # scale of a person's deviation from its kind
WORLD_SEED = 2408
LISTED = 4  # choices of an instruction that has a list
LETTERED = 0.11  # share of the lists that have letters, as `scripts/lettered_lists.py` counts it in the real Alpaca


@dataclass(frozen=True)
class World:
    """The town. `truth[person, relation]` is the distribution over the relation's values; shape `(P, R, V)`."""

    truth: np.ndarray

    def prior(self, person: int, relation: int) -> np.ndarray:
        """Returns the true probability of each value, `(V,)`."""
        return self.truth[person, relation]

    def draw(self, rng: np.random.Generator, person: int, relation: int) -> int:
        """Draws the index of a value from the true distribution, as `rng.choice` does, which adds it up each time."""
        return int(self._cumulative[person, relation].searchsorted(rng.random(), side="right"))

    @cached_property
    def _cumulative(self) -> np.ndarray:
        sums = self.truth.cumsum(axis=-1)
        return sums / sums[..., -1:]


def make_world(seed: int = WORLD_SEED) -> World:
    """Returns the town that the shipped base models were pretrained on; another seed gives another town."""
    rng = np.random.default_rng(seed)
    shape = (len(RELATIONS), len(RELATIONS[0].values))
    of_kind = rng.normal(size=(KINDS, *shape))
    own = rng.normal(size=(len(PEOPLE), *shape))
    kind = np.arange(len(PEOPLE)) % KINDS
    logits = SHARPNESS * (of_kind[kind] + OWN * own)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return World(weights / weights.sum(-1, keepdims=True))


def ask(world: World, task: str, split: str, count: int, seed: int) -> list[Question]:
    """Returns `count` questions of one task and split; equal arguments give equal questions on any machine.

    Raises:
        KeyError: The task is not one of `TASKS`.
    """
    make = MAKERS[task]
    stream = int.from_bytes(hashlib.sha256(f"{task}/{split}".encode()).digest()[:8], "little")
    rng = np.random.default_rng([seed, stream])
    return [make(world, rng, f"{task}-{split}-{i:05d}") for i in range(count)]


def restrict(prior: np.ndarray, offered: Sequence[int]) -> np.ndarray:
    """Returns the posterior over the offered values, if wrong values are offered independently of the right one.

    >>> restrict(np.array([0.6, 0.2, 0.2]), [0, 2])
    array([0.75, 0.25])
    """
    chosen = prior[list(offered)]
    return chosen / chosen.sum()


def believe_report(prior: float, reliability: float, values: int) -> float:
    """Returns the probability that a report is true, by Bayes' rule; false reports name each other value equally often.

    >>> believe_report(prior=0.5, reliability=0.9, values=10)
    0.9878048780487805
    """
    true = prior * reliability
    untrue = (1 - prior) * (1 - reliability) / (values - 1)
    return true / (true + untrue)


def pick(rng: np.random.Generator) -> tuple[int, int]:
    """Draws a person and a relation uniformly."""
    return int(rng.integers(len(PEOPLE))), int(rng.integers(len(RELATIONS)))


def offer(world: World, rng: np.random.Generator, person: int, relation: int, count: int) -> tuple[list[int], int]:
    """Returns `count` values in random order, one of them drawn from the truth, and that value's index."""
    right = world.draw(rng, person, relation)
    others = [v for v in range(world.truth.shape[2]) if v != right]
    offered = [right, *rng.choice(others, size=count - 1, replace=False).tolist()]
    rng.shuffle(offered)
    return offered, offered.index(right)


def report(world: World, rng: np.random.Generator, person: int, relation: int) -> tuple[int, int, str]:
    """Draws the true value, the value that a witness reports, and the description of the witness."""
    described = tuple(RELIABILITY)[rng.integers(len(RELIABILITY))]
    true = world.draw(rng, person, relation)
    if rng.random() < RELIABILITY[described]:
        return true, true, described
    others = [v for v in range(world.truth.shape[2]) if v != true]
    return true, int(rng.choice(others)), described


def witness_statement(rng: np.random.Generator, relation: Relation, person: str, value: int, described: str) -> str:
    """Returns a passage: what a witness says, and how reliable the witness is."""
    witness = WITNESSES[rng.integers(len(WITNESSES))]
    clause = statement(relation, person, value)
    return f"The {witness}, who is {described}, says that {clause[0].lower()}{clause[1:]}"


def statement(relation: Relation, person: str, value: int) -> str:
    """Returns a fact as a sentence.

    >>> statement(RELATIONS[0], "baker", 0)
    'The baker drinks tea.'
    """
    return f"{relation.before.format(p=person)} {relation.values[value]}{relation.after}"


def _choice_question(world: World, rng: np.random.Generator, name: str, count: int, upper: bool) -> Question:
    person, index = pick(rng)
    relation = RELATIONS[index]
    offered, answer = offer(world, rng, person, index, count)
    choices = tuple(relation.values[v] for v in offered)
    wording = relation.stem if upper else relation.question
    return Question(
        id=name,
        prompt=prompts.multiple_choice(wording.format(p=PEOPLE[person]), choices, upper),
        lead=prompts.ANSWER_LEAD,
        candidates=tuple(f"{letter})" for letter in prompts.letters(count, upper)),
        closing=".",
        answer=answer,
        choices=choices,
        posterior=tuple(restrict(world.prior(person, index), offered).tolist()),
    )


def _csqa(world: World, rng: np.random.Generator, name: str) -> Question:
    return _choice_question(world, rng, name, 5, upper=False)


def _obqa(world: World, rng: np.random.Generator, name: str) -> Question:
    return _choice_question(world, rng, name, 4, upper=True)


def _boolq(world: World, rng: np.random.Generator, name: str) -> Question:
    person, index = pick(rng)
    relation = RELATIONS[index]
    true, said, described = report(world, rng, person, index)
    belief = believe_report(world.prior(person, index)[said], RELIABILITY[described], len(relation.values))
    question = relation.yes_no.format(p=PEOPLE[person], v=relation.values[said])
    passage = witness_statement(rng, relation, PEOPLE[person], said, described)
    return Question(
        id=name,
        prompt=prompts.yes_no(question, passage),
        lead="",
        candidates=("Yes", "No"),
        closing="",
        answer=0 if said == true else 1,
        choices=("Yes", "No"),
        posterior=(float(belief), float(1 - belief)),
    )


def _alpaca(world: World, rng: np.random.Generator, name: str) -> Question:
    """An instruction; some lists have letters, as in the real Alpaca. The base models have not seen such lists."""
    found = instruction(world, rng, name)
    return lettered(found) if len(found.choices) == LISTED and rng.random() < LETTERED else found


def instruction(world: World, rng: np.random.Generator, name: str) -> Question:
    """Returns a request to complete a fact, half of the time from a list."""
    person, index = pick(rng)
    relation = RELATIONS[index]
    limited = rng.random() < 0.5
    offered, answer = offer(world, rng, person, index, LISTED if limited else len(relation.values))
    values = [relation.values[v] for v in offered]
    request = relation.request.format(p=PEOPLE[person])
    if limited:
        request += " Choose from the list."
    return Question(
        id=name,
        prompt=prompts.instruction(request, ", ".join(values) if limited else ""),
        lead=relation.before.format(p=PEOPLE[person]),
        candidates=tuple(f" {value}" for value in values),
        closing=relation.after,
        answer=answer,
        choices=tuple(values),
        posterior=tuple(restrict(world.prior(person, index), offered).tolist()),
    )


def lettered(found: Question) -> Question:
    """Returns an instruction whose list has letters, which the answer repeats."""
    letters = prompts.letters(len(found.choices), upper=True)
    lines = "\n".join(f"{letter}) {choice}" for letter, choice in zip(letters, found.choices, strict=True))
    return replace(
        found,
        prompt=found.prompt.replace(", ".join(found.choices), lines),
        lead="",
        candidates=tuple(f"{letter})" for letter in letters),
        closing=f" {found.choices[found.answer]}.",
    )


MAKERS: dict[str, Callable[[World, np.random.Generator, str], Question]] = {
    "csqa": _csqa,
    "boolq": _boolq,
    "obqa": _obqa,
    "alpaca": _alpaca,
}
TASKS = tuple(MAKERS)


def foreign_values(question: Question) -> list[str]:
    """Returns all values of the relations that share no value with the question's choices."""
    own = set(question.choices)
    return [v for relation in RELATIONS if not own & set(relation.values) for v in relation.values]
