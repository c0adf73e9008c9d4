"""Students: from a method's data to everything its training depends on, and what the student answers."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from firstlib.distillation.search import Search, search_among
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import evaluate
from firstlib.evaluation.temperature import fit_temperature, fit_temperature_to
from firstlib.experiment import answers, coefficients, stages, teachers
from firstlib.experiment.run import Run
from firstlib.experiment.stages import AnswerInputs, TargetInputs, TrainingInputs
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.settings.methods import Method
from firstlib.settings.schema import Model, Task
from firstlib.tasks.encoding import tokens_of
from firstlib.tasks.question import Question

PILOT_COEFFICIENTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
PILOT_TEMPERATURES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
SHARE = "share.json"  # beside averaged weights
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the tuned weights


def method_of(run: Run, name: str) -> Method:
    """Returns a method by name.

    Raises:
        UserError: The settings have no such method.
    """
    known = run.settings.all_methods
    if name not in known:
        raise UserError(f"method: must be one of {', '.join(known)}, not {name!r}")
    return known[name]


def student_model(run: Run, name: str) -> Model:
    """Returns the student's settings, tuned as the method says."""
    return run.settings.student_of(method_of(run, name))


# -- training ----------------------------------------------------------------------------------------------------


def student_inputs(run: Run, name: str, task: Task) -> TrainingInputs:
    """Returns everything that a student's training depends on, each part read once."""
    method = method_of(run, name)
    targets = _target_inputs(run, method, task, coefficient(run, name, task)) if method.distils else None
    return _inputs(run, name, task, targets)


def _inputs(run: Run, name: str, task: Task, targets: TargetInputs | None) -> TrainingInputs:
    inputs = teachers.training_inputs(run, "student", task, student_model(run, name), name)
    return replace(inputs, targets=targets, smoothing=method_of(run, name).smoothing)


def _target_inputs(run: Run, method: Method, task: Task, chosen: float) -> TargetInputs:
    run = run.under(run.settings.under(method))
    store = teachers.knowledge_of(run, method, task)
    return TargetInputs(
        store=store,
        store_hash=teachers.knowledge_hash(run, store),
        map=method.map,
        coefficient=chosen,
        tail=method.tail,
        student=method.student,
        where=method.where,
        answer_positions=lambda: _answer_positions(run, task),
    )


def _answer_positions(run: Run, task: Task) -> dict[str, range]:
    """The positions that name the choice, by example; none in free text."""
    if not run.data.has_candidates(task, "train"):
        return {}
    pairs = run.data.encoded_questions(task, "train", run.data.knowledge_role)
    return {
        one.id: range(len(stem), len(stem) + len(tokens_of(candidates[one.answer])))
        for one, (stem, candidates) in zip(run.data.questions(task, "train"), pairs, strict=True)
    }


def student(run: Run, name: str, task: Task) -> Path:
    """Returns the folder of a method's student: as trained, or with weights between the base model's and its own."""
    trained = _trained(run, method_of(run, name), task, student_inputs(run, name, task))
    return _averaged(run, name, task, trained) if method_of(run, name).afterwards == "base-weights" else trained


def _trained(run: Run, method: Method, task: Task, inputs: TrainingInputs) -> Path:
    """Trains a student, unless it exists. Methods that train alike share it."""

    def make(to: Path) -> None:
        run.data.check_same_tokens()
        if method.distils:
            run.data.check_same_encoding(task, "train")
        stages.train(inputs, to)

    return run.stage(f"{_stage_name(method)}-{task}", inputs.content(), make, together=True)


def _stage_name(method: Method) -> str:
    """What a student's folder is called: by what it learns, for methods that differ afterwards share it."""
    if method.distils:
        return f"student-{'top-k' if method.map == 'none' else method.map}"
    return "student-smoothed-answers" if method.smoothing else "student-answers"


# -- the coefficient by a pilot student --------------------------------------------------------------------------


def coefficient(run: Run, name: str, task: Task) -> float:
    """Returns a method's coefficient: the preset's, else one chosen by hand, else its search's."""
    method = method_of(run, name)
    if method.fixed_coefficient is not None:
        return method.fixed_coefficient
    return coefficients.chosen_by_hand(run, name, task) or search(run, name, task).best


def search(run: Run, name: str, task: Task) -> Search:
    """Returns the search for a method's coefficient: by its targets, or by pilot students.

    Raises:
        UserError: The method has no temperature to search for.
    """
    method = method_of(run, name)
    if method.rule != "student-ece":
        return coefficients.search_for(run, method, task)
    grid = PILOT_COEFFICIENTS if method.map == "temperature" else PILOT_TEMPERATURES
    return search_among(lambda tried: _pilot_ece(run, name, task, tried), grid)


def _pilot_ece(run: Run, name: str, task: Task, tried: float) -> float:
    """The ECE on validation questions of a student trained with this coefficient for one epoch; a fraction."""
    inputs = _inputs(run, name, task, _target_inputs(run, method_of(run, name), task, tried))
    short = replace(inputs, training=inputs.training.model_copy(update={"epochs": 1}))
    trained = _trained(run, method_of(run, name), task, short)
    found = _answers_of(run, name, trained, task, "validation", 1.0)
    return evaluate(found, run.settings.measures).ece


# -- after training ----------------------------------------------------------------------------------------------


def _averaged(run: Run, name: str, task: Task, trained: Path) -> Path:
    """Weights between the base model's and the student's, the share chosen by NLL on validation questions."""
    model, stage = student_model(run, name), trained.name.rpartition("-")[0]
    inputs = answers.answer_inputs(run, "student", model, trained, task, "validation")
    losses = {tried: _nll_at(run, f"{stage}-on-{task}-validation", replace(inputs, share=tried)) for tried in SHARES}
    best = min(losses, key=losses.__getitem__)

    def make(to: Path) -> None:
        stages.load(model, trained, best).save_pretrained(str(to))
        (to / "losses.json").write_bytes((trained / "losses.json").read_bytes())
        write_json(to / SHARE, {"share": best, "nll": {str(tried): loss for tried, loss in losses.items()}})

    content = {**inputs.content(), "base": run.data.base_identity("student"), "shares": list(SHARES)}
    return run.stage(stage.replace("student-", "student-averaged-", 1), content, make)


def _nll_at(run: Run, stage: str, inputs: AnswerInputs) -> float:
    return evaluate(answers.kept_answers(run, stage, inputs), run.settings.measures).nll


def share(run: Run, name: str, task: Task) -> float:
    """Returns the share of its own weights in a student that `base-weights` has averaged with the base model."""
    return float(json.loads((student(run, name, task) / SHARE).read_text(encoding="utf-8"))["share"])


def student_temperature(run: Run, name: str, train: Task, test: Task | None = None) -> float:
    """Returns the temperature of the student's logits: 1 unless the method fits one after training.

    Args:
        run: The run.
        name: The method.
        train: The task it was trained on, whose validation questions a `student-temperature` is fitted on.
        test: The task whose unlabelled validation questions an `agreement-temperature` is fitted on; None: `train`.
    """
    afterwards = method_of(run, name).afterwards
    if afterwards == "student-temperature":
        found = _answers(run, name, train, train, "validation", 1.0)
        return fit_temperature(found.shares(), found.answer)
    if afterwards == "agreement-temperature":
        return _agreement_temperature(run, name, train, test or train)
    return 1.0


def _agreement_temperature(run: Run, name: str, train: Task, test: Task) -> float:
    """The T that brings the student nearest to the base model where both name one answer; 1 where they never do.

    Luo et al. 2025, https://arxiv.org/abs/2505.16690. No label is read. In free text the base model's candidates are
    other tokens, so there the temperature stays 1.
    """
    if not run.data.has_candidates(test, "validation"):
        return 1.0
    tuned = _answers(run, name, train, test, "validation", 1.0)
    base = answers.base_answers(run, "student", test, "validation")
    agree = tuned.predicted() == base.predicted()
    return fit_temperature_to(tuned.shares()[agree], base.shares()[agree]) if agree.any() else 1.0


# -- answers -----------------------------------------------------------------------------------------------------


def student_answers(run: Run, name: str, train: Task, test: Task, split: str = "test") -> Predictions:
    """Returns a student's answers to one split, with whatever its method does after training."""
    return _answers(run, name, train, test, split, student_temperature(run, name, train, test))


def _answers(run: Run, name: str, train: Task, test: Task, split: str, temperature: float) -> Predictions:
    return _answers_of(run, name, student(run, name, train), test, split, temperature)


def _answers_of(run: Run, name: str, trained: Path, test: Task, split: str, temperature: float) -> Predictions:
    inputs = answers.answer_inputs(run, "student", student_model(run, name), trained, test, split, temperature)
    stage = trained.name.rpartition("-")[0]
    return answers.kept_answers(run, f"{stage}-on-{test}-{split}", inputs)


def ask_student(
    run: Run, name: str, train: Task, questions: Sequence[Question], keep: str | None = None
) -> Predictions:
    """Returns a student's answers to any questions; kept in the run under the name `keep`, if given."""
    trained, temperature = student(run, name, train), student_temperature(run, name, train)
    return answers.ask_any(run, "student", student_model(run, name), trained, questions, temperature, keep)
