"""Writes a finished student as a plain transformers folder, complete or absent."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from firstlib.evaluation.asking import ask
from firstlib.experiment import Experiment
from firstlib.experiment.answers import asking_any
from firstlib.figures import reliability_diagrams
from firstlib.figures.chrome import picture
from firstlib.models import loading
from firstlib.results.export.calibration import DIAGRAM
from firstlib.results.export.card import model_card
from firstlib.results.export.making import ADAPTER
from firstlib.results.export.measured import TOLERANCE, Measured, Repeat
from firstlib.results.export.student import ExportedStudent, portable
from firstlib.runtime.artefacts import check_replaceable, write_manifest
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.hashing import content_hash
from firstlib.settings.schema import Task

EXPORT = "export-"  # start of the stage's name in an export's manifest


def export_student(experiment: Experiment, method: str, task: Task, folder: str | Path) -> Path:
    """Writes a student, trained if necessary, as a folder that transformers loads in two lines, and returns its path.

    The folder holds the weights as safetensors (an adapter merged into its base model, and separately in `adapter/`),
    the tokenizer, a model card with its reliability diagram, and a manifest. It is complete or absent; an earlier
    export is replaced as a whole.

    Args:
        experiment: Whose student it is.
        method: Any method of the settings.
        task: The training task.
        folder: A new or empty folder, or an earlier export.

    Raises:
        UserError: The folder holds something else, there is no such method or training task, or the exported weights
            answer differently from the trained ones by more than rounding.
    """
    to, started = Path(folder).expanduser().resolve(), time.monotonic()
    check_replaceable(to, EXPORT)
    student = ExportedStudent(experiment, method, task)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as scratch:
        made = Path(scratch) / "export"
        parameters = save_weights(student, made)
        repeats = ask_again(student, made)
        _check_agreement(student, repeats)
        drawn = _write_diagram([repeat.after for repeat in repeats], made)
        model_card(student, to.name, parameters, repeats, drawn).save(made / "README.md")
        inputs = {"preset": student.preset, "seed": experiment.seed, "artefacts": portable(student.lineage())}
        seconds = time.monotonic() - started
        write_manifest(made, stage=f"{EXPORT}{method}-{task}", key=content_hash(inputs), inputs=inputs, seconds=seconds)
        _publish(made, to)
    return to


def save_weights(student: ExportedStudent, to: Path) -> int:
    """Writes weights, generation settings, tokenizer and adapter; returns the number of parameters.

    QLoRA's adapter, trained on 4-bit weights, is merged into the unquantised base model, because quantised weights
    cannot be merged without loss.
    """
    spec, trained = student.model, student.folder
    unquantised = spec.model_copy(update={"tuning": "lora"}) if spec.tuning == "qlora" else spec
    model: Any = loading.load_trained(unquantised, trained)
    if spec.tuning != "full":
        _save_adapter(trained, to / ADAPTER)
        model = model.merge_and_unload(safe_merge=True)
    model.save_pretrained(to)
    student.experiment.tokenizer("student").save_pretrained(to)
    return int(model.num_parameters())


def _save_adapter(trained: Path, to: Path) -> None:
    to.mkdir(parents=True)
    shutil.copy2(trained / "adapter_model.safetensors", to)
    write_json(to / "adapter_config.json", portable(json.loads((trained / "adapter_config.json").read_text())))


def ask_again(student: ExportedStudent, folder: Path) -> list[Repeat]:
    """Loads an exported folder as any user would, and asks it every test question at that test set's temperature."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval().to(loading.device())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    repeats, temperatures = [], student.temperatures
    for setting, test in student.tests:
        kept = student.answers(test)
        how = asking_any(student.experiment.run, "student", temperatures[test])
        found = ask(model, tokenizer, student.experiment.questions(test), how)
        before, after = (student.measure(one, setting, test) for one in (kept, found))
        repeats.append(Repeat(test, kept, found, before, after))
    return repeats


def _check_agreement(student: ExportedStudent, repeats: Sequence[Repeat]) -> None:
    largest, most = max(repeat.largest for repeat in repeats), TOLERANCE[student.model.dtype]
    if student.model.tuning != "qlora" and not largest <= most:
        raise UserError(
            f"export: the exported weights change a probability by {largest:.2g}, more than the {most:g} that rounding "
            f"to {student.model.dtype} explains; nothing was written, so use {student.folder} instead"
        )


def _publish(made: Path, to: Path) -> None:
    earlier = made.with_name("earlier")
    if to.is_dir():
        to.rename(earlier)
    try:
        made.rename(to)
    except OSError:
        if earlier.is_dir():
            earlier.rename(to)
        raise


def _write_diagram(measured: Sequence[Measured], folder: Path) -> bool:
    """Returns whether a browser was found to draw it."""
    drawn = picture(reliability_diagrams({one.name: one.reliability for one in measured}), "png")
    if drawn is not None:
        (folder / DIAGRAM).write_bytes(drawn)
    return drawn is not None
