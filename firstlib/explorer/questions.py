"""Single questions put to all models: one test question, questions without a right choice, and a reader's own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from firstlib.experiment import Experiment
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Task
from firstlib.tasks.chat import in_chat
from firstlib.tasks.prompts import ANSWER_LEAD, multiple_choice
from firstlib.tasks.question import Question, without_right_choice


@dataclass(frozen=True)
class Case:
    """One question, and each model's share `(C,)` for every choice."""

    question: Question
    shares: dict[str, np.ndarray]


def case(experiment: Experiment, task: Task, number: int = 0) -> Case:
    """Returns the case study on one of the task's test questions."""
    question = experiment.questions(task)[number]
    found = {name: experiment.predictions(name, task, task).shares()[number] for name in experiment.methods}
    return Case(question, found)


def questions_without_right_choice(experiment: Experiment, task: Task, count: int = 200) -> list[Question]:
    """Returns test questions whose choices are replaced by words that answer something else."""
    rng, source = np.random.default_rng(experiment.seed), experiment.run.data.source
    return [
        without_right_choice(question, source.foreign_choices(task, question), rng)
        for question in experiment.questions(task)[:count]
    ]


def shares(
    experiment: Experiment, task: Task, questions: Sequence[Question], keep: str | None = None
) -> dict[str, np.ndarray]:
    """Returns the shares `(N, C)` of every model that was trained on a task, on any questions; kept as `ask` does."""
    return {name: experiment.ask(name, task, questions, keep).shares() for name in experiment.methods}


@dataclass(frozen=True)
class LetteredTask:
    """A task with lettered choices, and the training task whose models are asked about it."""

    train: Task
    test: Task


def lettered_task(experiment: Experiment) -> LetteredTask | None:
    """Returns the first test set with lettered choices, in the order of the preset's columns; None: there is none."""
    for column in experiment.settings.columns:
        for test in column.test:
            if experiment.run.data.has_candidates(test) and _is_lettered(experiment.questions(test)[0]):
                return LetteredTask(column.train, test)
    return None


def _is_lettered(question: Question) -> bool:
    return question.lead.strip() == ANSWER_LEAD.strip()


def own_question(like: Question, text: str, choices: Sequence[str]) -> Question:
    """Returns a reader's own multiple-choice question, in the form of another.

    Which choice is right is not known: the answer's index is 0 and means nothing.

    Raises:
        UserError: The text is empty; there are fewer than two choices, too many, or two that read the same.
    """
    words, most = [choice.strip() for choice in choices if choice.strip()], len(like.candidates)
    if not text.strip() or not 2 <= len(words) <= most or len(set(words)) < len(words):
        raise UserError(f"question: give a text and 2 to {most} different choices, not {text!r} with {words}")
    prompt = multiple_choice(text.strip(), words, upper=like.candidates[0].isupper())
    candidates = like.candidates[: len(words)]
    return replace(like, id="own", prompt=prompt, candidates=candidates, answer=0, choices=tuple(words), posterior=None)


def ask_all(experiment: Experiment, text: str, choices: Sequence[str]) -> Case:
    """Asks every model a reader's own question.

    Raises:
        UserError: As `own_question`; no task has lettered choices; a word is not in the models' vocabulary.
    """
    task = lettered_task(experiment)
    if task is None:
        raise UserError("question: no task of this preset has lettered choices, so you cannot ask your own")
    question = own_question(experiment.questions(task.test)[0], text, choices)
    _check_words(experiment, question)
    if experiment.settings.data.chat_template:
        prompt = in_chat(experiment.tokenizer("student"), question, experiment.settings.data.chat_variables)
        question = replace(question, prompt=prompt.prompt, lead=question.lead.lstrip())
    found = shares(experiment, task.train, [question])
    return Case(question, {name: of[0] for name, of in found.items()})


def _check_words(experiment: Experiment, question: Question) -> None:
    """The microworld's models know a few thousand words; an unknown one would be asked as `<unk>`."""
    tokenizer = experiment.tokenizer("student")
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return
    ids = tokenizer(question.prompt, return_offsets_mapping=True)
    pairs = zip(ids["input_ids"], ids["offset_mapping"], strict=True)
    lost = [question.prompt[begin:end] for token, (begin, end) in pairs if token == unknown]
    if lost:
        words = ", ".join(repr(word.strip()) for word in dict.fromkeys(lost))
        raise UserError(f"question: these models do not know {words}; use words of the training questions")
