"""The stages that a report or a card rests on, each described in words. Several methods may share a stage's folder."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firstlib.distillation.recalibration import Map
from firstlib.experiment import Experiment
from firstlib.figures.style import name_of
from firstlib.runtime.artefacts import MANIFEST

Manifest = dict[str, Any]

MAPS = {
    Map.NONE: "top k, renormalised",
    Map.STORED: "top k as stored",
    Map.LABEL_SMOOTHING: "label smoothing, d = {:g}",
    Map.TEMPERATURE: "Eq. 4, c = {:g}",
    Map.LOGIT_TEMPERATURE: "logit temperature, T = {:g}",
    Map.EXACT_TEMPERATURE: "exact temperature, T = {:g}",
}
# A stage's name, and what it holds. Tasks have no hyphens.
_NAMES = {
    r"teacher-(?P<task>\w+)": "teacher on {task}",
    r"teacher-(?P<task>\w+)-without-fold-(?P<fold>\d+)-of-(?P<folds>\d+)": (
        "teacher on {task}, without fold {fold} of {folds}"
    ),
    r"knowledge-(?P<task>\w+)-(?P<split>\w+)-top(?P<k>\d+)": "the teacher's top {k} on {task}, {split} split",
    r"knowledge-(?P<task>\w+)-\w+-top(?P<k>\d+)-cross-fitted-(?P<folds>\d+)": (
        "top {k} on {task} from {folds} cross-fitted teachers"
    ),
    r"teacher-(?P<task>\w+)-member-(?P<member>\d+)": "teacher on {task}, LoRA, member {member} of an ensemble",
    r"knowledge-(?P<task>\w+)-(?P<split>\w+)-top(?P<k>\d+)-ensemble-(?P<members>\d+)": (
        "top {k} of the mean of {members} teachers on {task}, {split} split"
    ),
    r"knowledge-(?P<task>\w+)-(?P<split>\w+)-drawn(?P<k>\d+)": "{k} tokens drawn from the teacher on {task}",
    r"knowledge-(?P<task>\w+)-fold-(?P<fold>\d+)-of-(?P<folds>\d+)": (
        "top k on {task}, fold {fold} of {folds}, from the teacher without it"
    ),
    r"predictions-base-(?P<role>\w+)-on-(?P<test>\w+)-(?P<split>\w+)": (
        "answers of the base {role} to {test}, {split} split"
    ),
    r"predictions-.*-on-(?P<test>\w+)-(?P<split>\w+)": "answers to {test}, {split} split",
}


@dataclass(frozen=True)
class StageLine:
    """One stage as reports and cards list it."""

    folder: str
    description: str
    seconds: float
    bytes: int


class Recorder:
    """Remembers the folder of every stage that an experiment asks for: its run may hold other settings' stages too."""

    def __init__(self) -> None:
        """Nothing is recorded yet."""
        self.folders: dict[Path, None] = {}

    def watch(self, experiment: Experiment) -> Experiment:
        """Returns the experiment, sealed or not as it is, with its stages recorded."""
        watched, run = copy(experiment), experiment.run
        watched.run = replace(run, artefacts=replace(run.artefacts, on_get=self._record))
        return watched

    def _record(self, folder: Path) -> None:
        self.folders[folder] = None

    def manifests(self) -> list[Manifest]:
        """Returns the manifests of the recorded stages that exist, in the order in which they were asked for."""
        files = [folder / MANIFEST for folder in self.folders]
        return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def stage_lines(manifests: Sequence[Manifest], methods: Mapping[str, Iterable[str]]) -> list[StageLine]:
    """Returns one line per stage.

    Args:
        manifests: In the order of the lines.
        methods: The methods that share each student's folder, by its name.
    """
    models = {folder_name(one): describe(one, methods) for one in manifests}
    lines = []
    for one in manifests:
        asked = models.get(one["inputs"]["model"], "") if one["stage"].startswith("predictions-") else ""
        whole = f"{describe(one, methods)}, by the {asked}" if asked else describe(one, methods)
        lines.append(StageLine(folder_name(one), whole, one["seconds"], one["bytes"]))
    return lines


def folder_name(manifest: Manifest) -> str:
    """Returns the name of a stage's folder."""
    return f"{manifest['stage']}-{manifest['key']}"


def describe(manifest: Manifest, methods: Mapping[str, Iterable[str]]) -> str:
    """Returns what a stage holds.

    >>> describe({"stage": "teacher-csqa", "key": "0", "inputs": {}}, {})
    'teacher on CSQA'
    >>> inputs = {"map": "temperature", "coefficient": 0.34, "tail": "drop", "student": "full", "knowledge": "k"}
    >>> describe({"stage": "student-temperature-csqa", "key": "1", "inputs": inputs}, {})
    'student on CSQA: Eq. 4, c = 0.34'
    """
    stage, inputs = manifest["stage"], manifest["inputs"]
    if stage.startswith("student-"):
        used = ", ".join(map(name_of, methods.get(folder_name(manifest), ())))
        task = name_of(stage.rpartition("-")[2])
        learned = "weights between base model and student" if "shares" in inputs else ", ".join(_learned(inputs))
        return f"student on {task}: {learned}" + (f" ({used})" if used else "")
    for pattern, words in _NAMES.items():
        if found := re.fullmatch(pattern, stage):
            return words.format_map(_readable(found.groupdict())) + _temperature(inputs)
    return str(stage)


def _readable(parts: Mapping[str, str]) -> dict[str, str]:
    return {key: name_of(part) if key in ("task", "test") else part for key, part in parts.items()}


def targets_in_words(kind: str, coefficient: float) -> str:
    """Returns what a map makes of the stored probabilities.

    >>> targets_in_words("temperature", 0.34)
    'Eq. 4, c = 0.34'
    """
    return MAPS[Map(kind)].format(coefficient)


def _learned(inputs: Manifest) -> Iterator[str]:
    kind = inputs.get("map")
    yield targets_in_words(kind, inputs["coefficient"]) if kind else "right answers"
    if inputs.get("tail", "drop") != "drop":
        yield f"tail {inputs['tail']}"
    if inputs.get("student", "full") != "full":
        yield f"student's probabilities {inputs['student']}"
    if inputs.get("where", "everywhere") != "everywhere":
        yield f"at {inputs['where']} positions"
    if inputs.get("smoothing"):
        yield f"label smoothing {inputs['smoothing']:g}"
    sources = [kind for kind in ("cross-fitted", "ensemble", "drawn") if kind in inputs.get("knowledge", "")]
    yield from (f"{kind} knowledge" for kind in sources)
    model = inputs.get("model", {})
    if isinstance(model, dict) and (tuning := model.get("tuning", "full")) != "full":
        yield f"{tuning.upper().replace('LORA', 'LoRA')}"


def _temperature(inputs: Manifest) -> str:
    return f", logits divided by T = {inputs['temperature']:g}" if "temperature" in inputs else ""
