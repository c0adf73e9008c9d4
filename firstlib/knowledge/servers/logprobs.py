"""A teacher behind an interface: its log-probabilities in the student's tokens, and a report of all that has no place.

An alternative is the student's token that writes the same there (`alignment`). Where there is none it is reported, and
its mass goes to the residual, which is 1 minus what was matched: an interface does not tell the rest. A position that
loses too much mass in that way, or keeps too few alternatives, is reported and left out, because recalibration would
hand the missing mass to tokens that the teacher did not mean.

Padding: where fewer alternatives than k are asked for, the rest of the k are the lowest unused token ids, with
probability 0. The loss is then well defined (0 log 0 = 0). Direct distillation and a logit temperature give such tokens
at most the former's 1e-6; but Eq. 4 and label smoothing give every one of the k some mass, and must not see them.
"""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import TextIO

import numpy as np
from transformers import PreTrainedTokenizerBase

from firstlib.knowledge.servers.alignment import Aligned, Reason, align_by_id, align_by_text
from firstlib.knowledge.servers.responses import Place, Response, read_responses
from firstlib.knowledge.servers.spelling import Pieces, pieces_of, readings
from firstlib.knowledge.store import KnowledgeStore, Origin, write_store
from firstlib.knowledge.top_k import TopK
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.progress import steps
from firstlib.tasks.encoding import Encoded

UNMATCHED, REPORT = "unmatched.jsonl", "report.json"


@dataclass(frozen=True)
class Rules:
    """What is imported.

    Attributes:
        k: Tokens to keep at a position.
        fewest: Matched alternatives that a position needs, the rest being padded (default: k, so that none is).
        most_lost: Mass that a position may lose with its unmatched alternatives.
        shared_ids: The teacher's token ids are the student's: match by id where the server tells ids.
        ends: How the teacher writes its end token, where it is not as the student does.
    """

    k: int
    fewest: int | None = None
    most_lost: float = 0.05
    shared_ids: bool = False
    ends: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Unmatched:
    """One thing that was not imported.

    Attributes:
        position: In the student's tokens; None where all of an example is meant.
        token: The teacher's, where an alternative is meant; or how a request failed.
        probability: The alternative's.
    """

    example_id: str
    reason: Reason
    position: int | None = None
    token: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class Matched:
    """What came of one response.

    Attributes:
        knowledge: On the positions that are used, if any; its residual is by subtraction.
        unmatched: All else.
        lost: `(P,)`, the mass of unmatched alternatives at these positions.
        padded: How many of them have fewer than k alternatives.
        model: Who answered.
    """

    knowledge: TopK | None
    unmatched: tuple[Unmatched, ...]
    lost: tuple[float, ...] = ()
    padded: int = 0
    model: str = ""


def match(response: Response, example: Encoded, pieces: Pieces, rules: Rules) -> Matched:
    """What the teacher said on one example, in the student's tokens.

    How the server spells tokens is not told: of the ways that their signs allow, the one that matches most is meant.

    Raises:
        UserError: The token ids are said to be shared, and are not.
    """
    if response.token_ids and rules.shared_ids:
        return _matched(response, align_by_id(response, example, pieces), example, rules)
    tokens = (token.text for place in response.places for token in (place.token, *place.alternatives) if token)
    tries = [
        _matched(response, align_by_text(response, example, pieces, read, rules.ends), example, rules)
        for read in readings(tokens)
    ]
    return max(tries, key=lambda found: (len(found.lost), -sum(found.lost)))


@dataclass(frozen=True)
class _Row:
    """A position's matched alternatives, most probable first, and what was not matched."""

    known: dict[int, float]
    unmatched: list[Unmatched]
    refused: Reason | None


def _matched(response: Response, aligned: Aligned, example: Encoded, rules: Rules) -> Matched:
    rows = {at: _row(aligned.found[at], at, example.id, aligned, rules) for at in sorted(aligned.found)}
    used = {at: row for at, row in rows.items() if row.refused is None}
    refused = {at: row.refused for at, row in rows.items() if row.refused is not None} | aligned.missing
    unmatched = [each for row in rows.values() for each in row.unmatched]
    unmatched += [Unmatched(example.id, refused[at], at) for at in sorted(refused)]
    return Matched(
        _top_k(example.id, used, rules.k) if used else None,
        tuple(unmatched),
        tuple(_mass(row.unmatched) for row in used.values()),
        sum(len(row.known) < rules.k for row in used.values()),
        response.model,
    )


def _row(place: Place, position: int, example_id: str, aligned: Aligned, rules: Rules) -> _Row:
    known: dict[int, float] = {}
    unmatched = []
    for token in place.alternatives:
        if token.probability == 0:  # nothing to keep and nothing to lose
            continue
        found = aligned.identify(token, position)
        if isinstance(found, Reason) or found in known:
            reason = found if isinstance(found, Reason) else Reason.REPEATED
            unmatched.append(Unmatched(example_id, reason, position, token.text, token.probability))
        else:
            known[found] = token.probability
    return _Row(known, unmatched, _refused(place, known, unmatched, rules))


def _refused(place: Place, known: dict[int, float], unmatched: list[Unmatched], rules: Rules) -> Reason | None:
    fewest = rules.k if rules.fewest is None else rules.fewest
    if not place.alternatives:
        return Reason.NO_ALTERNATIVES
    if _mass(unmatched) > rules.most_lost:
        return Reason.TOO_MUCH_LOST
    return Reason.TOO_FEW if len(known) < fewest else None


def _mass(unmatched: Iterable[Unmatched]) -> float:
    return math.fsum(each.probability or 0 for each in unmatched)


def _top_k(example_id: str, rows: dict[int, _Row], k: int) -> TopK:
    token_ids = np.array([list(islice(_padded(row.known), k)) for row in rows.values()])
    probabilities = np.array(
        [[row.known.get(i, 0.0) for i in ids] for row, ids in zip(rows.values(), token_ids.tolist(), strict=True)]
    )
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1)  # rounded logs may sum to a little more
    residual = np.clip(1 - probabilities.sum(axis=1), 0, 1)
    return TopK(example_id, np.array(list(rows)), token_ids, probabilities, residual, np.zeros((len(rows), 0)))


def _padded(known: dict[int, float]) -> Iterator[int]:
    yield from known
    yield from (unused for unused in count() if unused not in known)


def match_all(
    responses: Iterable[Response], encoded: Sequence[Encoded], pieces: Pieces, rules: Rules
) -> Iterator[Matched]:
    """What comes of every response, one at a time, and at the end of every example without one.

    Raises:
        UserError: Two responses are to one example; and as `match`.
    """
    examples = {example.id: example for example in encoded}
    answered: set[str] = set()
    failed: dict[str, str] = {}
    for response in responses:
        name = response.example_id
        if name not in examples:
            yield Matched(None, (Unmatched(name, Reason.UNKNOWN_EXAMPLE),), model=response.model)
        elif response.failure:
            failed[name] = response.failure
        elif name in answered:
            raise UserError(f"{response.where}: a second response to example {reprlib.repr(name)}; keep one of the two")
        else:
            answered.add(name)
            yield match(response, examples[name], pieces, rules)
    for name in examples:
        if name not in answered:
            reason = Reason.FAILED if name in failed else Reason.NO_RESPONSE
            yield Matched(None, (Unmatched(name, reason, token=failed.get(name)),))


@dataclass(frozen=True)
class Report:
    """What was imported, and how much of what was not.

    Attributes:
        examples: That were to be answered.
        answered: Of which at least one position is imported.
        positions: In all their responses.
        imported: Of which there is knowledge now.
        padded: Of which fewer than k alternatives are matched, so that Eq. 4 and label smoothing must not see them.
        lost: Mass of unmatched alternatives, the mean over imported positions.
        unmatched: How often each reason was given.
        models: Who answered, and how often.
    """

    examples: int
    answered: int
    positions: int
    imported: int
    padded: int
    lost: float
    unmatched: dict[str, int]
    models: dict[str, int]

    def __str__(self) -> str:
        reasons = "; ".join(f"{number} x {reason}" for reason, number in self.unmatched.items())
        return (
            f"{self.imported} of {self.positions} positions imported, of {self.answered} of {self.examples} examples; "
            f"{self.lost:.2%} of their mass has no token here. Not imported: {reasons or 'nothing'}"
        )


class _Tally:
    """A report in the making."""

    def __init__(self) -> None:
        self.answered = self.imported = self.padded = 0
        self.lost = 0.0
        self.unmatched: Counter[str] = Counter()
        self.models: Counter[str] = Counter()

    def add(self, found: Matched) -> None:
        self.answered += found.knowledge is not None
        self.imported += len(found.lost)
        self.padded += found.padded
        self.lost += sum(found.lost)
        self.unmatched.update(each.reason.value for each in found.unmatched)
        self.models.update([found.model] if found.model else [])

    def report(self, encoded: Sequence[Encoded]) -> Report:
        positions = sum(len(example.token_ids) - example.start for example in encoded)
        lost = self.lost / max(self.imported, 1)
        return Report(
            len(encoded), self.answered, positions, self.imported, self.padded, lost,
            dict(self.unmatched.most_common()), dict(self.models),
        )  # fmt: skip


def import_logprobs(
    file: Path | str,
    folder: Path,
    encoded: Sequence[Encoded],
    tokenizer: PreTrainedTokenizerBase,
    origin: Origin,
    rules: Rules,
    vocabulary: int | None = None,
) -> Report:
    """Writes a store from a file of responses, with `report.json` and every unmatched thing in `unmatched.jsonl`.

    A line at a time: memory stays flat. The store may lack examples, and positions of those that it has.

    Args:
        file: JSONL, see `responses`.
        folder: An empty one, to be thrown away if an error is raised, as `Artefacts.get` does.
        encoded: The examples that were asked about, by the student's tokenizer.
        tokenizer: The student's.
        origin: The store's; no normalisers can be had from an interface, so its `temperatures` must be empty.
        rules: What is imported, with the origin's k.
        vocabulary: Ids that are tokens (default: all that the tokenizer knows).

    Raises:
        UserError: k or the rules are out of range; the file is not what it should be; nothing in it can be used.
    """
    pieces = pieces_of(tokenizer, vocabulary)
    _check(rules, origin, len(pieces.texts))
    tally = _Tally()
    with (folder / UNMATCHED).open("w", encoding="utf-8") as unmatched, steps("importing", len(encoded)) as at:
        found = match_all(read_responses(file), encoded, pieces, rules)
        write_store(folder, _noted(found, tally, unmatched, at), origin)
    report = tally.report(encoded)
    if not report.imported:
        raise UserError(f"{file}: nothing can be used. {report}")
    write_json(folder / REPORT, asdict(report))
    return report


def _check(rules: Rules, origin: Origin, tokens: int) -> None:
    fewest = rules.k if rules.fewest is None else rules.fewest
    if not 0 < rules.k <= tokens:
        raise UserError(f"k: must be from 1 to the {tokens} tokens of the student's vocabulary, not {rules.k}")
    if not 0 < fewest <= rules.k:
        raise UserError(f"fewest alternatives: must be from 1 to k = {rules.k}, not {fewest}")
    if not 0 <= rules.most_lost <= 1:
        raise UserError(f"most mass lost: must be from 0 to 1, not {rules.most_lost}")
    if origin.temperatures:
        raise UserError(
            f"knowledge.temperatures: an interface tells no normalisers at {origin.temperatures}; leave empty"
        )
    if origin.k != rules.k:
        raise ValueError(f"the store is to hold the top {origin.k}, but the rules keep {rules.k}")


def _noted(found: Iterable[Matched], tally: _Tally, unmatched: TextIO, at: Callable[[int], None]) -> Iterator[TopK]:
    for number, item in enumerate(found, 1):
        tally.add(item)
        unmatched.writelines(json.dumps(asdict(each)) + "\n" for each in item.unmatched)
        at(number)
        if item.knowledge is not None:
            yield item.knowledge


def open_imported(folder: Path, expected: Origin) -> KnowledgeStore:
    """A store that `import_logprobs` wrote, whoever the teacher was.

    Raises:
        UserError: There is none, or a part of it is missing or damaged; it is of another format, tokenizer, data or k;
            it has padded positions, to which Eq. 4 would give mass.
    """
    if not folder.is_dir():
        raise UserError(f"knowledge.imported: there is no {folder}; write it with `first import-logprobs`")
    try:
        store, padded = KnowledgeStore(folder), json.loads((folder / REPORT).read_text(encoding="utf-8"))["padded"]
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's are among them
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: is damaged ({reason}); remove it and import the responses again") from error
    for name in ("format", "tokenizer", "data", "k"):
        has, wants = getattr(store.origin, name), getattr(expected, name)
        if has != wants:
            raise UserError(
                f"{folder}: its {name} is {has}, expected {wants}; remove it and import the responses again"
            )
    if padded:
        raise UserError(
            f"{folder}: {padded} positions have fewer than {expected.k} alternatives; import with a lower --k"
        )
    return store
