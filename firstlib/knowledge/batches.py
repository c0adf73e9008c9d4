"""Batches of examples of similar length that share a prefix, so that little is padded and nothing is read twice."""

from collections.abc import Iterator, Sequence

import numpy as np

from firstlib.knowledge.reading import Batch
from firstlib.runtime.sequences import select
from firstlib.tasks.encoding import Encoded, longest_first

MIN_LENGTH_RATIO = 0.9  # shortest over longest example of a batch, at least, without the shared prefix
MIN_SHARED = 16  # tokens of a prefix that is kept, at least: fewer do not pay for the pass that reads them
SAMPLE = 1000  # examples among which prefixes are looked for


def batches_by_length(encoded: Sequence[Encoded], largest: int) -> Iterator[Batch]:
    """Yields batches of at most `largest` examples, longest first; a new batch starts where padding becomes costly.

    Examples with one prefix follow each other. The batches do not depend on the order of the input.
    """
    order = longest_first(encoded)
    prefixes = shared_prefixes([_prompt(encoded[int(i)]) for i in order[:: -(-len(order) // SAMPLE) or 1]], largest)
    for shared, places in _by_prefix(encoded, order, prefixes):
        group: list[Encoded] = []
        for example in select(encoded, places):
            if group and (len(group) == largest or _rest(example, shared) < MIN_LENGTH_RATIO * _rest(group[0], shared)):
                yield Batch(group, shared)
                group = []
            group.append(example)
        yield Batch(group, shared)


def shared_prefixes(prompts: Sequence[Sequence[int]], largest: int) -> list[tuple[int, ...]]:
    """Returns the prefixes of at least `MIN_SHARED` tokens that a batch's worth of prompts share, longest first.

    A prefix within another is found where it is longer by `MIN_SHARED` tokens.

    >>> preamble, other = tuple(range(20)), tuple(range(100, 130))
    >>> found = shared_prefixes([(*preamble, 7), (*preamble, 8), (*other, 7), (*other, 9), (1, 2)], largest=2)
    >>> found == [other, preamble]
    True

    Args:
        prompts: Token ids of a sample of the prompts.
        largest: Examples in a batch; fewer prompts than that, or than the sample holds, do not become a group.
    """
    found = []
    open_groups = [(sorted(map(tuple, prompts)), 0)] if prompts else []
    while open_groups:
        group, known = open_groups.pop()
        length = _common(group[0], group[-1])  # sorted, so what these two share, all share
        if length >= known + MIN_SHARED:
            found.append(group[0][:length])
            known = length
        children: dict[int, list[tuple[int, ...]]] = {}
        for prompt in group:
            if len(prompt) > length:
                children.setdefault(prompt[length], []).append(prompt)
        open_groups += [(child, known) for child in children.values() if len(child) >= min(largest, len(prompts))]
    return sorted(found, key=len, reverse=True)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences share at the start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _by_prefix(
    encoded: Sequence[Encoded], order: np.ndarray, prefixes: Sequence[tuple[int, ...]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the length of each prefix with the indices of its examples in this order, last those with none."""
    lengths = [*map(len, prefixes), 0]
    groups = np.full(len(order), len(prefixes))
    if prefixes:
        for place, index in enumerate(order):
            prompt = tuple(_prompt(encoded[int(index)]))
            groups[place] = next(n for n, b in enumerate([*prefixes, ()]) if prompt[: len(b)] == b)
    for number, length in enumerate(lengths):
        places = order[groups == number]
        if len(places):
            yield length, places


def _prompt(example: Encoded) -> list[int]:
    """The tokens before the one whose state predicts the response."""
    return example.token_ids[: max(example.start - 1, 0)]


def _rest(example: Encoded, shared: int) -> int:
    return len(example.token_ids) - shared
