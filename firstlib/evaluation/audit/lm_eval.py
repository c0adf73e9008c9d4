"""Reads what lm-evaluation-harness logs with `--log_samples`: one JSON line a question of a multiple-choice task.

A line holds the log-probability of every choice, summed over the choice's tokens, so choices may have any number of
tokens. Confidence is the chosen one's share among the choices, `softmax(log-probabilities)`: the harness's `acc` takes
the same choice. `acc_norm` divides each log-probability by the number of characters of its choice first.
The format is that of versions 0.4.0 to 0.4.13; those before 0.4.3 write a log as one JSON list.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from firstlib.evaluation.audit import gold
from firstlib.evaluation.audit.answers import Answers, Reading, Shown, joined, of_probabilities
from firstlib.evaluation.audit.options import Options
from firstlib.evaluation.audit.unusable import Unusable, UnusableRow
from firstlib.runtime.errors import UserError
from firstlib.tasks.delimited import opened

KIND = "a log of lm-evaluation-harness"
UNDATED = "results.json"  # of versions before 0.4.3
SUBJECTS = ("subject", "category", "topic")  # fields of a document that name its subject
MOST_SUBJECTS = 200
GENERATED = "its answers are generated text, without the choices' log-probabilities"
_FILE = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)")
_LONGEST = 1500  # characters of a question that a page shows: its end, because examples come first


class Sample(NamedTuple):
    """One line of a log.

    Attributes:
        scores: Log-probability of each choice, summed over its tokens, in nats.
        choices: Their texts, as the model was given them.
        target: The right answer as the log writes it.
        acc: The log's own judgement of the most probable choice; None where it has none.
        acc_norm: The same per character.
    """

    line: int
    id: str
    filter: str
    scores: tuple[float, ...]
    choices: tuple[str, ...]
    question: str
    target: str
    acc: bool | None
    acc_norm: bool | None
    doc: Mapping[str, Any]


def is_sample(row: Any) -> bool:
    """Whether a JSON object is a line of such a log."""
    return isinstance(row, dict) and "doc_id" in row and ("resps" in row or "filtered_resps" in row)


def task_of(file: Path) -> str:
    """Returns the task that a log's name tells, else its stem.

    >>> task_of(Path("samples_mmlu_anatomy_2026-01-31T10-20-30.123456.jsonl"))
    'mmlu_anatomy'
    """
    found = _FILE.fullmatch(file.stem)
    return found["task"] if found else file.stem


def belong_together(files: Sequence[Path]) -> bool:
    """Whether files are the logs of one model's several tasks, as the harness writes them into one folder."""
    named = [_FILE.fullmatch(file.stem) for file in files]
    tasks = {found["task"] for found in named if found}
    return len(tasks) == len(files) and len({file.parent for file in files}) == 1


# -- a file, several files, a folder -----------------------------------------------------------------------------


def read_files(name: str, files: Sequence[Path], options: Options, notes: tuple[str, ...] = ()) -> Answers:
    """Returns the answers in the logs of one model's tasks; tasks without choices are left out where others have some.

    Raises:
        UserError: A file is not readable, or no task has choices.
    """
    found, left_out = [], []
    for file in files:
        samples = _samples(file, options)
        if samples:
            found.append(_answers(file, *samples, options))
        else:
            left_out.append(task_of(file))
    if not found:
        raise UserError(f"{files[0]}: {GENERATED}; give the log of a multiple-choice task")
    told = (f"Left out, because {GENERATED}: {', '.join(left_out)}.",) if left_out else ()
    several = len(found) > 1
    parts = [_of_task(part, task_of(Path(part.name)), bool(options.columns.by)) for part in found] if several else found
    whole = joined(name, parts)
    return replace(whole, notes=(*notes, *told, *whole.notes))


def read_folder(folder: Path, options: Options) -> list[Answers]:
    """Returns one input for each model in a results folder, with the newest log of each of its tasks."""
    places: dict[Path, list[Path]] = {}
    for file in sorted(folder.rglob("samples_*.jsonl")):
        places.setdefault(file.parent, []).append(file)
    return [_read_place(place, files, options) for place, files in places.items()]


def read_results(file: Path, options: Options) -> Answers:
    """Returns the answers behind a `results_DATE.json`: the logs of the same date beside it.

    Versions before 0.4.3 write no dates; behind their `results.json` are all logs beside it.

    Raises:
        UserError: There are none.
    """
    logs = "*.jsonl" if file.name == UNDATED else f"samples_*_{file.stem.removeprefix('results_')}.jsonl"
    files = sorted(file.parent.glob(logs))
    if not files:
        raise UserError(f"{file}: has no {logs} beside it; run lm_eval with --log_samples")
    return read_files(file.parent.name, files, options)


def _read_place(place: Path, files: Sequence[Path], options: Options) -> Answers:
    newest: dict[str, Path] = {}
    for file in files:  # in the order of their dates
        newest[task_of(file)] = file
    older = len(files) - len(newest)
    notes = (f"{older} older logs of the same tasks are left out.",) if older else ()
    return read_files(place.name, list(newest.values()), options, notes)


def _of_task(part: Answers, task: str, by_field: bool) -> Answers:
    """Returns one of several tasks' answers with the task in each id and, unless a field was named, as the subject."""
    ids = None if part.ids is None else np.char.add(f"{task}:", part.ids)
    groups = part.groups if by_field and part.groups is not None else np.full(len(part), task)
    return replace(part, ids=ids, groups=groups)


# -- lines -------------------------------------------------------------------------------------------------------


def _samples(file: Path, options: Options) -> tuple[list[Sample], Unusable, int, tuple[str, ...]] | None:
    """Returns the usable lines under one filter, what is lost, and the number of lines; None for generated text."""
    unusable, samples, total, generated = Unusable(str(file), options.allowed, "line"), [], 0, 0
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        total += 1
        try:
            row = _parsed(line)
            generated += _is_generated(row)
            samples.append(_sample(row, number))
        except UnusableRow as error:
            unusable.add(number, error)
    if generated and not samples:
        return None
    if not samples:
        unusable.settled(total)
    chosen, notes = _of_one_filter(file, samples, options.filter)
    unusable.count = round(unusable.count * len(chosen) / max(1, len(samples)))  # each filter repeats every question
    _check_once(file, chosen)
    return chosen, unusable, len(chosen) + unusable.count, notes


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with opened(file) as lines:
            if lines.read(1) == b"[":
                yield from (json.dumps(row).encode() for row in _whole(file))
            else:
                lines.seek(0)
                yield from lines
    except (OSError, EOFError) as error:
        raise UserError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error}); check it") from error


def _whole(file: Path) -> list[Any]:
    try:
        with opened(file) as content:
            found: list[Any] = json.load(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not readable as JSON ({error!s:.120}); log it again") from error
    return found


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnusableRow(f"not JSON ({error})") from error
    if not is_sample(row):
        raise UnusableRow("not a sample: `doc_id` or `resps` is missing")
    return row


def _is_generated(row: Mapping[str, Any]) -> bool:
    found = row.get("resps")
    inner = found[0] if isinstance(found, list) and found else None
    return isinstance(inner, list) and bool(inner) and isinstance(inner[0], str) and not _is_number(inner[0])


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _sample(row: Mapping[str, Any], line: int) -> Sample:
    scores, pairs = _scores(row), _arguments(row)
    if len(pairs) != len(scores):
        raise UnusableRow(f"{len(scores)} log-probabilities for {len(pairs)} choices")
    scores, pairs = _without_unconditional(scores, pairs)
    if len(scores) < 2:
        raise UnusableRow(f"{len(scores)} choice; a multiple-choice question has two or more")
    if any(score != score or score == float("inf") for score in scores):
        raise UnusableRow("a log-probability is NaN or infinite")
    if all(score == -float("inf") for score in scores):
        raise UnusableRow("no choice has any probability")
    if max(scores) > 1e-6:
        raise UnusableRow(f"a log-probability is {max(scores):g}, above 0")
    question, choices = _texts(pairs)
    doc = row.get("doc")
    return Sample(
        line, _id(row), str(row.get("filter", "none")), scores, choices, question, str(row.get("target")),
        _judged(row, "acc"), _judged(row, "acc_norm"), doc if isinstance(doc, dict) else {},
    )  # fmt: skip


def _scores(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Returns the log-probabilities, which the harness writes as texts, each with whether it was the greedy choice."""
    found = row.get("filtered_resps") or row.get("resps")
    try:
        return tuple(float(one[0][0] if isinstance(one[0], list) else one[0]) for one in found)  # type: ignore[union-attr]
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise UnusableRow(f"its `filtered_resps` are not log-probabilities ({error})") from error


def _arguments(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the context and the continuation of every request."""
    found = row.get("arguments")
    requests = list(found.values()) if isinstance(found, dict) else found
    try:
        pairs = [tuple(one.values()) if isinstance(one, dict) else tuple(one) for one in requests]  # type: ignore[union-attr]
        return [(str(context), str(continuation)) for context, continuation, *_ in pairs]
    except (TypeError, ValueError) as error:
        raise UnusableRow("its `arguments` are not pairs of context and choice") from error


def _without_unconditional(
    scores: tuple[float, ...], pairs: list[tuple[str, str]]
) -> tuple[tuple[float, ...], list[tuple[str, str]]]:
    """Drops the second half that `acc_mutual_info` asks for: the same choices without the question."""
    half = len(pairs) // 2
    again = [choice for _, choice in pairs[half:]] == [choice for _, choice in pairs[:half]]
    if half and len(pairs) == 2 * half and again and not any(context for context, _ in pairs[half:]):
        return scores[:half], pairs[:half]
    return scores, pairs


def _texts(pairs: Sequence[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """Returns question and choices; some tasks (Winogrande) put each choice into the context instead."""
    contexts, continuations = zip(*pairs, strict=True)
    if len(set(continuations)) == 1 and len(set(contexts)) > 1:
        return continuations[0], contexts
    return contexts[0], continuations


def _id(row: Mapping[str, Any]) -> str:
    digest = row.get("doc_hash")
    return f"{row['doc_id']}:{digest[:16]}" if isinstance(digest, str) else str(row["doc_id"])


def _judged(row: Mapping[str, Any], metric: str) -> bool | None:
    value = row.get(metric)
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _of_one_filter(file: Path, samples: list[Sample], wanted: str | None) -> tuple[list[Sample], tuple[str, ...]]:
    names = list(dict.fromkeys(sample.filter for sample in samples))
    if wanted is not None and wanted not in names:
        raise UserError(f"{file}: has no filter {wanted!r}; it has {', '.join(names)}")
    chosen = wanted or ("none" if "none" in names else names[0])
    if wanted is None and chosen != "none" and len(names) > 1:
        raise UserError(f"{file}: has the filters {', '.join(names)}; choose one with --filter")
    notes = (f"The log has the filters {', '.join(names)}; this is {chosen!r}.",) if len(names) > 1 else ()
    return [sample for sample in samples if sample.filter == chosen], notes


def _check_once(file: Path, samples: Sequence[Sample]) -> None:
    seen: dict[str, int] = {}
    for sample in samples:
        if sample.id in seen:
            lines = f"lines {seen[sample.id]} and {sample.line}"
            raise UserError(f"{file}: {lines} are the same question (doc_id {sample.id}); remove one of them")
        seen[sample.id] = sample.line


# -- from lines to answers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """Samples whose right choice is known as far as possible, with their scores in one reading.

    Attributes:
        scores: `(N, C)` log-probabilities as the reading weighs them; minus infinity where there is no choice.
        answer: `(N,)`, index of the right choice, or `UNKNOWN`.
    """

    samples: list[Sample]
    scores: np.ndarray
    answer: np.ndarray


def _answers(
    file: Path, samples: list[Sample], unusable: Unusable, total: int, notes: tuple[str, ...], options: Options
) -> Answers:
    reading: Reading = options.reading or "candidates"
    judged = _judge(samples, reading, unusable)
    lost = unusable.settled(total)
    raw = np.exp(judged.scores) if reading == "vocabulary" else _softmax(judged.scores)
    confidence, correct = of_probabilities(raw, judged.answer)
    unknown = [(sample.acc_norm if reading == "acc_norm" else sample.acc) or False for sample in judged.samples]
    correct = np.where(judged.answer < 0, np.array(unknown, bool), correct)
    return Answers(
        str(file), KIND, reading, confidence, correct, raw, judged.answer,
        ids=np.array([sample.id for sample in judged.samples]),
        groups=_groups(file, judged.samples, options.columns.by),
        texts=[Shown(s.question[-_LONGEST:].strip(), tuple(c[-200:].strip() for c in s.choices))
               for s in judged.samples],
        lost=lost, notes=notes,
    )  # fmt: skip


def _judge(samples: list[Sample], reading: Reading, unusable: Unusable) -> _Judged:
    plain = _table([sample.scores for sample in samples])
    chosen = plain.argmax(axis=1)
    answer = gold.right_choices(samples, chosen)
    scores, judgements = plain, [sample.acc for sample in samples]
    if reading == "acc_norm":
        scores, judgements = gold.per_character(samples, answer), [sample.acc_norm for sample in samples]
    agrees = gold.agrees(scores.argmax(axis=1), answer, judgements)
    for place in np.flatnonzero(~agrees):
        told = "acc_norm" if reading == "acc_norm" else "acc"
        unusable.add(samples[place].line, f"`{told}` and `target` contradict the log-probabilities")
    kept = np.flatnonzero(agrees)
    return _Judged([samples[place] for place in kept], scores[kept], answer[kept])


def _table(rows: Sequence[Sequence[float]]) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), -np.inf)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
    return weights / weights.sum(axis=1, keepdims=True)


def _groups(file: Path, samples: Sequence[Sample], by: str | None) -> np.ndarray | None:
    if by is not None:
        values = [sample.doc.get(by) for sample in samples]
        missing = next((sample.line for sample, value in zip(samples, values, strict=True) if value is None), None)
        if missing is not None:
            raise UserError(f"{file}: line {missing}: its `doc` has no field {by!r}; give another --by")
        return np.array([str(value) for value in values])
    for name in SUBJECTS:
        found = [sample.doc.get(name) for sample in samples]
        if all(isinstance(value, str) for value in found) and 2 <= len(set(found)) <= MOST_SUBJECTS:
            return np.array(found)
    return None
