"""Reads inspect-ai's logs of multiple choice, `.eval` or JSON, where they hold the answer's log-probabilities.

The model writes a letter (`ANSWER: B`). At that token the log has the most probable alternatives; the letters among
them are the choices. A letter that is not among them gets probability 0 if the least probable alternative bounds its
probability below `TOLERATED`; otherwise the sample cannot be used.
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

from firstlib.evaluation.audit.answers import Answers, Reading, Shown, of_probabilities
from firstlib.evaluation.audit.options import Options
from firstlib.evaluation.audit.unusable import Unusable, UnusableRow
from firstlib.runtime.errors import UserError

KIND = "a log of inspect-ai"
SWITCH_ON = (
    "it holds no log-probabilities; run `inspect eval` with --logprobs --top-logprobs 20, on a provider that has them"
)
TOLERATED = 0.01  # probability that a choice may have and not be among the alternatives
_ZSTANDARD = 93  # a method of compression that `zipfile` knows from Python 3.14
_LOCAL_HEADER = struct.Struct("<26xHH")
_LETTER = re.compile(r"[\s(\[*_\"'`]*([A-Za-z])[\s)\].:*_\"'`]*")


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
    if options.reading == "acc_norm":
        raise UserError("reading acc_norm: only logs of lm-evaluation-harness have it; use candidates or vocabulary")
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
    by = options.columns.by
    return Answers(
        str(file), KIND, reading, *of_probabilities(read_as, answer), read_as, answer,
        ids=np.array([sample.id for sample in samples]),
        groups=None if by is None else np.array([str(sample.metadata.get(by)) for sample in samples]),
        texts=[sample.shown for sample in samples], lost=lost,
    )  # fmt: skip


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
    yield from content.get("samples") or []


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
        return row["output"]["choices"][0]["logprobs"]["content"] or []
    except (KeyError, IndexError, TypeError):
        return []


def _at_answer(tokens: list[Any], letters: list[str], given: str | None) -> tuple[float, ...]:
    """Returns the letters' probabilities at the last token that is a letter."""
    places = [place for place, one in enumerate(tokens) if _letter(one.get("token")) in letters]
    if not places:
        raise UnusableRow("no token with log-probabilities is one of its letters")
    at = tokens[places[-1]]
    if given is not None and _letter(at["token"]) != given:
        raise UnusableRow(f"the model wrote {at['token']!r}, scored as {given!r}; ask without shuffled choices")
    listed = [at, *(at.get("top_logprobs") or [])]
    found: dict[str, float] = {}
    for one in {str(one["token"]): one for one in listed}.values():  # " A" and "A" are two tokens of one letter
        if (letter := _letter(one["token"])) in letters:
            found[letter] = found.get(letter, 0.0) + float(np.exp(float(one["logprob"])))
    lowest = float(np.exp(min(float(one["logprob"]) for one in listed)))
    if len(found) < len(letters) and lowest > TOLERATED:
        raise UnusableRow(f"its alternatives lack {len(letters) - len(found)} of {len(letters)} letters; ask for more")
    if not sum(found.values()) > 0:
        raise UnusableRow("a log-probability is NaN")
    return tuple(found.get(letter, 0.0) for letter in letters)


def _letter(token: Any) -> str | None:
    found = _LETTER.fullmatch(token) if isinstance(token, str) else None
    return found[1].upper() if found else None
