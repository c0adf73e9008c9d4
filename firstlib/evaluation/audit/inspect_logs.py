"""Reads inspect-ai's logs of multiple choice, `.eval` or JSON, where they hold the answer's log-probabilities.

The model writes a letter (`ANSWER: B`). It is the token after the last `ANSWER:`, as the scorer reads it; without one,
the only token that is a letter. There the log has the most probable alternatives, and the letters among them are the
choices. A letter that is not among them gets probability 0 if the least probable alternative bounds its probability
below `TOLERATED`; otherwise the sample cannot be used.
"""

import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from firstlib.evaluation.audit.answers import Answers, Reading, Shown, of_probabilities, refuse_acc_norm
from firstlib.evaluation.audit.options import Options
from firstlib.evaluation.audit.unusable import Unusable, UnusableRow
from firstlib.metrics.checks import SUM_TOLERANCE
from firstlib.runtime.errors import UserError

KIND = "a log of inspect-ai"
SWITCH_ON = (
    "it holds no log-probabilities; run `inspect eval` with --logprobs --top-logprobs 20, on a provider that has them"
)
TOLERATED = 0.01  # probability that a choice may have and not be among the alternatives
_ZSTANDARD = 93  # a method of compression that `zipfile` knows from Python 3.14
_LOCAL_HEADER = struct.Struct("<26xHH")
_LETTER = re.compile(r"[\s(\[*_\"'`]*([A-Za-z])[\s)\].:*_\"'`]*")
_ANNOUNCED = re.compile(r"answer\s*:", re.IGNORECASE)
_MARKS = re.compile(r"[\s(\[*_\"'`:]*")  # before the letter


class Sample(NamedTuple):
    """One question: the letters' probabilities in the vocabulary, and the index of the right one."""

    id: str
    probabilities: tuple[float, ...]
    answer: int
    shown: Shown
    metadata: Mapping[str, Any]


def is_log(content: Any) -> bool:
    """Whether JSON content is a log of inspect-ai."""
    return isinstance(content, dict) and isinstance(content.get("eval"), dict) and "plan" in content


def read(file: Path, options: Options) -> Answers:
    """Returns the answers in one log.

    Raises:
        UserError: The log is not readable, or has no log-probabilities.
    """
    refuse_acc_norm(options.reading)
    unusable, samples, total, silent = Unusable(str(file), options.allowed, "sample"), [], 0, 0
    for row in _rows(file):
        total += 1
        try:
            silent += not _tokens(row)
            samples.append(_sample(row))
        except UnusableRow as error:
            unusable.add(f"{row.get('id')!s:.40}", error)
    if total and silent == total:
        raise UserError(f"{file}: {SWITCH_ON}")
    return _answers(file, samples, unusable, total, options)


def _answers(file: Path, samples: list[Sample], unusable: Unusable, total: int, options: Options) -> Answers:
    lost = unusable.settled(total)
    raw = np.zeros((len(samples), max(len(sample.probabilities) for sample in samples)))
    for place, sample in enumerate(samples):
        raw[place, : len(sample.probabilities)] = sample.probabilities
    reading: Reading = options.reading or "candidates"
    read_as = raw if reading == "vocabulary" else raw / raw.sum(axis=1, keepdims=True)
    answer = np.array([sample.answer for sample in samples])
    return Answers(
        str(file), KIND, reading, *of_probabilities(read_as, answer), read_as, answer,
        ids=_ids(file, samples), groups=_groups(file, samples, options.columns.by),
        texts=[sample.shown for sample in samples], lost=lost,
    )  # fmt: skip


def _ids(file: Path, samples: list[Sample]) -> np.ndarray:
    values, counts = np.unique([sample.id for sample in samples], return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{file}: the sample {values[counts > 1][0]} (id:epoch) is there twice; remove one of them")
    return np.array([sample.id for sample in samples])


def _groups(file: Path, samples: list[Sample], by: str | None) -> np.ndarray | None:
    if by is None:
        return None
    if missing := next((sample.id for sample in samples if sample.metadata.get(by) is None), None):
        known = sorted({name for sample in samples for name in sample.metadata})
        raise UserError(
            f"{file}: the metadata of sample {missing} has no {by!r}; --by can be {', '.join(known) or '-'}"
        )
    return np.array([str(sample.metadata[by]) for sample in samples])


# -- files -------------------------------------------------------------------------------------------------------


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        yield from _zipped(file) if file.suffix == ".eval" else _plain(file)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile, KeyError, pa.ArrowException) as error:
        raise UserError(f"{file}: is not readable as a log of inspect-ai ({error!s:.120}); log it again") from error


def _plain(file: Path) -> Iterator[Mapping[str, Any]]:
    content = json.loads(file.read_bytes())
    if not is_log(content):
        raise ValueError("`eval` or `plan` is missing")
    samples = content.get("samples") or []
    if not isinstance(samples, list) or not all(isinstance(one, dict) for one in samples):
        raise ValueError("`samples` is no list of objects")
    yield from samples


def _zipped(file: Path) -> Iterator[Mapping[str, Any]]:
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        for entry in archive.infolist():
            if entry.filename.startswith("samples/") and entry.filename.endswith(".json"):
                packed = entry.compress_type == _ZSTANDARD
                yield json.loads(_unpacked(raw, entry) if packed else archive.read(entry))


def _unpacked(raw: Any, entry: zipfile.ZipInfo) -> bytes:
    raw.seek(entry.header_offset)
    name, extra = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
    raw.seek(name + extra, 1)
    with pa.CompressedInputStream(pa.BufferReader(raw.read(entry.compress_size)), "zstd") as stream:
        return stream.read()


# -- samples -----------------------------------------------------------------------------------------------------


def _sample(row: Mapping[str, Any]) -> Sample:
    choices, target = row.get("choices"), row.get("target")
    if not isinstance(choices, list) or len(choices) < 2:
        raise UnusableRow("no choices; it is not multiple choice")
    letters = [chr(ord("A") + place) for place in range(len(choices))]
    target = target[0] if isinstance(target, list) and len(target) == 1 else target
    if target not in letters:
        raise UnusableRow(f"its target {target!r} is not one of the letters {letters[0]} to {letters[-1]}")
    given = _given(row)
    probabilities = _at_answer(_tokens(row), letters, given)
    asked = row.get("input")
    shown = Shown(asked if isinstance(asked, str) else "", tuple(map(str, choices)))
    metadata = row.get("metadata")
    return Sample(
        f"{row.get('id')}:{row.get('epoch', 1)}", probabilities, letters.index(target), shown,
        metadata if isinstance(metadata, dict) else {},
    )  # fmt: skip


def _given(row: Mapping[str, Any]) -> str | None:
    """Returns the letter that the scorer took for the model's answer."""
    scores = row.get("scores")
    found = [one.get("answer") for one in scores.values() if isinstance(one, dict)] if isinstance(scores, dict) else []
    return next((answer for answer in found if isinstance(answer, str)), None)


def _tokens(row: Mapping[str, Any]) -> list[Any]:
    try:
        found = row["output"]["choices"][0]["logprobs"]["content"] or []
    except (KeyError, IndexError, TypeError):
        return []
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("token"), str) for one in found
    ):
        raise UnusableRow("its log-probabilities are no list of tokens")
    return found


def _at_answer(tokens: list[Any], letters: list[str], given: str | None) -> tuple[float, ...]:
    """Returns the letters' probabilities at the token that answers."""
    at = _answering(tokens, letters)
    if given is not None and _letter(at["token"]) != given:
        raise UnusableRow(f"the model wrote {at['token']!r}, scored as {given!r}; ask without shuffled choices")
    listed = _alternatives(at)
    found: dict[str, float] = {}
    for token, probability in listed.items():  # " A" and "A" are two tokens of one letter
        if (letter := _letter(token)) in letters:
            found[letter] = found.get(letter, 0.0) + probability
    if len(found) < len(letters) and min(listed.values()) > TOLERATED:
        raise UnusableRow(f"its alternatives lack {len(letters) - len(found)} of {len(letters)} letters; ask for more")
    return tuple(found.get(letter, 0.0) for letter in letters)


def _answering(tokens: list[Any], letters: list[str]) -> Mapping[str, Any]:
    """Returns the first token after the last `ANSWER:` that is more than marks; without one, the only letter."""
    ends = np.cumsum([len(one["token"]) for one in tokens])
    announced = [found.end() for found in _ANNOUNCED.finditer("".join(one["token"] for one in tokens))]
    start = int(np.searchsorted(ends, announced[-1], side="right")) if announced else 0
    after = [one for one in tokens[start:] if not _MARKS.fullmatch(one["token"])]
    found = after[:1] if announced else [one for one in after if _letter(one["token"]) in letters]
    if len(found) > 1:
        raise UnusableRow(f"{len(found)} tokens are letters, and none follows `ANSWER:`; which answers is not known")
    if not found or _letter(found[0]["token"]) not in letters:
        raise UnusableRow("the token that answers is none of its letters")
    return found[0]


def _alternatives(at: Mapping[str, Any]) -> dict[str, float]:
    """Returns the probabilities of a token and its alternatives."""
    try:
        listed = {
            str(one["token"]): float(np.exp(float(one["logprob"]))) for one in [at, *(at.get("top_logprobs") or [])]
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnusableRow("a log-probability is missing, or no number") from error
    total = sum(listed.values())
    if not 0 < total <= 1 + SUM_TOLERANCE:  # NaN too
        raise UnusableRow(f"its alternatives' probabilities sum to {total:.3g}; are these natural logarithms?")
    return listed


def _letter(token: str) -> str | None:
    found = _LETTER.fullmatch(token)
    return found[1].upper() if found else None
