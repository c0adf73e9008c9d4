"""Bringing the answers of a teacher behind an interface into a run: `first import-logprobs`."""

import tempfile
from pathlib import Path

from firstlib import models
from firstlib.artefacts import project_path
from firstlib.errors import UserError
from firstlib.experiment import Experiment
from firstlib.knowledge.logprobs import Report, Rules, import_logprobs
from firstlib.settings import Task


def import_knowledge(experiment: Experiment, file: Path, task: Task, split: str, to: Path, rules: Rules) -> Report:
    """Writes a store as `<to>/<task>-<split>`, where `knowledge.imported` finds it.

    Raises:
        UserError: The store is there already; the file is not what it should be; nothing in it can be used.
    """
    final = project_path(to) / f"{task}-{split}"
    if final.exists():
        raise UserError(f"{final} is there already; remove it, or give another folder")
    final.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = experiment.tokenizer()
    vocabulary = min(len(tokenizer), models.vocabulary_size(experiment.settings.student))
    origin = experiment.imported_origin(task, split, rules.k, f"imported from {file.name}")
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".importing-") as folder:
        made = Path(folder) / final.name
        made.mkdir()
        encoded = experiment.encoded(task, split)
        report = import_logprobs(file, made, encoded, tokenizer, origin, rules, vocabulary)
        made.rename(final)
    return report
