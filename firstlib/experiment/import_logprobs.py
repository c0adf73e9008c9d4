"""`first import-logprobs`: a served teacher's log-probabilities as the knowledge of a run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firstlib.experiment import summary, teachers
from firstlib.experiment.run import Run
from firstlib.knowledge.servers.candidates import Candidates
from firstlib.knowledge.servers.logprobs import Report, import_logprobs
from firstlib.knowledge.servers.matching import Rules
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Task
from firstlib.tasks.question import SPLITS


def import_knowledge(run: Run, file: Path, task: Task, split: str, to: Path, rules: Rules) -> Report:
    """Writes a store as `<to>/<task>-<split>`, where `knowledge.imported` finds it.

    Raises:
        UserError: No such task or split; the store exists already; the file is not as documented; nothing in it can be
            used. Nothing is written then.
    """
    _check_asked(run, task, split)
    final = project_path(to) / f"{task}-{split}"
    if final.exists():
        raise UserError(f"{final} exists already; remove it, or give another folder")
    data = run.data
    origin = teachers.imported_origin(run, task, split, rules.k, f"imported from {file.name}")
    with _made_whole(final) as made:
        return import_logprobs(
            file, made, data.encoded(task, split), data.tokenizer(), origin, rules, data.vocabulary("student"),
            _candidates(run, task, split),
        )  # fmt: skip


def _candidates(run: Run, task: Task, split: str) -> dict[str, Candidates]:
    """Returns the candidates of each question, in the student's tokens; none where answers are free text."""
    if not run.data.has_candidates(task, split):
        return {}
    pairs = zip(run.data.questions(task, split), run.data.encoded_questions(task, split, "student"), strict=True)
    return {q.id: Candidates(len(stem), tuple(ids), q.candidates) for q, (stem, ids) in pairs}


def _check_asked(run: Run, task: str, split: str) -> None:
    tasks = summary.all_tasks(run)
    if task not in tasks or split not in SPLITS:
        raise UserError(
            f"task {task!r}, split {split!r}: the preset's tasks are {', '.join(tasks)}; the splits {', '.join(SPLITS)}"
        )


@contextmanager
def _made_whole(final: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `final` on success, and leaves nothing behind otherwise."""
    new = not final.parent.exists()
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=".importing-") as folder:
            made = Path(folder) / final.name
            made.mkdir()
            yield made
            made.rename(final)
    finally:
        if new and not any(final.parent.iterdir()):
            final.parent.rmdir()
