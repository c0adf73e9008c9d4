"""`first requests`: what a server is asked for a teacher's log-probabilities."""

import json
from pathlib import Path

from firstlib.experiment.run import Run
from firstlib.knowledge.servers.requests import FORMS, Form, requests, vllm_script
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Settings, Task
from firstlib.tasks.question import SPLITS


def write_requests(run: Run, task: Task, split: str, to: Path, form: Form, model: str) -> tuple[Path, ...]:
    """Writes the requests that ask a teacher for a split: JSONL, and for vLLM a program that sends them.

    A relative folder is in the working directory, where their answers will be.

    Raises:
        UserError: No such task, split or form; or the form does not fit the data.
    """
    check_asked(run, task, split)
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


def check_asked(run: Run, task: str, split: str) -> None:
    """Checks that a run has a task and a split.

    Raises:
        UserError: It has not.
    """
    tasks = run.settings.all_tasks
    if task not in tasks or split not in SPLITS:
        raise UserError(
            f"task {task!r}, split {split!r}: the preset's tasks are {', '.join(tasks)}; the splits {', '.join(SPLITS)}"
        )


def _k(run: Run) -> int:
    return run.settings.knowledge.k
