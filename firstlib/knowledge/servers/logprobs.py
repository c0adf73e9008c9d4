"""Imports an API-only teacher's log-probabilities in the student's tokens, and reports what could not be imported.

Each alternative is matched to the student's token with the same text (`alignment`). An alternative without a match is
reported, and its mass goes to the residual, which is 1 minus the matched mass, because servers return no more than
their top alternatives. A position that loses too much mass, or keeps too few alternatives, is reported and omitted:
recalibration would otherwise give the missing mass to tokens that the teacher did not choose.

Padding: a position with fewer than k alternatives, if allowed, is padded with the lowest unused token ids at
probability 0. The loss is then well defined (0 log 0 = 0). Direct distillation gives padding tokens at most 1e-6 and a
logit temperature gives them none; but Eq. 4 (arXiv 2408.12168) and label smoothing give each of the k tokens mass, so
neither may be applied to padded positions.
"""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import TextIO

import numpy as np
from transformers import PreTrainedTokenizerBase

from firstlib.knowledge.servers.alignment import Alignment, Reason, align_by_id, align_by_text
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
    """What to import.

    Attributes:
        k: Tokens to keep per position.
        min_alternatives: Matched alternatives that a position needs; fewer than k are padded (default: k, no padding).
        max_lost_mass: Largest mass of unmatched alternatives that a position may lose.
        shared_ids: Whether the teacher's token ids are the student's; if so, match by id where the server returns ids.
        ends: Texts of the teacher's end token, besides the student's.
    """

    k: int
    min_alternatives: int | None = None
    max_lost_mass: float = 0.05
    shared_ids: bool = False
    ends: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Unmatched:
    """An alternative, a position or an example that was not imported.

    Attributes:
        example_id: The example's id.
        reason: Why it was not imported.
        position: In the student's tokens; None for a whole example.
        token: Text of the alternative, or how a request failed; None for a position.
        probability: Probability of the alternative, else None.
    """

    example_id: str
    reason: Reason
    position: int | None = None
    token: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class MatchResult:
    """The result of matching one response.

    Attributes:
        knowledge: The imported positions, if any; the residual is 1 minus the matched mass.
        unmatched: Everything that was not imported.
        lost: `(P,)`, mass of unmatched alternatives at the imported positions.
        padded: Number of imported positions with fewer than k alternatives.
        model: The model that answered, as the server names it.
    """

    knowledge: TopK | None
    unmatched: tuple[Unmatched, ...]
    lost: tuple[float, ...] = ()
    padded: int = 0
    model: str = ""


def match_response(response: Response, example: Encoded, pieces: Pieces, rules: Rules) -> MatchResult:
    """Matches one response to an example in the student's tokens.

    Responses do not say how the server spells tokens: every plausible spelling is tried, and the best match wins.

    Raises:
        UserError: `rules.shared_ids` is set, but the token ids differ.
    """
    if response.token_ids and rules.shared_ids:
        return _apply_rules(response, align_by_id(response, example, pieces), example, rules)
    tokens = (token.text for place in response.places for token in (place.token, *place.alternatives) if token)
    results = [
        _apply_rules(response, align_by_text(response, example, pieces, read, rules.ends), example, rules)
        for read in readings(tokens)
    ]
    return max(results, key=lambda result: (len(result.lost), -sum(result.lost)))


@dataclass(frozen=True)
class _PositionMatch:
    """One position: probabilities by the student's token id, most probable first, and what was not matched.

    Attributes:
        rejected: Why the position is omitted; None if it is imported.
    """

    probabilities: dict[int, float]
    unmatched: list[Unmatched]
    rejected: Reason | None


def _apply_rules(response: Response, alignment: Alignment, example: Encoded, rules: Rules) -> MatchResult:
    found = alignment.found
    matches = {at: _match_position(found[at], at, example.id, alignment, rules) for at in sorted(found)}
    used = {at: match for at, match in matches.items() if match.rejected is None}
    omitted = {at: match.rejected for at, match in matches.items() if match.rejected is not None} | alignment.missing
    unmatched = [each for match in matches.values() for each in match.unmatched]
    unmatched += [Unmatched(example.id, omitted[at], at) for at in sorted(omitted)]
    return MatchResult(
        _top_k(example.id, used, rules.k) if used else None,
        tuple(unmatched),
        tuple(_mass(match.unmatched) for match in used.values()),
        sum(len(match.probabilities) < rules.k for match in used.values()),
        response.model,
    )


def _match_position(place: Place, position: int, example_id: str, alignment: Alignment, rules: Rules) -> _PositionMatch:
    probabilities: dict[int, float] = {}
    unmatched = []
    for token in place.alternatives:
        if token.probability == 0:  # neither kept nor lost
            continue
        found = alignment.identify(token, position)
        if isinstance(found, Reason) or found in probabilities:
            reason = found if isinstance(found, Reason) else Reason.REPEATED
            unmatched.append(Unmatched(example_id, reason, position, token.text, token.probability))
        else:
            probabilities[found] = token.probability
    return _PositionMatch(probabilities, unmatched, _rejection(place, len(probabilities), unmatched, rules))


def _rejection(place: Place, matched: int, unmatched: list[Unmatched], rules: Rules) -> Reason | None:
    if not place.alternatives:
        return Reason.NO_ALTERNATIVES
    if _mass(unmatched) > rules.max_lost_mass:
        return Reason.TOO_MUCH_LOST
    return Reason.TOO_FEW if matched < _min_alternatives(rules) else None


def _min_alternatives(rules: Rules) -> int:
    return rules.k if rules.min_alternatives is None else rules.min_alternatives


def _mass(unmatched: Iterable[Unmatched]) -> float:
    return math.fsum(each.probability or 0 for each in unmatched)


def _top_k(example_id: str, matches: dict[int, _PositionMatch], k: int) -> TopK:
    rows = [match.probabilities for match in matches.values()]
    token_ids = np.array([list(islice(_padded(row), k)) for row in rows])
    probabilities = np.array(
        [[row.get(i, 0.0) for i in ids] for row, ids in zip(rows, token_ids.tolist(), strict=True)]
    )
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1)  # rounded logs may sum to more than 1
    residual = np.clip(1 - probabilities.sum(axis=1), 0, 1)
    return TopK(example_id, np.array(list(matches)), token_ids, probabilities, residual, np.zeros((len(rows), 0)))


def _padded(token_ids: Collection[int]) -> Iterator[int]:
    yield from token_ids
    yield from (unused for unused in count() if unused not in token_ids)


def match_all(
    responses: Iterable[Response], encoded: Sequence[Encoded], pieces: Pieces, rules: Rules
) -> Iterator[MatchResult]:
    """Yields the result of each response as it is read, and finally one for each example without a response.

    Raises:
        UserError: An example has two responses, or as `match_response`; raised during iteration.
    """
    examples = {example.id: example for example in encoded}
    answered: set[str] = set()
    failed: dict[str, str] = {}
    for response in responses:
        name = response.example_id
        if name not in examples:
            yield MatchResult(None, (Unmatched(name, Reason.UNKNOWN_EXAMPLE),), model=response.model)
        elif response.failure:
            failed[name] = response.failure
        elif name in answered:
            raise UserError(f"{response.where}: a second response to example {reprlib.repr(name)}; remove one of them")
        else:
            answered.add(name)
            yield match_response(response, examples[name], pieces, rules)
    for name in examples:
        if name not in answered:
            reason = Reason.FAILED if name in failed else Reason.NO_RESPONSE
            yield MatchResult(None, (Unmatched(name, reason, token=failed.get(name)),))


@dataclass(frozen=True)
class Report:
    """Summary of an import.

    Attributes:
        examples: Number of examples.
        answered: Number of examples with at least one imported position.
        positions: Number of response positions of all examples.
        imported: Number of imported positions.
        padded: Number of imported positions with fewer than k alternatives; neither Eq. 4 nor label smoothing may be
            applied to them.
        lost: Mean mass of unmatched alternatives over imported positions.
        unmatched: Number of alternatives, positions and examples not imported, by reason.
        models: Number of responses by model.
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
            f"{self.imported} of {self.positions} positions imported, from {self.answered} of {self.examples} "
            f"examples; {self.lost:.2%} of their mass is unmatched. Not imported: {reasons or 'nothing'}"
        )


class _ReportBuilder:
    """Accumulates match results into a report."""

    def __init__(self) -> None:
        self.answered = self.imported = self.padded = 0
        self.lost = 0.0
        self.unmatched: Counter[str] = Counter()
        self.models: Counter[str] = Counter()

    def add(self, result: MatchResult) -> None:
        self.answered += result.knowledge is not None
        self.imported += len(result.lost)
        self.padded += result.padded
        self.lost += sum(result.lost)
        self.unmatched.update(each.reason.value for each in result.unmatched)
        self.models.update([result.model] if result.model else [])

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
    """Imports a file of responses; writes a store, `report.json` and, in `unmatched.jsonl`, what was not imported.

    The file is read line by line, so memory use does not grow with it. The store may lack examples or positions.

    Args:
        file: JSONL, see `responses`.
        folder: An empty folder; discard it if this raises, as `Artefacts.get` does.
        encoded: The examples, encoded by the student's tokenizer.
        tokenizer: The student's tokenizer.
        origin: The store's origin; servers return no log normalisers, so its `temperatures` must be empty.
        rules: What to import; `rules.k` must be the origin's.
        vocabulary: Number of ids that are tokens (default: all of the tokenizer's).

    Raises:
        UserError: k or a rule is out of range; the file is not valid; nothing in it can be imported.
    """
    pieces = pieces_of(tokenizer, vocabulary)
    _check(rules, origin, len(pieces.texts))
    builder = _ReportBuilder()
    with (folder / UNMATCHED).open("w", encoding="utf-8") as unmatched, steps("importing", len(encoded)) as at:
        results = match_all(read_responses(file), encoded, pieces, rules)
        write_store(folder, _record(results, builder, unmatched, at), origin)
    report = builder.report(encoded)
    if not report.imported:
        raise UserError(f"{file}: nothing can be imported. {report}")
    write_json(folder / REPORT, asdict(report))
    return report


def _check(rules: Rules, origin: Origin, tokens: int) -> None:
    fewest = _min_alternatives(rules)
    if not 0 < rules.k <= tokens:
        raise UserError(f"k: must be from 1 to the {tokens} tokens of the student's vocabulary, not {rules.k}")
    if not 0 < fewest <= rules.k:
        raise UserError(f"min_alternatives: must be from 1 to k = {rules.k}, not {fewest}")
    if not 0 <= rules.max_lost_mass <= 1:
        raise UserError(f"max_lost_mass: must be from 0 to 1, not {rules.max_lost_mass}")
    if origin.temperatures:
        raise UserError(
            f"knowledge.temperatures: servers return no log normalisers at {list(origin.temperatures)}; leave it empty"
        )
    if origin.k != rules.k:
        raise ValueError(f"the origin's k is {origin.k}, but the rules keep {rules.k}")


def _record(
    results: Iterable[MatchResult], builder: _ReportBuilder, unmatched: TextIO, at: Callable[[int], None]
) -> Iterator[TopK]:
    for number, result in enumerate(results, 1):
        builder.add(result)
        unmatched.writelines(json.dumps(asdict(each)) + "\n" for each in result.unmatched)
        at(number)
        if result.knowledge is not None:
            yield result.knowledge


def open_imported(folder: Path, expected: Origin) -> KnowledgeStore:
    """Opens a store that `import_logprobs` wrote, from any teacher.

    Raises:
        UserError: The store is missing, incomplete or damaged; its format, tokenizer, data or k differs from the
            expected one; or it has padded positions, to which Eq. 4 would give mass.
    """
    if not folder.is_dir():
        raise UserError(f"knowledge.imported: there is no {folder}; write it with `first import-logprobs`")
    try:
        store, padded = KnowledgeStore(folder), json.loads((folder / REPORT).read_text(encoding="utf-8"))["padded"]
    except (OSError, ValueError, KeyError, TypeError) as error:  # includes pyarrow's errors
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
            f"{folder}: {padded} positions have fewer than {expected.k} alternatives; import with a smaller --k"
        )
    return store
