"""Checks what `make pretrained` needs, and makes the shrunk student: `FIRST_PRETRAINED`, `FIRST_REAL_DATA`."""

import os
import sys
import tempfile
from pathlib import Path

from firstlib.experiment.shrinking import Shrinking, shrink
from firstlib.results import study
from firstlib.results.study import HALF, LARGER, SMALLER
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import PROJECT, project_path
from firstlib.settings.loading import load_preset
from firstlib.tasks.files import Search, tables_in

LAYERS, PASSAGES = 12, 400  # docs/protocol.md says why so few
WANTED = {
    SMALLER: "Qwen2.5-Coder-0.5B-Instruct (`ollama pull qwen2.5-coder:0.5b`, or the hub's ...-GGUF)",
    LARGER: "Qwen2.5-Coder-1.5B-Instruct (`ollama pull qwen2.5-coder:1.5b`, or the hub's ...-GGUF)",
}


def main() -> None:
    """Names what is missing in one line, or makes the student that has no file of its own, where a cell needs it."""
    if missing := lacking():
        sys.exit(missing)
    student = PROJECT / load_preset(HALF).student.base
    wanted = any(cell.preset == HALF and not study.is_complete(cell) for cell in study.pretrained_cells())
    if wanted and not (student / "config.json").is_file():
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as text:
            text.write(instructions())
            text.flush()
            shrink(Shrinking(SMALLER, LAYERS, Path(text.name), passages=PASSAGES), student)


def lacking() -> str | None:
    """Returns one line that says what to get, or None if everything is there."""
    for variable in ("FIRST_PRETRAINED", "FIRST_REAL_DATA"):
        if not os.environ.get(variable):
            return f"{variable}: is not set; docs/real-models.md says which files it must hold"
    for place, model in WANTED.items():
        if not project_path(place).is_file():
            return f"{project_path(place)}: there is no such file; get {model} as GGUF, and give it this name"
    return None


def instructions() -> str:
    """Returns the text that heals: Alpaca's instructions with their answers."""
    tables = tables_in(project_path("$FIRST_REAL_DATA") / "alpaca", Search("alpaca", {}))
    rows = (row for table in tables for _, row in table.rows())
    return "\n\n".join(f"{row['instruction']}\n{row['input']}\n{row['output']}" for row in rows)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
