"""The report on mutants counts what mutmut has found, by hand."""

import json

from scripts import mutants
from scripts.mutants import Module, modules, reasons, summary, table
from scripts.update_readme import PROJECT


def test_survivors_are_those_that_no_test_noticed(tmp_path):
    codes = {"a.x_f__mutmut_1": 1, "a.x_f__mutmut_2": 0, "a.x_f__mutmut_3": 33, "a.x_f__mutmut_4": None}
    (tmp_path / "a.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    (tmp_path / "b.py.meta").write_text(json.dumps({"exit_code_by_key": {}}))
    assert modules(tmp_path) == [Module("a.py", 3, ("a.x_f__mutmut_2", "a.x_f__mutmut_3"), 1)]


def test_what_changes_nothing_is_not_counted():
    rows = summary([Module("a.py", 11, ("x", "y"), 0)], {"x": "the same number"})
    assert rows == [{"module": "a.py", "mutants": 10, "noticed": 9, "same": 1, "missing": 0}]
    assert "| `a.py` | 10 | 9 | 1 | 90.0 % |" in table(rows)
    assert table(rows).splitlines()[-1] == "| all | 10 | 9 | 1 | 90.0 % |"


def test_every_reason_is_for_a_module_that_exists():
    for name, why in reasons().items():
        module = name.rpartition(".")[0].replace(".", "/")
        assert (PROJECT / f"{module}.py").is_file(), name
        assert len(why) > 10
    assert mutants.GOAL == 0.95
