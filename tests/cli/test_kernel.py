"""All notebooks of a run share one kernel, and none sees what another left in it."""

import json

import nbformat
import psutil
from rich.console import Console

from firstlib.cli import notebooks
from firstlib.cli.notebooks import Plan

FIRST = """
import json, os
from ipywidgets import IntSlider
left = IntSlider()
json.dumps({"process": os.getpid()})
"""
SECOND = """
import json, os, sys
from ipywidgets.widgets.widget import _instances
seen = [name for name in ("left", "_", "Out") if globals().get(name)]
json.dumps({"process": os.getpid(), "seen": seen, "widgets": len(_instances), "imported": "ipywidgets" in sys.modules})
"""


def run_both(tmp_path, monkeypatch):
    """Runs two notebooks of one cell each, and returns what their cells show."""
    (tmp_path / "notebooks").mkdir()
    for name, source in (("01_first", FIRST), ("02_second", SECOND)):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        book.metadata["language_info"] = {"name": "python"}
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    executed = notebooks.run(Plan("smoke", 0, str(tmp_path / "runs")), Console(quiet=True))
    cells = [nbformat.read(path, as_version=4).cells[-1] for path in executed]
    assert [cell.execution_count for cell in cells] == [2, 2], "after the cell of parameters"
    return [json.loads(cell.outputs[-1].data["text/plain"].strip("'")) for cell in cells]


def test_a_notebook_finds_an_empty_kernel_that_has_imported_everything(tmp_path, monkeypatch):
    first, second = run_both(tmp_path, monkeypatch)
    assert second == {"process": first["process"], "seen": [], "widgets": 0, "imported": True}
    assert not psutil.pid_exists(first["process"]), "the kernel ends with the run"
