"""`first import-logprobs`: a served teacher's log-probabilities as the knowledge of a run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firstlib.experiment.data import RunData
from firstlib.experiment.requests import check_asked
from firstlib.experiment.run import Run
from firstlib.knowledge.servers.candidates import Candidates
from firstlib.knowledge.servers.logprobs import Report, import_logprobs
from firstlib.knowledge.servers.matching import Rules
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Task
from firstlib.tasks.encoding import single_tokens


def import_knowledge(run: Run, file: Path, task: Task, split: str, to: Path, rules: Rules) -> tuple[Path, Report]:
    """Writes a store as `<to>/<task>-<split>`, where `knowledge.imported` finds it, and returns its folder.

    Raises:
        UserError: No such task or split; the store exists already; the file is not as documented; nothing in it can be
            used. Nothing is written then.
    """
    check_asked(run, task, split)
    return import_split(run.data, file, task, split, project_path(to), rules)


def import_split(data: RunData, file: Path, task: Task, split: str, to: Path, rules: Rules) -> tuple[Path, Report]:
    """Writes a store as `<to>/<task>-<split>`; as `import_knowledge`, for data that need no run.

    Raises:
        UserError: As `import_knowledge`.
    """
    final = to / f"{task}-{split}"
    if final.exists():
        raise UserError(f"{final} exists already; remove it, or give another folder")
    origin = data.imported_origin(task, split, rules.k, f"imported from {file.name}")
    with _made_whole(final) as made:
        return final, import_logprobs(
            file, made, data.encoded(task, split), data.tokenizer(), origin, rules, data.vocabulary("student"),
            _candidates(data, task, split),
        )  # fmt: skip


def _candidates(data: RunData, task: Task, split: str) -> dict[str, Candidates]:
    """Returns the candidates of each question, in the student's tokens; none where answers are free text."""
    if not data.has_candidates(task, split):
        return {}
    pairs = zip(data.questions(task, split), data.encoded_questions(task, split, "student"), strict=True)
    return {q.id: Candidates(len(stem), tuple(single_tokens(q, ids)), q.candidates) for q, (stem, ids) in pairs}


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
