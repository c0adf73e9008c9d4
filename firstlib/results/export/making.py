"""The card's section on how a student was made, in words computed from its method's data."""

from pathlib import Path

import numpy as np

from firstlib.distillation.recalibration import UNCERTAIN, Map
from firstlib.experiment import coefficients, students, teachers
from firstlib.knowledge import KnowledgeStore
from firstlib.models.places import base_location, quantisation
from firstlib.results.export.markdown import counted, escaped, percent
from firstlib.results.export.student import ExportedStudent
from firstlib.results.rules import Rule, rule_of
from firstlib.settings.methods import WITHOUT_COEFFICIENT, Method
from firstlib.settings.schema import Model

ADAPTER = "adapter"
SHORT = {
    Map.NONE: "distilled from a teacher's most probable tokens",
    Map.STORED: "distilled from a teacher's most probable tokens",
    Map.LABEL_SMOOTHING: "distilled with label smoothing",
    Map.TEMPERATURE: "distilled by FIRST, from recalibrated probabilities,",
    Map.LOGIT_TEMPERATURE: "distilled from probabilities under a logit temperature",
    Map.EXACT_TEMPERATURE: "distilled from probabilities under an exact logit temperature",
}
MAPS = {
    Map.NONE: "as stored, renormalised (direct distillation)",
    Map.STORED: "as stored, with the probability outside them",
    Map.LABEL_SMOOTHING: "with d = {:g} moved from the first token to the others (Eq. 3)",
    Map.TEMPERATURE: "recalibrated: q ~ exp(p / c) with c = {:g} (Eq. 4)",
    Map.LOGIT_TEMPERATURE: "recalibrated within the stored tokens: q ~ p^(1/T) with T = {:g}",
    Map.EXACT_TEMPERATURE: "recalibrated over the whole vocabulary: q ~ p^(1/T) with T = {:g}",
}
TAILS = {
    "drop": "is left out, as in the paper",
    "renormalise": "is divided among these tokens",
    "ghost": "is one more bucket, matched with the student's probability outside them",
    "smooth": "is spread evenly over the other tokens",
    "gold": "goes to the right token",
}
SOFTMAXES = {"full": "the whole vocabulary", "renormalised": "these tokens alone"}
WHERE = {
    "answers": "It applies to the token that names the choice; the other positions keep the stored probabilities.",
    "uncertain": f"It applies where the teacher's entropy is over {UNCERTAIN:g} nats; the other positions keep the "
    "stored probabilities.",
}


def in_short(student: ExportedStudent) -> str:
    """Returns how the student was trained, as part of a sentence."""
    return SHORT[Map(student.method.map)] if student.method.distils else "fine-tuned"


def how_it_was_made(student: ExportedStudent) -> str:
    """Returns a paragraph for each of: student, teacher, targets, loss, and what happens after training."""
    paragraphs = [_student(student)]
    if student.method.distils:
        paragraphs += [_teacher(student), _targets(student), _loss(student)]
    else:
        paragraphs.append("**Targets.** The right answers alone, without a teacher.")
    if student.method.afterwards:
        paragraphs.append(_afterwards(student))
    return "\n\n".join(paragraphs)


def _student(student: ExportedStudent) -> str:
    count = len(student.experiment.run.data.items(student.task, "train"))
    epochs = student.settings.training_of(student.task).epochs
    return (
        f"**Student.** {base_name(student.model)}, trained on {counted(count, 'example')} of "
        f"{escaped(student.title(student.task))} for {counted(epochs, 'epoch')}. {_tuning(student.model)}"
    )


def is_folder(model: Model) -> bool:
    """Whether a base model is a local folder rather than one of the hub's."""
    return Path(base_location(model)).is_dir()


def base_name(model: Model) -> str:
    """Returns the name of a base model, without the folder's path; of a GGUF file, the types of its weights, too."""
    if not is_folder(model):
        return f"*{escaped(model.base)}*"
    kind = "a GGUF file" if model.base.endswith(".gguf") else "a local folder"
    types = [name for name in quantisation(model) if name != "F32"]
    read = f", whose weights were stored as {escaped(', '.join(types))}" if types else ""
    return f"*{escaped(Path(model.base).name)}* ({kind}{read})"


def _tuning(model: Model) -> str:
    if model.tuning == "full":
        return f"All weights were tuned, and are stored in {model.dtype}."
    adapter = f"adapter (rank {model.lora.rank}, alpha {model.lora.alpha}; in `{ADAPTER}/`)"
    if model.tuning == "lora":
        return f"A LoRA {adapter} was tuned and merged into the base model's weights, in {model.dtype}."
    return (
        f"A QLoRA {adapter} was tuned on 4-bit NF4 weights. This folder merges it into the *unquantised* weights, in "
        f"{model.dtype}, so its answers differ from those of the quantised student: see below."
    )


# -- the teacher -------------------------------------------------------------------------------------------------


def _teacher(student: ExportedStudent) -> str:
    store = _store(student)
    mass = percent(float(store.all_probabilities().sum(axis=1).mean()))
    return (
        f"**Teacher.** {_who(student, store)}. Its k = {store.origin.k} {_stored(student.method)} were stored "
        f"at {counted(store.positions, 'response position')}; they hold {mass} % of its probability on average."
    )


def _store(student: ExportedStudent) -> KnowledgeStore:
    run, method = student.experiment.run, student.method
    return teachers.knowledge_of(run.under(run.settings.under(method)), method, student.task)


def _stored(method: Method) -> str:
    return "tokens drawn from its distribution" if method.knowledge == "sampled" else "most probable tokens"


def _who(student: ExportedStudent, store: KnowledgeStore) -> str:
    settings, method = student.settings.under(student.method), student.method
    base = base_name(settings.teacher)
    if student.settings.knowledge.imported:
        return f"*{escaped(store.origin.teacher)}*, whose log-probabilities were imported"
    if method.knowledge == "cross-fitted":
        return (
            f"{base}, fine-tuned {method.folds} times, each time without one of {method.folds} parts of the same "
            "examples; each example was answered by the teacher that had not seen it"
        )
    if method.knowledge == "ensemble":
        return f"the mean of {method.members} models, {base} fine-tuned by LoRA with as many seeds on the same examples"
    return f"{base}, fine-tuned on the same examples"


# -- targets and loss --------------------------------------------------------------------------------------------


def _targets(student: ExportedStudent) -> str:
    kind = Map(student.method.map)
    coefficient = student.experiment.coefficient(student.task, student.name)
    parts = [
        f"**Targets.** The teacher's probabilities, {MAPS[kind].format(coefficient)}.",
        f"The map is *{kind}*.",
        *([_choice(student, coefficient)] if kind not in WITHOUT_COEFFICIENT else []),
        *([WHERE[student.method.where]] if student.method.where != "everywhere" else []),
    ]
    return " ".join(parts)


def _choice(student: ExportedStudent, coefficient: float) -> str:
    """How the coefficient was chosen."""
    run, method = student.experiment.run, student.method
    if method.fixed_coefficient is not None:
        return "The preset gives the coefficient."
    if coefficients.chosen_by_hand(run, student.name, student.task):
        return "The coefficient was chosen by hand."
    search = student.experiment.search(student.task, student.name)
    tried = np.concatenate([search.coarse, search.fine])
    rule = rule_of(method.rule)
    count = counted(len(coefficients.answers_to_fit(run, method, student.task)), f"{rule.split} answer")
    edge = " It lies at the end of the range that was tried; a wider one might do better." if search.at_the_edge else ""
    lowest, highest = (_score(rule, value) for value in (tried[:, 1].min(), tried[:, 1].max()))
    return (
        f"Of {len(np.unique(tried[:, 0]))} coefficients, {coefficient:g} gave {rule.of} the lowest {rule.measure} on "
        f"{count}, {lowest}; the worst gave {highest}.{edge}"
    )


def _score(rule: Rule, value: float) -> str:
    return f"{value:.4f} nats" if rule.in_nats else f"{percent(value)} %"


def _loss(student: ExportedStudent) -> str:
    method = student.method
    return (
        "**Loss.** Knowledge matching (Eq. 5), without hard labels. The student's probabilities are taken over "
        f"{SOFTMAXES[method.student]}; probability outside the stored tokens {TAILS[method.tail]} (*{method.tail}*)."
    )


def _afterwards(student: ExportedStudent) -> str:
    if student.method.afterwards == "base-weights":
        share = students.share(student.experiment.run, student.name, student.task)
        return (
            f"**After training.** The weights in this folder are the base model's, moved {percent(share)} % of the way "
            "to the trained ones; the share has the lowest negative log-likelihood on validation questions."
        )
    if student.method.afterwards == "agreement-temperature":
        return (
            f"**After training.** The student's logits are divided by {divided_by(student)}, which brings them "
            "nearest to the base model's on unlabelled questions to which both give one answer (Luo et al. 2025). "
            "The weights in this folder do not contain T: divide the logits as shown below."
        )
    return (
        f"**After training.** The student's logits are divided by {divided_by(student)}, which minimises the "
        "negative log-likelihood of its answers to validation questions (Guo et al. 2017). The weights in this folder "
        "do not contain T: divide the logits as shown below."
    )


def divided_by(student: ExportedStudent) -> str:
    """Returns the temperature of a student's logits in words; one for each test set, where its method fits so many."""
    found = student.temperatures
    if student.method.afterwards != "agreement-temperature":
        return f"T = {next(iter(found.values())):g}"
    return " and ".join(f"T = {one:g} for {escaped(student.title(test))}" for test, one in found.items())
