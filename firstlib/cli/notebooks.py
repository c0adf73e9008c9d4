"""Runs the numbered notebooks in order through papermill; those that would not change are skipped."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from firstlib.experiment.ahead import computed_ahead
from firstlib.experiment.data import RunData
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.hashing import content_hash, file_hash, files_hash, library_hash
from firstlib.runtime.paths import CHOSEN, PROJECT, RESULTS, absolute_preset, project_path, run_folder
from firstlib.runtime.progress import PROGRESS_FILE
from firstlib.settings.loading import load_preset
from firstlib.tasks.files import entries

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

NOTEBOOKS = PROJECT / "notebooks"
STUDY = PROJECT / "data" / "results"  # `study.KEPT`, whose import takes seconds
OWN_PARAMETERS = {"preset": "microworld", "seed": 0, "run_folder": "runs", "overrides": []}
BEYOND = "07_beyond_the_paper"  # shows the kept study; recomputes a cell of it
WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookError(Exception):
    """A notebook's cell failed; the message names both."""


@dataclass(frozen=True)
class Plan:
    """A run of the notebooks: preset, seed, folder, overrides, and whether the notebook on the study is among them."""

    preset: str
    seed: int
    runs: str
    overrides: tuple[str, ...] = ()
    beyond: bool = False

    def __post_init__(self) -> None:
        """Takes paths and NumPy's numbers, too: papermill writes them into notebooks as plain text and numbers.

        A preset's file becomes absolute, because notebooks run in their own folder.
        """
        for name, plain in (("preset", absolute_preset), ("seed", int), ("runs", str)):
            object.__setattr__(self, name, plain(getattr(self, name)))

    @property
    def folder(self) -> Path:
        """The run's folder; `Experiment` names it the same way."""
        return run_folder(self.runs, self.preset, self.seed, self.overrides)

    @property
    def parameters(self) -> dict[str, Any]:
        """Values for each notebook's `parameters` cell; empty where they equal its own."""
        parameters = {"preset": self.preset, "seed": self.seed, "run_folder": self.runs}
        given = {**parameters, "overrides": list(self.overrides)}
        return {} if given == OWN_PARAMETERS else given


def run(plan: Plan, console: Console) -> list[Path]:
    """Runs the notebooks that would change, and returns all executed ones.

    Raises:
        UserError: The settings are wrong, or a data set's file cannot be read; nothing is written.
        NotebookError: A cell failed; earlier notebooks are kept, and the next run resumes.
    """
    settings, reads = load_preset(plan.preset, plan.overrides), what_is_read(plan)
    notebooks = [path for path in numbered_notebooks() if plan.beyond or path.stem != BEYOND]
    target = plan.folder / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    todo = [path for path in notebooks if not is_current(path, plan, reads)]
    for path in notebooks:
        if path not in todo:
            console.print(f"[dim]{path.stem}: nothing new[/dim]", highlight=False)
    if todo:
        _run_in_order(todo, plan, console, settings.jobs)
    return [target / path.name for path in notebooks]


def numbered_notebooks() -> list[Path]:
    """Returns the notebooks in order.

    Raises:
        UserError: There are none: the library was installed without its repository.
    """
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise UserError(f"no notebooks in {NOTEBOOKS}: install from a clone with `pip install -e .`")
    return found


def _run_in_order(notebooks: Sequence[Path], plan: Plan, console: Console, jobs: int) -> None:
    from firstlib.cli.kernel import empty, one_kernel  # here: slow to import, and not needed where nothing changed

    helped = computed_ahead(plan.preset, plan.seed, plan.runs, plan.overrides, jobs)
    with helped, one_kernel() as kernel, _shown(console, len(notebooks)) as shown:
        for path in notebooks:
            shown(path.stem)
            empty(kernel)
            _execute(path, plan, console, kernel)


def _execute(path: Path, plan: Plan, console: Console, kernel: "AsyncKernelManager") -> None:
    import papermill  # as above

    final = plan.folder / "notebooks" / path.name
    partial = final.with_suffix(".partial.ipynb")
    started, key = time.monotonic(), _key(path, what_is_read(plan))  # it may change while a notebook runs
    try:
        with _Memory() as memory:
            papermill.execute_notebook(
                _escaped(path), _escaped(partial), plan.parameters, progress_bar=False, cwd=_escaped(NOTEBOOKS),
                km=kernel, kernel_name=kernel.kernel_name, extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )  # fmt: skip
    except papermill.exceptions.PapermillExecutionError as error:
        final.with_suffix(".failed.ipynb").unlink(missing_ok=True)
        partial.rename(final.with_suffix(".failed.ipynb"))
        raise NotebookError(
            f"{path.name}, cell {error.cell_index + 1}: {error.ename}: {error.evalue.strip()}\n"
            f"The cells up to there are in {final.with_suffix('.failed.ipynb')}; finished stages are kept, "
            "and the next run resumes here."
        ) from None
    seconds = time.monotonic() - started
    _finish(partial, final, key)
    _record_cost(plan, path.stem, seconds, memory.peak)
    console.print(f"{path.stem}: {seconds:.0f} s", highlight=False)


def _escaped(path: Path) -> str:
    """Returns a path for papermill, which fills in a parameter for each name in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _finish(partial: Path, final: Path, key: str) -> None:
    """Records what the executed notebook depends on, then gives it its name."""
    book = json.loads(partial.read_text(encoding="utf-8"))
    book["metadata"]["first"] = {"key": key}
    write_json(partial, without_machine(book))
    final.with_suffix(".failed.ipynb").unlink(missing_ok=True)
    partial.replace(final)


def without_machine(book: dict[str, Any]) -> dict[str, Any]:
    """Removes what belongs to the machine that ran a notebook: paths, times, and widgets of megabytes each.

    A static twin follows every cell that shows a widget.
    """
    for part in (book, *book["cells"]):
        part["metadata"].pop("papermill", None)
    book["metadata"].pop("widgets", None)
    for cell in book["cells"]:
        cell["outputs"] = [o for o in cell.get("outputs", []) if WIDGET not in o.get("data", {})]
        if cell["cell_type"] != "code":
            del cell["outputs"]
    return book


def is_current(path: Path, plan: Plan, reads: str) -> bool:
    """Whether the run holds this notebook, executed as it would be now; `reads` is what `what_is_read` returns."""
    executed = plan.folder / "notebooks" / path.name
    if not executed.is_file() or not (plan.folder / RESULTS).is_file():
        return False
    try:
        metadata = json.loads(executed.read_text(encoding="utf-8"))["metadata"]
    except (ValueError, KeyError):
        return False  # damaged: run again
    return metadata.get("first", {}).get("key") == _key(path, reads)


def _key(path: Path, reads: str) -> str:
    """Returns a hash of what a notebook's output depends on: its cells, and what all notebooks read."""
    cells = [cell["source"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    return content_hash([cells, reads])


def what_is_read(plan: Plan) -> str:
    """Returns a hash of parameters, settings, library, coefficients by hand, and the contents of all files read.

    These are the questions', imported knowledge, and the kept study. Models are known to the stages that they train.

    Raises:
        UserError: The settings are wrong, or a file cannot be read.
    """
    settings = load_preset(plan.preset, plan.overrides)
    by_hand = chosen.read_text() if (chosen := plan.folder / CHOSEN).is_file() else ""
    source = RunData(settings, plan.seed).source
    places = {f"data set {task}": source.location(task, settings.tasks.get(task)) for task in settings.tasks_read}
    imported = settings.knowledge.imported
    places["knowledge.imported"] = project_path(imported) if imported else None
    contents = {what: _contents(what, place) for what, place in places.items()}
    kept = files_hash(STUDY.glob("*.json"))
    return content_hash([plan.parameters, settings.model_dump(mode="json"), library_hash(), by_hand, contents, kept])


def _contents(what: str, place: Path | None) -> list[tuple[str, str]]:
    """Returns every file of a place with its hash; nothing where there is none, as of the hub's data sets."""
    try:
        files = _files_in(place) if place else ()
        return [(os.path.relpath(file, place), file_hash(file)) for file in files]
    except OSError as error:
        raise UserError(f"{what}: {error.filename} cannot be read: {error.strerror}") from error


def _files_in(place: Path) -> Iterator[Path]:
    """Yields a file, or all files of a folder that are read."""
    if place.is_dir():
        for inside in entries(place):
            yield from _files_in(inside)
    elif place.is_file():
        yield place


def _record_cost(plan: Plan, name: str, seconds: float, peak: int) -> None:
    path = plan.folder / "cost.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    cost = {
        "seconds": {**before.get("seconds", {}), name: round(seconds, 1)},
        "peak_memory_bytes": max(before.get("peak_memory_bytes", 0), peak),
    }
    write_json(path, cost)


class _Memory(threading.Thread):
    """Measures the peak memory of this process and its children together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._ended = 0, threading.Event()

    def run(self) -> None:
        """Samples every two seconds: sampling costs time as well."""
        while not self._ended.wait(2):
            self.peak = max(self.peak, _memory())

    def __enter__(self) -> "_Memory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()


def _memory() -> int:
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            told = process.memory_full_info()  # PSS, where available, counts shared pages once
            total += getattr(told, "pss", told.uss)
    return total


@contextmanager
def _shown(console: Console, total: int) -> Iterator[Any]:
    """Shows two progress bars: the notebooks, and the current stage, which the kernel reports through a file."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    progress = Progress(*columns, console=console, transient=True, refresh_per_second=3)
    with tempfile.TemporaryDirectory() as folder, progress as bars:
        os.environ[PROGRESS_FILE] = str(Path(folder) / "progress.json")
        overall, stop = bars.add_task("notebooks", total=total), threading.Event()
        watcher = threading.Thread(target=_watch, args=(Path(os.environ[PROGRESS_FILE]), bars, stop), daemon=True)
        watcher.start()
        started = -1

        def shown(name: str) -> None:
            nonlocal started
            started += 1
            bars.update(overall, description=name, completed=started)

        try:
            yield shown
        finally:
            stop.set()
            watcher.join()
            del os.environ[PROGRESS_FILE]


def _watch(path: Path, bars: Progress, stop: threading.Event) -> None:
    inner, label = bars.add_task("starting", total=None), "starting"
    while not stop.wait(0.5):
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if state["label"] != label:
            label = state["label"]
            bars.reset(inner, description=f"  {label}", total=state["total"])
        bars.update(inner, completed=state["done"], total=state["total"])
