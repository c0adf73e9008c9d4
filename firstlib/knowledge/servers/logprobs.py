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
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from firstlib.knowledge.servers.alignment import REMEDIES
from firstlib.knowledge.servers.candidates import TOLERATED, Candidates, too_many
from firstlib.knowledge.servers.matching import MatchResult, Rules, match_all
from firstlib.knowledge.servers.responses import read_responses
from firstlib.knowledge.servers.spelling import pieces_of
from firstlib.knowledge.store import KnowledgeStore, Origin, write_store
from firstlib.knowledge.top_k import TopK
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.progress import steps
from firstlib.tasks.encoding import Encoded

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase

UNMATCHED, REPORT = "unmatched.jsonl", "report.json"
_SHOWN = 3  # reasons in an error
FEWEST_IMPORTED = 0.5  # share of the positions below which an import is worth a warning


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
        unanswered: Ids of the questions without an imported answer position.
        respelled: Number of answers at which other spellings of candidates were counted for them.
    """

    examples: int
    answered: int
    positions: int
    imported: int
    padded: int
    lost: float
    unmatched: dict[str, int]
    models: dict[str, int]
    unanswered: tuple[str, ...] = ()
    respelled: int = 0

    def __str__(self) -> str:
        return ". ".join([self._counts(), *self.remarks()])

    def _counts(self) -> str:
        reasons = "; ".join(f"{number} x {reason}" for reason, number in self.unmatched.items())
        return (
            f"{self.imported} of {self.positions} positions imported, from {self.answered} of {self.examples} "
            f"examples; {self.lost:.2%} of their mass is unmatched. Not imported: {reasons or 'nothing'}"
        )

    def brief(self) -> str:
        """Returns the summary for an error's one line: the commonest reasons, and the first remedy."""
        first = dict(list(self.unmatched.items())[:_SHOWN])
        shown = replace(self, unmatched=first, unanswered=(), respelled=0)
        return ". ".join([shown._counts(), *shown.remarks()[:1]])

    def remarks(self) -> list[str]:
        """Returns what a reader should know or do beyond the counts."""
        told = [f"{reason.value}: {REMEDIES[reason]}" for reason in REMEDIES if reason.value in self.unmatched]
        if self.respelled:
            told.append(f"{self.respelled} answers in another spelling were counted for their candidate")
        if self.imported and self.imported < FEWEST_IMPORTED * self.positions:
            told.append(f"Warning: less than {FEWEST_IMPORTED:.0%} of the positions are imported")
        if self.unanswered:
            told.append(f"{len(self.unanswered)} questions have no answer and will be left out")
        return told


class _ReportBuilder:
    """Accumulates match results into a report."""

    def __init__(self, candidates: Mapping[str, Candidates]) -> None:
        self.answered = self.imported = self.padded = self.respelled = 0
        self.without = {name: each.position for name, each in candidates.items()}
        self.silent: dict[str, str] = {}
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
        self.respelled += result.respelled
        if result.silent is not None:
            self.silent[result.unmatched[-1].example_id] = result.silent
        if result.knowledge is not None and self.without.get(result.knowledge.example_id) in result.knowledge.position:
            del self.without[result.knowledge.example_id]

    def report(self, encoded: Sequence[Encoded]) -> Report:
        positions = sum(len(example.token_ids) - example.start for example in encoded)
        lost = self.lost / max(self.imported, 1)
        return Report(
            len(encoded), self.answered, positions, self.imported, self.padded, lost,
            dict(self.unmatched.most_common()), dict(self.models), tuple(sorted(self.without)), self.respelled,
        )  # fmt: skip


def import_logprobs(
    file: Path | str,
    folder: Path,
    encoded: Sequence[Encoded],
    tokenizer: "PreTrainedTokenizerBase",
    origin: Origin,
    rules: Rules,
    vocabulary: int | None = None,
    candidates: Mapping[str, Candidates] | None = None,
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
        candidates: Those of each question, by the example's id; without them, answers are not looked at.

    Raises:
        UserError: k or a rule is out of range; the file is not valid; nothing in it can be imported; or too many
            answers give their candidates next to no mass.
    """
    pieces = pieces_of(tokenizer, vocabulary)
    _check(rules, origin, len(pieces.texts))
    builder = _ReportBuilder(candidates or {})
    with (folder / UNMATCHED).open("w", encoding="utf-8") as unmatched, steps("importing", len(encoded)) as at:
        results = match_all(read_responses(file), encoded, pieces, rules, candidates)
        write_store(folder, _record(results, builder, unmatched, at), origin)
    report = builder.report(encoded)
    _check_answers(builder.silent, report, file)
    if not report.imported:
        raise UserError(f"{file}: nothing can be imported. {report.brief()}")
    write_json(folder / REPORT, asdict(report))
    return report


def _check_answers(silent: Mapping[str, str], report: Report, file: Path | str) -> None:
    if too_many(len(silent), max(report.answered, len(silent))):
        name, text = next(iter(silent.items()))
        raise UserError(
            f"{file}: {len(silent)} answers give their candidates next to no mass, more than "
            f"{TOLERATED:.0%}; at the answer of example {reprlib.repr(name)} the teacher says {text[:40]!r}: ask it to "
            "answer in the prompt's words, or with the response in the request (`echo`, `prompt_logprobs`)"
        )


def _check(rules: Rules, origin: Origin, tokens: int) -> None:
    fewest = rules.needed_alternatives
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


def unanswered(folder: Path) -> tuple[str, ...]:
    """Returns the ids of the questions without an answer in a store that `import_logprobs` wrote; none if it lacks."""
    try:
        return tuple(json.loads((folder / REPORT).read_text(encoding="utf-8")).get("unanswered", ()))
    except (OSError, ValueError, AttributeError):  # opening the store explains it
        return ()


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
