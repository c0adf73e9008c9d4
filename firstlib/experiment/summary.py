"""What a run reports: the content of `results.json`."""

from dataclasses import asdict
from typing import Any, get_args

from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Row, evaluate
from firstlib.evaluation.truth import against_truth
from firstlib.experiment import answers, coefficients, students, teachers
from firstlib.experiment.run import Run
from firstlib.settings.methods import WITHOUT_COEFFICIENT
from firstlib.settings.schema import CandidateScore, Column, Reading, Task


def predictions(run: Run, name: str, train: Task, test: Task, split: str = "test") -> Predictions:
    """Returns the answers of the teacher or of a method's student."""
    if name == "teacher":
        return teachers.teacher_answers(run, train, test, split)
    return students.student_answers(run, name, train, test, split)


def rows(
    run: Run, reading: Reading | None = None, names: tuple[str, ...] = (), tasks: tuple[Task, ...] = ()
) -> list[Row]:
    """Returns the results table: every method, or those named, on every test set of every column.

    Args:
        run: The run.
        reading: Of confidence; None: the settings'.
        names: Methods; empty: those of the results table.
        tasks: Training tasks; empty: all.
    """
    return [
        _row(run, name, column, test, reading)
        for column in run.settings.columns
        if not tasks or column.train in tasks
        for test in column.test
        for name in names or run.settings.method_names
    ]


def _row(run: Run, name: str, column: Column, test: Task, reading: Reading | None) -> Row:
    found = predictions(run, name, column.train, test)
    return Row(name, column.setting, test, evaluate(found, run.settings.measures, reading), against_truth(found))


def measured(run: Run, preset: str) -> dict[str, Any]:
    """Returns everything that a run reports."""
    tasks, tuned = run.settings.training_tasks, run.settings.recalibrated
    return {
        "preset": preset,
        "seed": run.seed,
        "coefficients": {task: students.coefficient(run, tuned, task) for task in tasks} if tuned else {},
        "methods": {name: made(run, name) for name in run.settings.methods},
        "chosen_by_hand": coefficients.all_chosen(run),
        "rows": [row.flat() for row in rows(run)],
        "rows_by_vocabulary": [row.flat() for row in rows(run, "vocabulary")],
        "base": _base_rows(run),
        "coverage": {task: _coverage(run, task) for task in tasks},
        "unusable": {task: _unusable(run, task) for task in run.settings.all_tasks},
        **_files(run),
        **_by_score(run),
    }


def _by_score(run: Run) -> dict[str, Any]:
    """The table under every score of candidates, where they are texts."""
    if run.settings.data.candidates == "letters":
        return {}
    return {"rows_by_candidate_score": {score: _scored_rows(run, score) for score in get_args(CandidateScore)}}


def _scored_rows(run: Run, score: CandidateScore) -> list[dict[str, Any]]:
    return [
        Row(name, column.setting, test, evaluate(found, run.settings.measures), against_truth(found)).flat()
        for column in run.settings.columns
        for test in column.test
        for name in run.settings.method_names
        for found in [predictions(run, name, column.train, test).scored(score)]
    ]


def _unusable(run: Run, task: Task) -> dict[str, dict[str, str]]:
    """Why each row that was left out was, by split and id."""
    found = {split: dict(rows) for split, rows in run.data.source.unusable(task).items()}
    for split in ("validation", "test"):
        if missing := run.data.unanswered(task, split):
            found.setdefault(split, {}).update(dict.fromkeys(missing, "the imported teacher has no answer"))
    return found


def _files(run: Run) -> dict[str, Any]:
    """File -> split -> number of rows, of every task that is read from files or the hub."""
    read = run.settings.tasks_read
    return {"files": {task: run.data.source.files(task) for task in read}} if read else {}


def made(run: Run, name: str) -> dict[str, Any]:
    """Returns a method's settings, and what was chosen for it on each task."""
    method, tasks = run.settings.all_methods[name], run.settings.training_tasks
    content: dict[str, Any] = {"settings": method.as_written()}
    if method.map not in WITHOUT_COEFFICIENT:
        content["coefficients"] = {task: students.coefficient(run, name, task) for task in tasks}
    if method.afterwards == "base-weights":
        content["shares"] = {task: students.share(run, name, task) for task in tasks}
    elif method.afterwards == "agreement-temperature":
        content["temperatures"] = {task: temperatures(run, name, task) for task in tasks}
    elif method.afterwards:
        content["temperatures"] = {task: students.student_temperature(run, name, task) for task in tasks}
    return content


def temperatures(run: Run, name: str, train: Task) -> dict[Task, float]:
    """Returns the temperature of a student's logits on each test set of the columns that train on its task."""
    tests = dict.fromkeys(test for column in run.settings.columns if column.train == train for test in column.test)
    return {test: students.student_temperature(run, name, train, test) for test in tests}


def _base_rows(run: Run) -> list[dict[str, Any]]:
    tests = dict.fromkeys(test for column in run.settings.columns for test in column.test)
    return [
        {"role": role, "dataset": test, **_base_scores(run, role, test)} for role in run.data.roles() for test in tests
    ]


def _base_scores(run: Run, role: Any, test: Task) -> dict[str, float]:
    found = evaluate(answers.base_answers(run, role, test), run.settings.measures, "candidates")
    return {name: value for name, value in asdict(found).items() if name != "n"}


def _coverage(run: Run, task: Task) -> dict[str, float]:
    probabilities = teachers.knowledge(run, task).all_probabilities()
    return {f"top-{k}": float(probabilities[:, :k].sum(axis=1).mean()) for k in (1, probabilities.shape[1])}
