"""Students: from a method's data to everything its training depends on, and what the student answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.temperature import fit_temperature
from firstlib.experiment import answers, stages, teachers
from firstlib.experiment.coefficients import coefficient
from firstlib.experiment.run import Run
from firstlib.experiment.stages import TargetInputs, TrainingInputs
from firstlib.runtime.errors import UserError
from firstlib.settings.methods import Method
from firstlib.settings.schema import Model, Task
from firstlib.tasks.question import Question


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


def student_inputs(run: Run, name: str, task: Task) -> TrainingInputs:
    """Returns everything that a student's training depends on, each part read once."""
    method = method_of(run, name)
    inputs = teachers.training_inputs(run, "student", task, student_model(run, name), name)
    return replace(inputs, targets=_target_inputs(run, name, task)) if method.distils else inputs


def _target_inputs(run: Run, name: str, task: Task) -> TargetInputs:
    method = method_of(run, name)
    if method.knowledge == "cross-fitted":
        store = teachers.cross_fitted_knowledge(run, task, method.folds)
    else:
        store = teachers.knowledge(run, task)
    return TargetInputs(
        store=store,
        store_hash=teachers.knowledge_hash(run, store),
        map=method.map,
        coefficient=coefficient(run, name, task),
        tail=method.tail,
        student=method.student,
    )


def student(run: Run, name: str, task: Task) -> Path:
    """Returns the folder of a trained student. Methods that train alike share it."""
    inputs, method = student_inputs(run, name, task), method_of(run, name)

    def make(to: Path) -> None:
        run.data.check_same_tokens()
        if method.distils:
            run.data.check_same_encoding(task, "train")
        stages.train(inputs, to)

    return run.stage(f"{_stage_name(method)}-{task}", inputs.content(), make, together=True)


def _stage_name(method: Method) -> str:
    """What a student's folder is called: by what it learns, for methods that differ afterwards share it."""
    return "student-answers" if not method.distils else f"student-{'top-k' if method.map == 'none' else method.map}"


def student_answers(run: Run, name: str, train: Task, test: Task, split: str = "test") -> Predictions:
    """Returns a student's answers to one split, with whatever its method does after training."""
    return _answers(run, name, train, test, split, student_temperature(run, name, train))


def student_temperature(run: Run, name: str, train: Task) -> float:
    """Returns the temperature of the student's logits: 1 unless the method fits one on validation answers."""
    if method_of(run, name).afterwards != "student-temperature":
        return 1.0
    found = _answers(run, name, train, train, "validation", 1.0)
    return fit_temperature(found.shares(), found.answer)


def _answers(run: Run, name: str, train: Task, test: Task, split: str, temperature: float) -> Predictions:
    trained = student(run, name, train)
    inputs = answers.answer_inputs(run, "student", student_model(run, name), trained, test, split, temperature)
    stage = trained.name.rpartition("-")[0]
    return answers.kept_answers(run, f"{stage}-on-{test}-{split}", inputs)


def ask_student(run: Run, name: str, train: Task, questions: Sequence[Question]) -> Predictions:
    """Returns a student's answers to any questions, not kept."""
    trained, temperature = student(run, name, train), student_temperature(run, name, train)
    return answers.ask_any(run, "student", student_model(run, name), trained, questions, temperature)
