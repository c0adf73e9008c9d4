"""The model card of an exported student, in the hub's format. Every number in it is computed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from firstlib.distillation.recalibration import Map
from firstlib.evaluation.predictions import Reading
from firstlib.metrics import Reliability
from firstlib.models import loading
from firstlib.results.export.markdown import bullets, counted, escaped, fenced, percent, table
from firstlib.results.export.measured import TOLERANCE, Measured, Repeat, in_plain_words
from firstlib.results.export.student import Manifest, Student, name_of_stage, portable
from firstlib.runtime.artefacts import MANIFEST
from firstlib.settings.schema import Method, Model, Task
from firstlib.tasks.hub import NAMES
from firstlib.tasks.question import Question

ADAPTER = "adapter"
DIAGRAM = "reliability.png"
PAPER = "[FIRST](https://arxiv.org/abs/2408.12168)"
HOW: dict[Method, str] = {
    "fine-tune": "fine-tuned",
    "distill": "distilled",
    "label-smoothing": "distilled with label smoothing",
    "first": "distilled by FIRST",
}


def model_card(student: Student, name: str, parameters: int, repeats: Sequence[Repeat], diagram: bool) -> ModelCard:
    """The card of a student that lies in a folder.

    Args:
        student: whose card it is.
        name: what the folder is called.
        parameters: how many it has.
        repeats: what it answered when it was asked from that folder, a test set each.
        diagram: whether a reliability diagram lies beside the card.
    """
    measured = [repeat.after for repeat in repeats]
    sections = {
        f"# {escaped(name)}": _what_it_is(student, parameters, measured),
        "## How it was made": _how_it_was_made(student),
        "## How to ask it": _how_to_ask(student, name, repeats[0]),
        "## How honest it is": _how_honest(student, measured, diagram),
        "## What to use it for, and what not": _limits(student, measured),
        "## Is this folder the experiment's student?": _repetition(student, repeats),
        "## Where it comes from": _provenance(student),
    }
    text = "\n\n".join(f"{heading}\n\n{section}" for heading, section in sections.items())
    return ModelCard(f"---\n{metadata(student, name, repeats).to_yaml()}\n---\n\n{text}\n")


# -- what the hub reads ------------------------------------------------------------------------------------------


def metadata(student: Student, name: str, repeats: Sequence[Repeat]) -> ModelCardData:
    """The card's first block.

    A base model or data set that is not on the hub is left out, for the hub takes every name for one of its own. So
    is the licence, which nobody here knows.
    """
    how = [] if student.method == "fine-tune" else ["knowledge-distillation"]
    tuning = [] if student.model.tuning == "full" else [student.model.tuning]
    trained_on = _dataset(student, student.task)
    return ModelCardData(
        base_model=None if _is_folder(student.model) else student.model.base,
        datasets=[trained_on] if "/" in trained_on else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["firstlib", "calibration", *how, *tuning],
        model_name=name,
        eval_results=[result for repeat in repeats for result in _results(student, repeat)],
    )


def _results(student: Student, repeat: Repeat) -> Iterator[EvalResult]:
    found = repeat.after
    bins = f"ECE, {len(found.reliability.count)} equal-width bins"
    for kind, title, value in (("accuracy", "Accuracy", found.accuracy), ("ece", bins, found.ece)):
        yield EvalResult(
            task_type="multiple-choice",
            task_name="Multiple choice",
            dataset_type=_dataset(student, repeat.test),
            dataset_name=found.name,
            metric_type=kind,
            metric_name=title,
            metric_value=value,
        )


def _dataset(student: Student, task: Task) -> str:
    if student.experiment.settings.data.source == "microworld":
        return f"microworld-{task}"
    return NAMES[task][0] if task in NAMES else task


def _is_folder(model: Model) -> bool:
    return Path(loading.base_location(model)).is_dir()


# -- what it is, and how it was made -----------------------------------------------------------------------------


def _what_it_is(student: Student, parameters: int, measured: Sequence[Measured]) -> str:
    found = [
        f"{escaped(one.name)}: accuracy {percent(one.accuracy)} %, ECE {percent(one.ece)} %, n = {one.n:,}"
        for one in measured
    ]
    return (
        f"A causal language model of {parameters:,} parameters, {HOW[student.method]} on "
        f"{escaped(student.title(student.task))}, that answers questions and says how sure it is. It was made and "
        f"measured with firstlib, after {PAPER}.\n\n{bullets(found)}"
    )


def _how_it_was_made(student: Student) -> str:
    experiment = student.experiment
    count, epochs = len(experiment.items(student.task, "train")), experiment.settings.training.epochs
    lines = [
        f"**Student.** {_base(student.model)}, trained on {counted(count, 'example')} of "
        f"{escaped(student.title(student.task))} for {counted(epochs, 'epoch')}. {_tuning(student.model)}"
    ]
    if student.method == "fine-tune":
        lines.append("**Targets.** The right answers alone; no teacher was asked.")
    else:
        lines += [_teacher(student), _targets(student), _loss(student)]
    return "\n\n".join(lines)


def _base(model: Model) -> str:
    return f"*{escaped(Path(model.base).name)}* (a local folder)" if _is_folder(model) else f"*{escaped(model.base)}*"


def _tuning(model: Model) -> str:
    if model.tuning == "full":
        return f"All weights were tuned, in {model.dtype}."
    adapter = f"adapter (rank {model.lora.rank}, alpha {model.lora.alpha}), which lies in `{ADAPTER}/`"
    if model.tuning == "lora":
        return f"A LoRA {adapter}, was tuned and merged into the base's weights in {model.dtype}."
    return (
        f"A QLoRA {adapter}, was tuned beside 4-bit NF4 weights. Here it is merged into the *unquantised* weights, in "
        f"{model.dtype}, so it does not answer exactly as it did there: see below."
    )


def _teacher(student: Student) -> str:
    settings, store = student.experiment.settings, student.experiment.knowledge(student.task)
    who = f"{_base(settings.teacher)}, fine-tuned on the same examples"
    if settings.knowledge.imported:
        who = f"*{escaped(store.origin.teacher)}*, whose log-probabilities were imported"
    mass = float(store.all_probabilities().sum(axis=1).mean())
    return (
        f"**Teacher.** {who}. Its k = {settings.knowledge.k} most probable tokens were kept "
        f"at {counted(store.positions, 'response position')}: {percent(mass)} % of its probability on average."
    )


def _targets(student: Student) -> str:
    kind, coefficient = student.experiment.targets(student.method, student.task)
    how = {
        Map.NONE: "as they were kept, renormalised (direct distillation)",
        Map.LABEL_SMOOTHING: f"with d = {coefficient:g} moved from the first token to the others (Eq. 3)",
        Map.TEMPERATURE: f"recalibrated: q ~ exp(p / c) with c = {coefficient:g} (Eq. 4)",
        Map.LOGIT_TEMPERATURE: f"recalibrated: q ~ p^(1/T) with T = {coefficient:g}",
    }
    chosen = f" {_criterion(student)}" if student.method == "first" else ""
    return f"**Targets.** The teacher's probabilities, {how[kind]}. The map is *{kind}*.{chosen}"


def _criterion(student: Student) -> str:
    experiment = student.experiment
    if experiment.settings.recalibration.coefficient is not None:
        return "The coefficient was set by hand."
    search = experiment.search(student.task)
    tried = np.concatenate([search.coarse, search.fine])
    asked = experiment.target_outcomes(student.task, "validation", Map.NONE, 1.0)
    count = counted(len(asked[1]), "validation answer")
    edge = " It lies at the end of what was tried: a wider search might do better." if search.at_the_edge else ""
    return (
        f"Of {len(np.unique(tried[:, 0]))} coefficients this one gave the targets the lowest ECE on {count}, "
        f"{percent(tried[:, 1].min())} %; the worst gave {percent(tried[:, 1].max())} %.{edge}"
    )


def _loss(student: Student) -> str:
    distillation = student.experiment.settings.distillation
    return (
        "**Loss.** Knowledge matching (Eq. 5), no hard labels; the student's probability read as "
        f"*{distillation.student}*, the mass outside the kept tokens as *{distillation.tail}*."
    )


# -- how to ask it -----------------------------------------------------------------------------------------------

LOADING = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({name!r})
tokenizer = AutoTokenizer.from_pretrained({name!r})"""

ASKING = """\
import torch

prompt = (
{prompt}
)
candidates = {candidates!r}
ids = [tokenizer(prompt + text).input_ids[-1] for text in candidates]
with torch.inference_mode():
    logits = model(torch.tensor([tokenizer(prompt).input_ids])).logits[0, -1].float()
probabilities = logits.softmax(-1)[ids]
confidence = {confidence}
print(candidates[int(confidence.argmax())], float(confidence.max()))"""

READINGS: dict[Reading, tuple[str, str]] = {
    "candidates": ("its share among the candidates", "probabilities / probabilities.sum()"),
    "vocabulary": ("its probability in the whole vocabulary", "probabilities"),
}


def _reading(student: Student) -> Reading:
    return student.experiment.settings.measures.confidence


def _how_to_ask(student: Student, name: str, repeat: Repeat) -> str:
    told, confidence = READINGS[_reading(student)]
    question, given = _example(student, repeat)
    prompt, candidates = _literal(question.prompt + question.lead), list(question.candidates)
    return "\n\n".join(
        [
            "Two lines of transformers load it:",
            fenced(LOADING.format(name=name), "python"),
            "It is asked for one token, directly behind a prompt of exactly this form. The answer is the most probable "
            f"candidate, and the confidence is {told}:",
            fenced(ASKING.format(prompt=prompt, candidates=candidates, confidence=confidence), "python"),
            "What it says to this one:",
            _answers(question, given),
        ]
    )


def _example(student: Student, repeat: Repeat) -> tuple[Question, list[float]]:
    """The shortest question of a test set, and the confidence that each candidate gets."""
    questions, found = student.experiment.questions(repeat.test), repeat.found
    row = min(range(len(questions)), key=lambda i: len(questions[i].prompt))
    given = (found.shares() if _reading(student) == "candidates" else found.probabilities)[row]
    return questions[row], given[: len(questions[row].candidates)].tolist()


def _literal(text: str) -> str:
    return "\n".join(f"    {line!r}" for line in text.splitlines(keepends=True))


def _answers(question: Question, given: Sequence[float]) -> str:
    rows = [
        (escaped(candidate), escaped(choice), percent(share), "yes" if index == question.answer else "")
        for index, (candidate, choice, share) in enumerate(
            zip(question.candidates, question.choices, given, strict=True)
        )
    ]
    return table(["candidate", "stands for", "confidence, %", "right"], rows)


# -- how honest it is --------------------------------------------------------------------------------------------


def _how_honest(student: Student, measured: Sequence[Measured], diagram: bool) -> str:
    told = READINGS[_reading(student)][0]
    return "\n\n".join(
        [
            f"Confidence is the predicted candidate's probability: {told}. All in percent, but NLL (nats) and Brier. "
            "ECE stands with its 95 % bootstrap interval. The noise floor is the ECE that a perfectly calibrated model "
            "would show by chance: its mean, and its 95th percentile. Trust is accuracy - ECE.",
            _scores(measured),
            _diagram(diagram),
            *(f"**{escaped(one.name)}**, bin by bin:\n\n{_bins(one.reliability)}" for one in measured),
        ]
    )


def _scores(measured: Sequence[Measured]) -> str:
    head = ["test set", "n", "accuracy", "ECE", "smooth ECE", "noise floor", "Trust", "NLL", "Brier"]
    return table(head, [_score(one) for one in measured])


def _score(one: Measured) -> list[str]:
    return [
        escaped(one.name),
        f"{one.n:,}",
        percent(one.accuracy),
        f"{percent(one.ece)} ({percent(one.interval.low)} to {percent(one.interval.high)})",
        percent(one.smooth_ece),
        f"{percent(one.noise_floor.mean)} ({percent(one.noise_floor.percentile_95)})",
        percent(one.trust),
        f"{one.nll:.3f}",
        f"{one.brier:.3f}",
    ]


def _diagram(drawn: bool) -> str:
    if drawn:
        return f"![Reliability diagram: accuracy by confidence]({DIAGRAM})"
    return (
        "No reliability diagram: there was no Chrome or Chromium to draw it with. Install one (`kaleido_get_chrome` "
        "does), or set BROWSER_PATH to where one is, and export again. The tables below hold its numbers."
    )


def _bins(found: Reliability) -> str:
    rows = [
        (
            f"{100 * low:.3g} to {100 * high:.3g} %",
            f"{count:,}",
            *(("-", "-", "-") if count == 0 else (percent(said), percent(right), f"{100 * (said - right):+.1f}")),
        )
        for low, high, count, said, right in zip(
            found.edges[:-1], found.edges[1:], found.count, found.confidence, found.accuracy, strict=True
        )
    ]
    return table(["confidence", "answers", "mean confidence, %", "accuracy, %", "over-confident by, points"], rows)


# -- what to use it for, and what not ----------------------------------------------------------------------------


def _limits(student: Student, measured: Sequence[Measured]) -> str:
    names = " and ".join(escaped(student.title(test)) for test in dict.fromkeys(test for _, test in student.tests))
    invented = student.experiment.settings.data.source == "microworld"
    return bullets(
        [
            f"It is for questions like those of {names}, in the prompt above. Its confidence means something only "
            "there: at the answer's position, among the question's candidates. Free text of its own was not measured.",
            *(in_plain_words(one) for one in measured),
            *(["Its questions are about an invented town; of the real world it knows nothing."] if invented else []),
            "It cannot say that no candidate is right.",
            "One training with one seed was measured; another would give other numbers.",
            "No licence is stated: those of the base model and of the data hold.",
        ]
    )


# -- whether it is what was trained ------------------------------------------------------------------------------


def _repetition(student: Student, repeats: Sequence[Repeat]) -> str:
    largest, changed = max(one.largest for one in repeats), sum(one.changed for one in repeats)
    allowed = f" (allowed: {TOLERANCE[student.model.dtype]:g})" if student.model.tuning != "qlora" else ""
    intro = (
        "The numbers above are this folder's own: it was loaded with the two lines and asked every test question. No "
        "candidate's probability, in the vocabulary or among the candidates, differs from what the experiment kept of "
        f"its student by more than {largest:.2g}{allowed}; {counted(changed, 'answer')} changed."
    )
    head = ["test set", "accuracy, experiment / folder", "ECE, experiment / folder", "largest difference", "changed"]
    return f"{intro}\n\n{table(head, [_compared(one) for one in repeats])}"


def _compared(one: Repeat) -> list[str]:
    return [
        escaped(one.after.name),
        f"{percent(one.before.accuracy)} / {percent(one.after.accuracy)}",
        f"{percent(one.before.ece)} / {percent(one.after.ece)}",
        f"{one.largest:.2g}",
        f"{one.changed:,} of {one.after.n:,}",
    ]


# -- where it comes from -----------------------------------------------------------------------------------------


def _provenance(student: Student) -> str:
    manifests = student.lineage
    own = next(manifest for manifest in manifests if name_of_stage(manifest) == student.folder.name)
    versions = ", ".join(f"{name} {number}" for name, number in own["versions"].items())
    settings = portable(student.experiment.settings.model_dump(mode="json"))
    code = fenced(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip(), "yaml")
    rows = [(f"`{manifest['stage']}`", f"`{manifest['key']}`", _files(manifest)) for manifest in manifests]
    return "\n\n".join(
        [
            f"Preset {escaped(student.preset)}, seed {student.experiment.seed}; {versions}. Below, each stage that it "
            "was made from or asked in, with the key of its inputs and the first digits of its files' SHA-256; "
            f"`{MANIFEST}` holds them in full.",
            table(["stage", "key", "files"], rows),
            f"<details><summary>All settings</summary>\n\n{code}\n\n</details>",
        ]
    )


def _files(manifest: Manifest) -> str:
    return "<br>".join(f"{escaped(name)} `{digest[:12]}`" for name, digest in manifest["files"].items())
