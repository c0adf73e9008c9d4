"""`first import-logprobs`: a served teacher's log-probabilities as the knowledge of a run."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firstlib.experiment import summary
from firstlib.experiment.data import RunData
from firstlib.experiment.run import Run
from firstlib.knowledge.servers.candidates import Candidates
from firstlib.knowledge.servers.logprobs import Report, import_logprobs
from firstlib.knowledge.servers.matching import Rules
from firstlib.knowledge.servers.requests import FORMS, Form, requests, vllm_script
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Settings, Task
from firstlib.tasks.encoding import single_tokens
from firstlib.tasks.question import SPLITS


def import_knowledge(run: Run, file: Path, task: Task, split: str, to: Path, rules: Rules) -> tuple[Path, Report]:
    """Writes a store as `<to>/<task>-<split>`, where `knowledge.imported` finds it, and returns its folder.

    Raises:
        UserError: No such task or split; the store exists already; the file is not as documented; nothing in it can be
            used. Nothing is written then.
    """
    _check_asked(run, task, split)
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


def write_requests(run: Run, task: Task, split: str, to: Path, form: Form, model: str) -> tuple[Path, ...]:
    """Writes the requests that ask a teacher for a split: JSONL, and for vLLM a program that sends them.

    A relative folder is in the working directory, where their answers will be.

    Raises:
        UserError: No such task, split or form; or the form does not fit the data.
    """
    _check_asked(run, task, split)
    if form not in FORMS:
        raise UserError(f"--for {form}: the forms are {', '.join(FORMS)}")
    check_form(run.settings, form)
    name = f"{task}-{split}"
    lines = (json.dumps(each) + "\n" for each in requests(run.data.source.items(task, split), form, model, _k(run)))
    folder = to.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(lines)
    if form != "vllm":
        return (folder / f"{name}.jsonl",)
    (folder / f"{name}.py").write_text(vllm_script(name, _k(run)), encoding="utf-8")
    return folder / f"{name}.jsonl", folder / f"{name}.py"


def check_form(settings: Settings, form: Form) -> None:
    """Checks that a prompt in chat format is not put into a chat again.

    Raises:
        UserError: It would be.
    """
    if form == "chat" and settings.data.chat_template:
        raise UserError(
            "data.chat_template: the prompt is in a chat format already, and the server would put it into another; set "
            "it to false, or ask in the form completions or vllm"
        )


def _k(run: Run) -> int:
    return run.settings.knowledge.k


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
