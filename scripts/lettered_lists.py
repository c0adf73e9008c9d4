"""Counts lists with letters in Alpaca: how many prompts that name their answer letter the choices ("A) ... B) ...").

`python -m scripts.lettered_lists` reads `alpaca/*.json` in the folder FIRST_REAL_DATA. The microworld's instructions
have letters as often (`firstlib/tasks/microworld/world.py`).
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

MARK = re.compile(r"(?:^|[\s(])\(?([A-Ea-e])[).:]\s*\S")
LONGEST = 6  # words of an answer that chooses


def counts(rows: Iterable[Mapping[str, str]]) -> tuple[int, int]:
    """Returns how many prompts name their answer, and how many of these letter the choices.

    >>> asks = {"instruction": "Pick one: A) blue B) red", "output": "B) red"}
    >>> counts([asks, {"instruction": "Hi", "output": "Hello"}])
    (1, 1)
    """
    closed = lettered = 0
    for row in rows:
        prompt = row["instruction"] + "\n" + (row.get("input") or "")
        letters = sorted({letter.upper() for letter in MARK.findall(prompt)})[:2] == ["A", "B"]
        if _names(prompt, row["output"]) or (letters and re.match(r"\(?[A-Ea-e][).:]?(\s|$)", row["output"])):
            closed += 1
            lettered += letters
    return closed, lettered


def _names(prompt: str, output: str) -> bool:
    answer = _plain(output)
    return 0 < len(answer.split()) <= LONGEST and bool(re.search(rf"\b{re.escape(answer)}\b", _plain(prompt)))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", text.lower()).strip()


if __name__ == "__main__":
    files = sorted(Path(os.environ["FIRST_REAL_DATA"]).glob("alpaca/*.json"))
    found, with_letters = counts(row for file in files for row in json.loads(file.read_text(encoding="utf-8")))
    print(f"{found} prompts name their answer; {with_letters} of them letter the choices ({with_letters / found:.2f})")
