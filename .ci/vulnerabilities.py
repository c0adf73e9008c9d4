"""Reports known vulnerabilities in the pinned packages, and fails if a newer version fixes one.

    python .ci/vulnerabilities.py constraints.txt

If no list of advisories can be reached, or none of the packages is on it, the program says so and does not fail.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """The findings: lines to print, and whether a package should be upgraded."""

    lines: list[str]
    mendable: bool


def report(found: dict[str, Any]) -> Report:
    """Reads pip-audit's JSON."""
    packages = found["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return Report(
            [f"vulnerabilities: none of {len(packages)} packages is known to the list of advisories here"], False
        )
    faults = [(package, fault) for package in known for fault in package["vulns"]]
    lines = [
        f"{package['name']} {package['version']}: {fault['id']}, "
        + (f"fixed in {', '.join(fault['fix_versions'])}" if fault["fix_versions"] else "no fix yet")
        for package, fault in faults
    ]
    told = f"vulnerabilities: {len(known)} of {len(packages)} packages looked up, {len(faults)} known vulnerabilities"
    return Report([*lines, told], any(fault["fix_versions"] for _, fault in faults))


def main(constraints: str) -> int:
    """Returns the exit status: 1 if a package should be upgraded."""
    command = [sys.executable, "-m", "pip_audit", "-r", constraints, "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        result = report(json.loads(done.stdout))
    except ValueError:
        reason = (done.stderr.strip() or "no output").splitlines()[-1]
        result = Report([f"vulnerabilities: no list of advisories could be reached ({reason})"], False)
    print(*result.lines, sep="\n")
    return int(result.mendable)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
