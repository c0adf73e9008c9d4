"""Reports how many small changes of the code the tests notice: `make mutants`, after mutmut has tried them.

mutmut keeps what it has found in `mutants/`, so a run that was stopped resumes. A survivor that changes nothing that a
caller could see is named with its reason in `tests/equivalent_mutants.yaml`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from firstlib.results.markup import markdown_table
from firstlib.results.study import KEPT
from firstlib.runtime.files import write_json
from firstlib.runtime.paths import PROJECT

FOUND, SUMMARY, REASONS = PROJECT / "mutants", KEPT / "mutants.json", PROJECT / "tests" / "equivalent_mutants.yaml"
GOAL = 0.95
SURVIVED = (0, 33)  # mutmut's exit codes: every test passed, or no test reaches the code
NOT_TRIED = (None, 2, 34)


@dataclass(frozen=True)
class Module:
    """What became of a module's mutants.

    Attributes:
        tried: How many were tried.
        survivors: Names of those that no test noticed.
        missing: How many are still to be tried.
    """

    name: str
    tried: int
    survivors: tuple[str, ...]
    missing: int


def modules(folder: Path = FOUND) -> list[Module]:
    """Returns what mutmut has found so far; modules without mutants are left out."""
    found = []
    for file in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        tried = {name: code for name, code in codes.items() if code not in NOT_TRIED}
        survivors = tuple(sorted(name for name, code in tried.items() if code in SURVIVED))
        if codes:
            name = file.relative_to(folder).as_posix().removesuffix(".meta")
            found.append(Module(name, len(tried), survivors, len(codes) - len(tried)))
    return found


def reasons() -> dict[str, str]:
    """Returns why some survivors change nothing, by name."""
    found: dict[str, str] = yaml.safe_load(REASONS.read_text(encoding="utf-8")) or {}
    return found


def summary(found: Sequence[Module], known: dict[str, str]) -> list[dict[str, Any]]:
    """Returns a row for each module: mutants that change something, and how many of them a test notices."""
    rows = []
    for one in found:
        same = sum(name in known for name in one.survivors)
        rows.append({
            "module": one.name, "mutants": one.tried - same, "noticed": one.tried - len(one.survivors),
            "same": same, "missing": one.missing,
        })  # fmt: skip
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows in Markdown, with their sum."""
    total = _total(rows)
    lines = [
        [f"`{row['module']}`" if "module" in row else "all", *(str(row[n]) for n in total), _share(row)]
        for row in (*rows, total)
    ]
    return markdown_table(["module", "changes", "noticed", "change nothing", "share noticed"], lines)


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(row[name] for row in rows) for name in ("mutants", "noticed", "same")}


def _share(row: dict[str, Any]) -> str:
    return f"{100 * row['noticed'] / row['mutants']:.1f} %" if row["mutants"] else "-"


def kept() -> str:
    """Returns the table of the last whole run; empty if there is none."""
    return table(json.loads(SUMMARY.read_text(encoding="utf-8"))) if SUMMARY.is_file() else ""


def main() -> None:
    """Prints the survivors without a reason and the table, and keeps a whole run's; fails below the goal."""
    found, known = modules(), reasons()
    unknown = [name for one in found for name in one.survivors if name not in known]
    rows = summary(found, known)
    print("\n".join(unknown), table(rows), sep="\n\n")
    if missing := sum(one.missing for one in found):
        sys.exit(f"{missing} changes are still to be tried; run again to resume")
    write_json(SUMMARY, rows)
    total = _total(rows)
    if total["noticed"] < GOAL * total["mutants"]:
        sys.exit(f"fewer than {GOAL:.0%} are noticed")


if __name__ == "__main__":
    main()
