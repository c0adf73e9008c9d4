"""Asks a model of the reader's own: a folder, a GGUF file, a hub name or an adapter, with any task of the lab."""

import json
from pathlib import Path

import numpy as np

from firstlib.evaluation.asking import ask
from firstlib.evaluation.audit.answers import Answers, Reading, Shown, of_probabilities
from firstlib.evaluation.audit.options import Asked, Options
from firstlib.evaluation.gathering import Asking
from firstlib.models import loading
from firstlib.runtime.errors import UserError, first_line
from firstlib.settings.data import OWN, PUBLISHED, Data, TaskData
from firstlib.settings.loading import load_preset
from firstlib.settings.schema import CandidateScore, Model, Task
from firstlib.tasks import hub, microworld
from firstlib.tasks.chat import in_chat
from firstlib.tasks.encoding import check_taught, reasons_not_to_fit
from firstlib.tasks.question import Question
from firstlib.tasks.text_answers import in_words

KIND = "a model"
MICROWORLD = "microworld"  # as --data: the synthetic questions
ADAPTER = "adapter_config.json"
_INVENTED = 2000  # questions of the microworld, unless there is a limit
_PRESET = "smoke"  # any: of its settings only those of data and tasks are used
_CHECKED = 100  # questions whose candidates are checked: a task's prompts share one format


def read(what: str, options: Options) -> Answers:
    """Returns a model's answers to the questions of a task.

    Raises:
        UserError: The model or the data cannot be loaded, or the task has no questions with choices.
    """
    _check_options(options)
    base, adapter = _settings(what, options.asked)
    tokenizer = loading.load_tokenizer(base)
    asked = _questions(tokenizer, base, options)
    check_taught(tokenizer, asked[:_CHECKED])
    model = loading.load_trained(base, adapter) if adapter else loading.load_base(base).eval()
    vocabulary = min(len(tokenizer), loading.vocabulary_size(base))
    reading: Reading = options.reading or "candidates"
    score: CandidateScore = "mean-by-character" if reading == "acc_norm" else "total"
    how = Asking(batch_size=options.asked.batch_size, vocabulary=vocabulary, score=score)
    found = ask(model, tokenizer, asked, how)
    rows = found.probabilities if reading == "vocabulary" else found.shares()
    task = options.asked.task
    return Answers(
        what, f"{KIND}, asked {task}", reading, *of_probabilities(rows, found.answer), rows, found.answer,
        ids=found.question_id, texts=[Shown(question.prompt, question.choices) for question in asked],
    )  # fmt: skip


def _check_options(options: Options) -> None:
    words = options.asked.candidates
    if words not in ("letters", "text"):
        raise UserError(f"candidates: must be letters or text, not {words[:60]!r}")
    if options.reading == "acc_norm" and words == "letters":
        raise UserError(
            "reading acc_norm: of a model it means something only with --candidates text, else only logs of "
            "lm-evaluation-harness have it; use candidates or vocabulary"
        )


def _settings(what: str, asked: Asked) -> tuple[Model, Path | None]:
    """Returns the base model's settings, and the folder of its adapter where there is one."""
    folder = Path(what).expanduser()
    if not folder.exists():
        return Model(base=what, dtype=asked.dtype), None  # type: ignore[arg-type]
    if not (folder / ADAPTER).is_file():
        return Model(base=str(folder.resolve()), dtype=asked.dtype), None  # type: ignore[arg-type]
    try:
        base = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / ADAPTER}: names no base model ({first_line(error)}); correct it") from error
    beside = (folder / str(base)).resolve()
    place = beside if beside.is_dir() else Path(str(base)).expanduser()
    return Model(base=str(place.resolve()) if place.is_dir() else str(base), dtype=asked.dtype), folder  # type: ignore[arg-type]


def _questions(tokenizer: object, base: Model, options: Options) -> list[Question]:
    asked = options.asked
    known = (*PUBLISHED, OWN)
    if asked.task not in known:
        raise UserError(f"task: a model needs --task, one of {', '.join(known)}; not {asked.task!r}")
    items = _invented(asked) if asked.data == MICROWORLD else _published(tokenizer, base, options)
    found = [item for item in items if isinstance(item, Question)]
    if not found:
        raise UserError(f"task {asked.task}: its answers are free text, so it has no choices; choose another")
    worded = [in_words(item) if asked.candidates == "text" else item for item in found]
    return [in_chat(tokenizer, item) for item in worded] if asked.chat else worded  # type: ignore[arg-type, misc, return-value]


def _invented(asked: Asked) -> list[Question]:
    if asked.task not in microworld.TASKS:
        raise UserError(f"task {asked.task}: the microworld has {', '.join(microworld.TASKS)}; choose one")
    return list(microworld.ask(microworld.make_world(), asked.task, asked.split, asked.limit or _INVENTED, 0))


def _published(tokenizer: object, base: Model, options: Options) -> list[object]:
    asked = options.asked
    data, own = _told(asked)
    if options.max_unusable is not None:
        data = data.model_copy(update={"max_unusable": options.max_unusable})
    longest = min(data.max_length, loading.context_length(base) or data.max_length)
    fits = lambda items: reasons_not_to_fit(tokenizer, items, longest)  # type: ignore[arg-type]  # noqa: E731
    task: Task = str(asked.task)
    _, split = hub.read_split(task, data, _place(task, asked.data), fits, asked.split, own)
    chosen = hub.ranked(split.items, 0)
    return [chosen[place] for place in np.arange(len(chosen))[: asked.limit]]


def _told(asked: Asked) -> tuple[Data, TaskData | None]:
    """Returns the settings of data and task, as a preset with nothing else would have them.

    Raises:
        UserError: A setting does not exist or does not fit, or is about something else.
    """
    if beyond := [text for text in asked.settings if not text.startswith(("data.", f"tasks.{asked.task}."))]:
        raise UserError(f"--set {beyond[0]:.60}: an audit takes settings of data and of tasks.{asked.task} only")
    place = ["data.own=."] if asked.task == OWN and not any(".hub=" in text for text in asked.settings) else []
    column = f"columns=[{{setting: in-domain, train: {asked.task}, test: [{asked.task}]}}]"
    try:
        settings = load_preset(_PRESET, ["data.source=hub", column, *place, *asked.settings])
    except UserError as error:
        raise UserError(str(error).replace(f"settings of {_PRESET}", "--set")) from error
    return settings.data, settings.tasks.get(str(asked.task))


def _place(task: Task, data: str | None) -> Path | None:
    """Returns where a task's questions are: a file, its own folder, or its folder inside one of several data sets."""
    if data is None:
        return None
    place = Path(data).expanduser().resolve()
    inner = place / PUBLISHED[task][0].split("/")[1] if task in PUBLISHED else place
    return inner if inner.is_dir() else place
