"""The model card of an exported student, in the hub's format. Every number in it is computed."""

from collections.abc import Iterator, Sequence

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from firstlib.models.places import licence
from firstlib.results.export.calibration import how_well_calibrated
from firstlib.results.export.making import divided_by, how_it_was_made, in_short, is_folder
from firstlib.results.export.markdown import bullets, counted, escaped, fenced, percent
from firstlib.results.export.measured import TOLERANCE, Measured, Repeat, in_plain_words
from firstlib.results.export.student import ExportedStudent, portable
from firstlib.results.export.usage import how_to_ask
from firstlib.results.markup import markdown_table
from firstlib.results.provenance import Manifest, folder_name, stage_lines
from firstlib.runtime.artefacts import MANIFEST
from firstlib.settings.data import PUBLISHED
from firstlib.settings.schema import Task

PAPER = "[FIRST](https://arxiv.org/abs/2408.12168)"


def model_card(
    student: ExportedStudent, name: str, parameters: int, repeats: Sequence[Repeat], diagram: bool
) -> ModelCard:
    """Returns the card of an exported student.

    Args:
        student: Whose card it is.
        name: The folder's name.
        parameters: Number of the model's parameters.
        repeats: The exported folder's answers, one entry per test set.
        diagram: Whether the folder holds a reliability diagram.
    """
    measured, reading = [repeat.after for repeat in repeats], student.settings.measures.confidence
    sections = {
        f"# {escaped(name)}": _what_it_is(student, parameters, measured),
        "## How it was made": how_it_was_made(student),
        "## How to ask it": how_to_ask(student, name, repeats[0]),
        "## How well calibrated it is": how_well_calibrated(measured, reading, diagram),
        "## Intended use and limits": _limits(student, measured),
        "## Agreement with the experiment": _agreement(student, repeats),
        "## Provenance": _provenance(student),
    }
    text = "\n\n".join(f"{heading}\n\n{section}" for heading, section in sections.items())
    return ModelCard(f"---\n{metadata(student, name, repeats).to_yaml()}\n---\n\n{text}\n")


# -- what the hub reads ------------------------------------------------------------------------------------------


def metadata(student: ExportedStudent, name: str, repeats: Sequence[Repeat]) -> ModelCardData:
    """Returns the card's first block.

    It leaves out a base model or data set that is not on the hub, because the hub would look for one of that name, and
    the licence, which is not known.
    """
    how = ["knowledge-distillation"] if student.method.distils else []
    tuning = [] if student.model.tuning == "full" else [student.model.tuning]
    trained_on = _dataset(student, student.task)
    return ModelCardData(
        base_model=None if is_folder(student.model) else student.model.base,
        datasets=[trained_on] if "/" in trained_on else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["firstlib", "calibration", *how, *tuning],
        model_name=name,
        eval_results=[result for repeat in repeats for result in _results(student, repeat)],
    )


def _results(student: ExportedStudent, repeat: Repeat) -> Iterator[EvalResult]:
    found = repeat.after
    bins = f"ECE, {len(found.reliability.count)} equal-width bins"
    for kind, title, value in (("accuracy", "Accuracy", found.scores.accuracy), ("ece", bins, found.scores.ece)):
        yield EvalResult(
            task_type="multiple-choice",
            task_name="Multiple choice",
            dataset_type=_dataset(student, repeat.test),
            dataset_name=found.name,
            metric_type=kind,
            metric_name=title,
            metric_value=value,
        )


def _dataset(student: ExportedStudent, task: Task) -> str:
    if student.settings.generates(task):
        return f"microworld-{task}"
    own = student.settings.tasks.get(task)
    return PUBLISHED[task][0] if own is None else own.hub or task


# -- what readers read -------------------------------------------------------------------------------------------


def _what_it_is(student: ExportedStudent, parameters: int, measured: Sequence[Measured]) -> str:
    found = [
        f"{escaped(one.name)}: accuracy {percent(one.scores.accuracy)} %, ECE {percent(one.scores.ece)} %, "
        f"n = {one.scores.n:,}"
        for one in measured
    ]
    scaled = f" Its logits must be divided by {divided_by(student)}." if student.is_tempered else ""
    return (
        f"A causal language model of {parameters:,} parameters, {in_short(student)} on "
        f"{escaped(student.title(student.task))}. It answers questions, and its probabilities state how likely each "
        f"answer is right.{scaled} firstlib trained and measured it, following {PAPER}.\n\n{bullets(found)}"
    )


def _limits(student: ExportedStudent, measured: Sequence[Measured]) -> str:
    names = " and ".join(escaped(student.title(test)) for test in dict.fromkeys(test for _, test in student.tests))
    invented = student.settings.uses_microworld
    return bullets(
        [
            f"It is for questions like those of {names}, in the prompt above. Its confidence was measured only there, "
            "at the answer's position and among the question's candidates; text that it generates was not measured.",
            *(in_plain_words(one) for one in measured),
            *(["Its questions are about an invented town; it knows nothing of the real world."] if invented else []),
            "It cannot answer that no candidate is right.",
            "One training run with one seed was measured; another seed gives other numbers.",
            _licences(student),
        ]
    )


def _licences(student: ExportedStudent) -> str:
    stated = licence(student.model)
    of_base = f"The base model's file states the licence *{escaped(stated)}*. " if stated else ""
    return f"{of_base}No licence of its own is stated; the licences of the base model and of the data apply."


def _agreement(student: ExportedStudent, repeats: Sequence[Repeat]) -> str:
    largest, changed = max(one.largest for one in repeats), sum(one.changed for one in repeats)
    allowed = f" (allowed: {TOLERANCE[student.model.dtype]:g})" if student.model.tuning != "qlora" else ""
    intro = (
        "The numbers above are those of this folder, loaded as shown and asked every test question. A candidate's "
        "probability, in the vocabulary or among the candidates, differs by at most "
        f"{largest:.2g}{allowed} from the experiment's; {counted(changed, 'answer')} changed."
    )
    head = ["test set", "accuracy, experiment / folder", "ECE, experiment / folder", "largest difference", "changed"]
    return f"{intro}\n\n{markdown_table(head, [_compared(one) for one in repeats])}"


def _compared(one: Repeat) -> list[str]:
    before, after = one.before.scores, one.after.scores
    return [
        escaped(one.after.name),
        f"{percent(before.accuracy)} / {percent(after.accuracy)}",
        f"{percent(before.ece)} / {percent(after.ece)}",
        f"{one.largest:.2g}",
        f"{one.changed:,} of {after.n:,}",
    ]


def _provenance(student: ExportedStudent) -> str:
    manifests = student.lineage()
    own = next(manifest for manifest in manifests if folder_name(manifest) == student.folder.name)
    versions = ", ".join(f"{name} {number}" for name, number in own["versions"].items())
    settings = portable(student.settings.model_dump(mode="json"))
    code = fenced(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip(), "yaml")
    lines = stage_lines(manifests, {student.folder.name: [student.name]})
    rows = [
        (escaped(line.description), f"`{line.folder}`", _files(manifest))
        for line, manifest in zip(lines, manifests, strict=True)
    ]
    return "\n\n".join(
        [
            f"Preset {escaped(student.preset)}, method {escaped(student.name)}, seed {student.experiment.seed}; "
            f"{versions}. The table lists each stage that the student and its answers rest on, and the first digits of "
            f"its files' SHA-256; `{MANIFEST}` holds all digits.",
            markdown_table(["stage", "folder", "files"], rows),
            f"<details><summary>All settings</summary>\n\n{code}\n\n</details>",
        ]
    )


def _files(manifest: Manifest) -> str:
    return "<br>".join(f"{escaped(name)} `{digest[:12]}`" for name, digest in manifest["files"].items())
