"""`first run`: the numbered notebooks on the smoke preset, a second run without changes, and a cell that fails."""

import json
import os
import shutil
import subprocess
import sys
import tomllib

import nbformat
import numpy as np
import pytest
from command_line import first
from jupyter_client.kernelspec import KernelSpecManager
from rich.console import Console

from firstlib import Experiment
from firstlib.cli import kernel, notebooks
from firstlib.cli.notebooks import Plan, numbered_notebooks
from firstlib.results import study
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import PROJECT


def test_a_run_writes_notebooks_figures_and_results(smoke):
    runs, printed = smoke
    folder = runs / "smoke" / "seed-0"
    assert {path.stem for path in (folder / "notebooks").glob("*.ipynb")} == default_notebooks()
    assert {"coverage.json", "reliability.html"} <= {path.name for path in (folder / "figures").iterdir()}
    for expected in ("notebooks", "figures", "results", "label-smoothing", "in-domain csqa"):
        assert expected in printed
    assert json.loads((folder / "cost.json").read_text())["peak_memory_bytes"] > 0


def test_help_needs_none_of_the_libraries():
    code = "import sys, firstlib.cli; print(sorted({'numpy', 'pydantic', 'torch', 'pandas'} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_the_version_is_the_projects():
    assert (
        first("--version").stdout.strip()
        == tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    )


def test_the_table_of_a_finished_run_needs_no_torch(smoke):
    code = (
        "import sys; from firstlib import Experiment; from firstlib.results import table; "
        f"Experiment('smoke', 0, {str(smoke[0])!r}).sealed().rows(); "
        "print(sorted({'torch', 'transformers', 'datasets'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def default_notebooks():
    return {path.stem for path in numbered_notebooks()} - {notebooks.BEYOND}


def test_the_notebook_on_the_study_runs_only_when_asked_for(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(notebooks, "_execute", lambda path, *_: ran.append(path.stem))
    notebooks.run(Plan("smoke", 0, str(tmp_path)), Console(quiet=True))
    assert set(ran) == default_notebooks()
    notebooks.run(Plan("smoke", 0, str(tmp_path), beyond=True), Console(quiet=True))
    assert notebooks.BEYOND in ran


def test_the_results_hold_every_method_and_column(smoke):
    results = json.loads((smoke[0] / "smoke" / "seed-0" / "results.json").read_text())
    cells = [(row["setting"], row["dataset"], row["method"]) for row in results["rows"]]
    columns = [("in-domain", "csqa"), ("in-domain", "boolq"), ("out-of-domain", "csqa"), ("out-of-domain", "obqa")]
    assert sorted(cells) == sorted(
        (*column, method) for column in columns for method in results["methods"] | {"teacher": None}
    )


def test_executed_notebooks_are_small_ordered_and_without_errors(smoke):
    for path in (smoke[0] / "smoke" / "seed-0" / "notebooks").glob("*.ipynb"):
        book = nbformat.read(path, as_version=4)
        counts = [cell.execution_count for cell in book.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))
        assert path.stat().st_size < 600_000  # pictures of a dozen figures
        assert "widgets" not in book.metadata
        assert "papermill" not in book.metadata, "it contains this machine's paths"
        outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output.output_type == "error"]


def test_a_second_run_does_nothing_and_a_change_reruns_only_what_changed(smoke, monkeypatch, tmp_path):
    runs, _ = smoke
    again = first("run", "--preset", "smoke", "--runs", str(runs))
    assert again.stdout.count("nothing new") == len(default_notebooks())

    plan = Plan("smoke", 0, str(runs))
    for path in numbered_notebooks():
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    last = tmp_path / "06_reliability.ipynb"
    last.write_text(last.read_text().replace("Which model can be trusted?", "Whom can one trust?"))
    reads = notebooks.what_is_read(plan)
    changed = [path for path in numbered_notebooks() if not notebooks.is_current(path, plan, reads)]
    assert [path for path in changed if path.stem != notebooks.BEYOND] == [last]


def test_a_damaged_notebook_is_run_again(smoke, tmp_path):
    plan = Plan("smoke", 0, str(tmp_path))
    shutil.copytree(smoke[0] / "smoke", tmp_path / "smoke")
    first_one = numbered_notebooks()[0]
    (plan.folder / "notebooks" / first_one.name).write_text("{")
    assert not notebooks.is_current(first_one, plan, notebooks.what_is_read(plan))


@pytest.fixture
def ran(monkeypatch, tmp_path_factory):
    """Returns which of two small notebooks a plan runs; each is finished without a kernel."""
    found, folder = [], tmp_path_factory.mktemp("notebooks")
    for name in ("01_first", "02_second"):
        nbformat.write(nbformat.v4.new_notebook(), folder / f"{name}.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)

    def pretend(todo, plan, *_):
        for path in todo:
            final = plan.folder / "notebooks" / path.name
            partial = shutil.copy(path, final.with_suffix(".partial.ipynb"))
            notebooks._finish(partial, final, notebooks._key(path, notebooks.what_is_read(plan)))
        (plan.folder / "results.json").write_text("{}")
        found.extend(path.stem for path in todo)

    def run(plan):
        found.clear()
        notebooks.run(plan, Console(quiet=True))
        return set(found)

    monkeypatch.setattr(notebooks, "_run_in_order", pretend)
    return run


def columns_of(task):
    return f"columns=[{{setting: in-domain, train: {task}, test: [{task}]}}]"


@pytest.mark.parametrize(
    ("file", "overrides"),
    [
        ("q.csv", ["data.own=$PLACE/q.csv", columns_of("own")]),
        ("parts/a.csv", ["tasks.mine.file=$PLACE", "tasks.mine.splits.train=a.csv", columns_of("mine")]),
        ("commonsense_qa/train.csv", ["data.source=hub", "data.folder=$PLACE", columns_of("csqa")]),
        ("csqa-train/knowledge.parquet", ["knowledge.imported=$PLACE"]),
        ("trivia/train.csv", ["tasks.mine.hub=somebody/trivia", "data.folder=$PLACE", columns_of("mine")]),
    ],
    ids=["own", "file", "folder", "imported", "folder instead of the hub"],
)
def test_changed_data_make_every_notebook_run_again(file, overrides, ran, tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", str(tmp_path / "data"))
    questions = tmp_path / "data" / file
    questions.parent.mkdir(parents=True)
    questions.write_text("question,answer\n1 + 1?,2\n")
    plan = Plan("smoke", 0, str(tmp_path / "runs"), tuple(overrides))
    assert ran(plan) == default_notebooks()
    (questions.parent / ".editors-copy").write_text("1")
    assert ran(plan) == set()
    questions.write_text("question,answer\n1 + 1?,3\n")
    assert ran(plan) == default_notebooks()
    questions.rename(questions.with_name(f"more-{questions.name}"))
    assert ran(plan) == default_notebooks()


def test_other_data_sets_of_the_folder_do_not_count(ran, tmp_path):
    (tmp_path / "data" / "openbookqa").mkdir(parents=True)
    plan = Plan("smoke", 0, str(tmp_path), ("data.source=hub", f"data.folder={tmp_path / 'data'}", columns_of("csqa")))
    ran(plan)
    (tmp_path / "data" / "openbookqa" / "train.csv").write_text("question,answer\n1 + 1?,3\n")
    assert ran(plan) == set()


def test_a_new_result_of_the_study_makes_every_notebook_run_again(ran, tmp_path, monkeypatch):
    assert notebooks.STUDY == study.KEPT
    monkeypatch.setattr(notebooks, "STUDY", tmp_path)
    plan = Plan("smoke", 0, str(tmp_path / "runs"))
    ran(plan)
    assert ran(plan) == set()
    (tmp_path / "microworld-seed-0.json").write_text("{}")
    assert ran(plan) == default_notebooks()


def test_files_that_cannot_be_read_are_reported_before_anything_is_written(tmp_path, monkeypatch):
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "q.csv").write_text("")
    monkeypatch.setattr(notebooks, "file_hash", locked)
    plan = Plan("smoke", 0, str(tmp_path / "runs"), (f"data.own={tmp_path / 'q.csv'}", columns_of("own")))
    with pytest.raises(UserError, match=r"data set own: .*q.csv cannot be read: Permission denied"):
        notebooks.run(plan, Console(quiet=True))
    assert not plan.folder.exists()


def test_a_failing_notebook_is_reported_and_finished_ones_are_kept(smoke, monkeypatch, tmp_path, capsys):
    runs, _ = smoke
    for path in numbered_notebooks():
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    third = sorted(tmp_path.glob("*.ipynb"))[2]
    book = nbformat.read(third, as_version=4)
    book.cells.append(nbformat.v4.new_code_cell("1 / 0"))
    nbformat.write(book, third)
    number = len(book.cells) + 1  # it also has papermill's parameters cell
    expected = rf"{third.name}, cell {number}: ZeroDivisionError"
    with pytest.raises(notebooks.NotebookError, match=expected):
        notebooks.run(Plan("smoke", 0, str(runs)), Console())
    folder = runs / "smoke" / "seed-0" / "notebooks"
    failed = folder / f"{third.stem}.failed.ipynb"
    assert {third.name, failed.name} <= {path.name for path in folder.iterdir()}
    failed.unlink()  # the run is shared


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "nowhere"], "nowhere"),
        (["--set", "training.epoch=1"], "epochs"),
        (["--set", "training.epochs=x"], "training.epochs"),
        (["--seed", "-1"], "seed"),
        (["--seed", "many"], "--seed"),
        (["--runs", "Makefile"], "is a file"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, expected, tmp_path):
    (tmp_path / "Makefile").write_text("")
    arguments = [str(tmp_path / a) if a == "Makefile" else a for a in arguments]
    if "--runs" not in arguments:
        arguments += ["--runs", str(tmp_path / "runs")]
    done = first("run", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_kernel_is_this_python_whatever_a_users_jupyter_calls_python3(tmp_path, monkeypatch):
    foreign = tmp_path / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(json.dumps({"argv": ["/bin/false"], "display_name": "another", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with kernel._this_python():
        assert KernelSpecManager().get_kernel_spec("python3").argv[0] == sys.executable
    assert os.environ["JUPYTER_PATH"] == str(tmp_path)
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["/bin/false"]


def test_a_plan_takes_paths_and_numpys_numbers(tmp_path):
    plan = Plan("smoke", np.int64(3), tmp_path)
    assert plan.parameters == {"preset": "smoke", "seed": 3, "run_folder": str(tmp_path), "overrides": []}
    assert json.dumps(plan.parameters)
    experiment = Experiment("smoke", np.uint32(3), tmp_path)
    assert (experiment.seed, experiment.folder) == (3, plan.folder)


def test_a_presets_file_holds_in_the_notebooks_own_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert Plan("mine.yaml", 0, "runs").parameters["preset"] == str(tmp_path / "mine.yaml")
    assert Plan("mine.yaml", 0, "runs").folder == Plan(tmp_path / "mine.yaml", 0, "runs").folder
