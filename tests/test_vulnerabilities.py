"""Known vulnerabilities of the pinned packages: which fail, which are only reported, and what a failed look-up says."""

import importlib.util

import pytest

from firstlib.runtime.paths import PROJECT

spec = importlib.util.spec_from_file_location("vulnerabilities", PROJECT / ".ci" / "vulnerabilities.py")
vulnerabilities = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vulnerabilities)


def package(*faults, **fields):
    return {"name": "torch", "version": "1.0", "vulns": list(faults), **fields}


FIXED = {"id": "CVE-1", "fix_versions": ["1.1"]}
OPEN = {"id": "CVE-2", "fix_versions": []}
UNKNOWN = {"name": "own", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "mendable", "expected"),
    [
        ([package()], False, "1 of 1 packages looked up, 0 known"),
        ([package(), UNKNOWN], False, "1 of 2 packages looked up"),
        ([package(FIXED)], True, "torch 1.0: CVE-1, fixed in 1.1"),
        ([package(OPEN)], False, "torch 1.0: CVE-2, no fix yet"),
        ([package(OPEN), package(FIXED)], True, "2 known vulnerabilities"),
        ([UNKNOWN, UNKNOWN], False, "none of 2 packages is known to the list"),
    ],
)
def test_only_fixable_vulnerabilities_fail(packages, mendable, expected):
    found = vulnerabilities.report({"dependencies": packages})
    assert found.mendable == mendable
    assert expected in "\n".join(found.lines)


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        ('{"dependencies": []}', 0, "none of 0 packages"),
        ("", 0, "no list of advisories could be reached (no route to host)"),
    ],
)
def test_a_look_up_that_cannot_run_says_why(monkeypatch, capsys, output, status, expected):
    class Done:
        stdout, stderr = output, "Traceback\nno route to host"

    monkeypatch.setattr(vulnerabilities.subprocess, "run", lambda *_, **__: Done)
    assert vulnerabilities.main("constraints.txt") == status
    assert expected in capsys.readouterr().out
