"""Finds out what an input of an audit is, and reads it: logs, tables, models; several files of one model as one."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from firstlib.evaluation.audit import inspect_logs, lm_eval, tables
from firstlib.evaluation.audit.answers import Answers
from firstlib.evaluation.audit.options import Options
from firstlib.runtime.errors import UserError
from firstlib.runtime.paths import RESULTS
from firstlib.tasks.delimited import opened

Reader = Callable[[Path, Options], list[Answers]]
_TABLES = (".csv", ".tsv", ".parquet", ".ndjson")
_MODEL = ("config.json", "adapter_config.json")  # one of them is in every model's folder
_NOTHING = (
    "give a log of lm-evaluation-harness or inspect-ai, a table (CSV, JSON Lines, Parquet), the folder of a model or "
    "of a run, or a model's hub name with --task"
)


def read_all(whats: Sequence[str], options: Options, read_run: Reader) -> list[Answers]:
    """Returns the answers of every input, under names that tell them apart.

    Logs that lm-evaluation-harness wrote into one folder for several tasks are one input.

    Args:
        whats: Files, folders, hub names, or `-` for a table on standard input.
        options: How to read them.
        read_run: Reads the folder of one of this library's runs.

    Raises:
        UserError: An input is missing, not readable, or of no known kind.
    """
    if whats.count(tables.STDIN) > 1:
        raise UserError("standard input: can be read once only; give the other inputs as files")
    logs = [Path(what).expanduser() for what in whats if Path(what).suffix == ".jsonl"]
    if len(logs) > 1 and len(logs) == len(whats) and lm_eval.belong_together(logs):
        return [lm_eval.read_files(logs[0].resolve().parent.name, logs, options)]
    return [answers for what in whats for answers in read(what, options, read_run)]


def read(what: str, options: Options, read_run: Reader) -> list[Answers]:
    """Returns the answers of one input; a results folder or a run may hold several models."""
    path = Path(what).expanduser()
    try:
        kind = "" if what == tables.STDIN else "folder" if path.is_dir() else "file" if path.exists() else "name"
    except OSError as error:
        raise UserError(f"{what!s:.80}: is no path ({error.strerror}); {_NOTHING}") from error
    if not kind:
        return [tables.read(what, options)]
    if kind == "folder":
        return _folder(path, options, read_run)
    return _file(path, options, read_run) if kind == "file" else [_model(what, options)]


def distinct(found: Sequence[Answers]) -> list[Answers]:
    """Returns the answers under short names: the last part of a path, with the folder before it where names are equal.

    >>> import numpy as np
    >>> one = Answers("new/log.jsonl", "", "candidates", np.array([0.5]), np.array([True]))
    >>> [each.name for each in distinct([one, one.named("old/log.jsonl")])]
    ['new/log', 'old/log']
    """
    parts = [Path(_stem(one.name)).parts for one in found]
    depth = 1
    while depth < max(map(len, parts), default=1) and _twice(["/".join(part[-depth:]) for part in parts]):
        depth += 1
    names = ["/".join(part[-depth:]) for part in parts]
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return [one.named(name) for one, name in zip(found, numbered, strict=True)]


def _stem(name: str) -> str:
    """Returns a path without the suffix of a file; a model's name may have dots."""
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix in (*_TABLES, ".jsonl", ".json", ".eval", ".gguf") else name


def _twice(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


# -- folders -----------------------------------------------------------------------------------------------------


def _folder(folder: Path, options: Options, read_run: Reader) -> list[Answers]:
    if any((folder / name).is_file() for name in _MODEL):
        return [_asked(str(folder), options)]
    results = folder / lm_eval.UNDATED  # a run's has this name too
    if results.is_file() and _is_lm_eval(_content(results)):
        return [lm_eval.read_results(results, options)]
    if results.is_file():
        return read_run(folder, options)
    if any(folder.rglob("samples_*.jsonl")):
        return lm_eval.read_folder(folder, options)
    if found := sorted(folder.glob("*.eval")):
        return [inspect_logs.read(file, options) for file in found]
    raise UserError(f"{folder}: holds no logs, no model and no run; {_NOTHING}")


def _model(what: str, options: Options) -> Answers:
    if what.count("/") != 1 or what.startswith((".", "/", "~")) or Path(what).suffix in (*_TABLES, ".jsonl", ".json"):
        raise UserError(f"{what!s:.200}: there is no such file or folder; {_NOTHING}")
    if options.asked.task is None:
        raise UserError(f"{what!s:.200}: there is no such file or folder; as a model's hub name it needs --task")
    return _asked(what, options)


def _asked(what: str, options: Options) -> Answers:
    from firstlib.evaluation.audit import models  # here: it imports torch, which logs and tables need not wait for

    return models.read(what, options)


# -- files -------------------------------------------------------------------------------------------------------


def _file(file: Path, options: Options, read_run: Reader) -> list[Answers]:
    ending = file.suffix.lower()
    if ending == ".gguf":
        return [_asked(str(file), options)]
    if ending == ".eval":
        return [inspect_logs.read(file, options)]
    if ending == ".json":
        return _json(file, options, read_run)
    if ending not in _TABLES and lm_eval.is_sample(_first_row(file)):
        return [lm_eval.read_files(str(file), [file], options)]
    return [tables.read(str(file), options)]


def _json(file: Path, options: Options, read_run: Reader) -> list[Answers]:
    content = _content(file)
    if isinstance(content, dict) and "rows" in content and "preset" in content:
        if file.name != RESULTS:
            raise UserError(f"{file}: the results of a run, without its answers; give the run's folder")
        return read_run(file.parent, options)
    if inspect_logs.is_log(content):
        return [inspect_logs.read(file, options)]
    if _is_lm_eval(content):
        return [lm_eval.read_results(file, options)]
    if lm_eval.is_sample(_first_row(file) if content is None else _first(content)):
        return [lm_eval.read_files(str(file), [file], options)]
    return [tables.read(str(file), options)]


def _first(content: Any) -> Any:
    """Returns a list's first entry, and anything else itself."""
    return content[0] if isinstance(content, list) and content else content


def _is_lm_eval(content: Any) -> bool:
    return isinstance(content, dict) and "results" in content and "configs" in content


def _content(file: Path) -> Any:
    """Returns a JSON file's content; None where it is none, which the reader of tables will say."""
    try:
        with opened(file) as content:
            return json.load(content)
    except (ValueError, RecursionError):
        return None


def _first_row(file: Path) -> Any:
    """Returns a list's first entry, or the first line that is JSON; the very first line may be damaged."""
    with opened(file) as lines:
        if lines.read(1) == b"[":
            return _first(_content(file))
        lines.seek(0)
        for _, line in zip(range(20), lines, strict=False):
            try:
                return json.loads(line)
            except (ValueError, RecursionError):
                continue
    return None
