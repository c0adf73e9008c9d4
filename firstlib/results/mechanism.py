"""Why a method is as confident as it is: its teacher, its targets and its student, on known and on new questions."""

from dataclasses import dataclass

from firstlib.evaluation.predictions import Predictions
from firstlib.experiment import coefficients, students, teachers
from firstlib.experiment.run import Run
from firstlib.settings.schema import Task


@dataclass(frozen=True)
class Confidence:
    """Mean confidence and accuracy over a set of questions; fractions."""

    confidence: float
    accuracy: float

    @property
    def gap(self) -> float:
        """Confidence minus accuracy: above 0 where the model is over-confident."""
        return self.confidence - self.accuracy


@dataclass(frozen=True)
class Mechanism:
    """One method on its training task. The training questions are known to the models, the others new.

    Attributes:
        coefficient: Of the method's map.
        teacher_train: The teacher on its training questions.
        teacher_validation: The teacher on validation questions, where coefficients are chosen.
        targets_train: The targets that the student learns from.
        targets_validation: The same map on validation questions, as the search sees it.
        student_train: The student on its training questions.
        student_test: The student on test questions.
    """

    method: str
    coefficient: float
    teacher_train: Confidence
    teacher_validation: Confidence
    targets_train: Confidence
    targets_validation: Confidence
    student_train: Confidence
    student_test: Confidence


def mechanism(run: Run, name: str, task: Task) -> Mechanism:
    """Returns a distilled method's confidence from teacher to student, on the task that it is trained on."""
    method = students.method_of(run, name)
    chosen, under = students.coefficient(run, name, task), run.under(run.settings.under(method))
    if run.data.is_several_tokens(task, "train"):  # the store holds the tokens of the right answer only
        teacher = coefficients.target_answers(run, method, task, "train")
    else:
        teacher = teachers.answers_in(under, teachers.knowledge_of(under, method, task), task, "train")
    asked = coefficients.target_answers(run, method, task, "validation")
    stored = run.settings.knowledge.temperatures
    recalibrate = lambda found: coefficients.recalibrated(found, method.map, chosen, stored)  # noqa: E731
    answers = [students.student_answers(run, name, task, task, split) for split in ("train", "test")]
    found = [teacher, asked, recalibrate(teacher), recalibrate(asked), *answers]
    return Mechanism(name, chosen, *map(confidence_of, found))


def confidence_of(found: Predictions) -> Confidence:
    """Returns the mean confidence and the accuracy of a model's answers."""
    return Confidence(float(found.confidence().mean()), float(found.correct().mean()))
