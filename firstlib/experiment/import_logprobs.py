"""Bringing the answers of a teacher behind an interface into a run: `first import-logprobs`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firstlib.experiment.experiment import Experiment
from firstlib.knowledge.servers.logprobs import Report, Rules, import_logprobs
from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Task

SPLITS = ("train", "validation", "test")


def import_knowledge(experiment: Experiment, file: Path, task: Task, split: str, to: Path, rules: Rules) -> Report:
    """Writes a store as `<to>/<task>-<split>`, where `knowledge.imported` finds it.

    Raises:
        UserError: There is no such task or split; the store is there already; the file is not what it should be;
            nothing in it can be used. Then nothing has been written.
    """
    _check_asked(experiment, task, split)
    final = project_path(to) / f"{task}-{split}"
    if final.exists():
        raise UserError(f"{final} is there already; remove it, or give another folder")
    tokenizer = experiment.tokenizer()
    vocabulary = min(len(tokenizer), loading.vocabulary_size(experiment.settings.student))
    origin = experiment.imported_origin(task, split, rules.k, f"imported from {file.name}")
    encoded = experiment.encoded(task, split)
    with _made_whole(final) as made:
        return import_logprobs(file, made, encoded, tokenizer, origin, rules, vocabulary)


def _check_asked(experiment: Experiment, task: str, split: str) -> None:
    tasks = experiment.all_tasks()
    if task not in tasks or split not in SPLITS:
        raise UserError(
            f"task {task!r}, split {split!r}: the preset's tasks are {', '.join(tasks)}; the splits {', '.join(SPLITS)}"
        )


@contextmanager
def _made_whole(final: Path) -> Iterator[Path]:
    """An empty folder that becomes `final` when all went well, and else leaves nothing behind."""
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
