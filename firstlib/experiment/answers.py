"""Models' answers: to one split of a task, kept in the run; or to any questions, kept under a name or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from firstlib.evaluation.gathering import AT_ONCE, Asking, with_characters
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import evaluate
from firstlib.experiment import stages
from firstlib.experiment.run import Run
from firstlib.experiment.stages import AnswerInputs
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import stream_hash
from firstlib.runtime.threads import cpu_threads
from firstlib.settings.schema import Model, Role, Task
from firstlib.tasks.encoding import encode_questions
from firstlib.tasks.question import Question

if TYPE_CHECKING:  # torch takes seconds to import, and a finished run needs none of it
    from firstlib.models.heads import LanguageModel


def answer_inputs(
    run: Run, role: Role, model: Model, trained: Path | None, task: Task, split: str, temperature: float = 1.0
) -> AnswerInputs:
    """Returns the inputs of asking a model one split of a task; without a trained folder, the base model."""
    data, candidates = run.data, run.data.has_candidates(task, split)
    return AnswerInputs(
        model=run.settings.asked(model),
        trained=trained,
        identity=trained.name if trained else data.base_identity(role),
        data=data.hash(task, split),
        tokenizer=partial(data.tokenizer, role),
        questions=data.questions(task, split) if candidates else (),
        encoded=partial(data.encoded_questions if candidates else data.encoded, task, split, role),
        vocabulary=partial(data.vocabulary, role),
        asking=asking(run, candidates, temperature),
    )


def asking(run: Run, candidates: bool = True, temperature: float = 1.0) -> Asking:
    """Returns how a run asks a model: questions take fewer logits than free text, so more fit into one pass."""
    kept = run.settings.knowledge
    return Asking(
        k=kept.k,
        batch_size=kept.batch_size * (AT_ONCE if candidates else 1),
        temperature=temperature,
        normalisers=kept.temperatures,
        score=run.settings.measures.candidate_score,
    )


def asking_any(run: Run, role: Role, temperature: float = 1.0) -> Asking:
    """Returns how a run asks teacher or student questions that it does not keep."""
    return replace(asking(run, temperature=temperature), vocabulary=run.data.vocabulary(role))


def kept_answers(run: Run, name: str, inputs: AnswerInputs) -> Predictions:
    """Returns a model's answers, asking it if the run does not hold them yet."""
    folder = run.stage(f"predictions-{name}", inputs.content(), lambda to: stages.answer(inputs).save(to))
    score = inputs.asking.score

    def load() -> Predictions:
        return with_characters(Predictions.load(folder), inputs.questions).scored(score)

    return run.data.once(("predictions", folder, score), load)


def base_answers(run: Run, role: Role, test: Task, split: str = "test") -> Predictions:
    """Returns a base model's answers, before any fine-tuning."""
    inputs = answer_inputs(run, role, run.data.model(role), None, test, split)
    return kept_answers(run, f"base-{role}-on-{test}-{split}", inputs)


def ask_any(
    run: Run,
    role: Role,
    model: Model,
    trained: Path,
    questions: Sequence[Question],
    temperature: float = 1.0,
    keep: str | None = None,
) -> Predictions:
    """Returns a trained model's answers to any questions; kept in the run under the name `keep`, if given.

    Raises:
        UserError: There are no questions.
    """
    if not questions:
        raise UserError("no questions to ask: the list is empty")
    inputs = AnswerInputs(
        model=run.settings.asked(model),
        trained=trained,
        identity=trained.name,
        data=stream_hash(map(vars, questions)),
        tokenizer=partial(run.data.tokenizer, role),
        questions=questions,
        encoded=lambda: encode_questions(run.data.tokenizer(role), questions),
        vocabulary=partial(run.data.vocabulary, role),
        asking=asking(run, temperature=temperature),
    )
    if keep:
        return kept_answers(run, f"{trained.name.rpartition('-')[0]}-on-{keep}", inputs)
    with cpu_threads(run.settings.threads):
        return stages.answer(inputs)


def measure_while_training(model: "LanguageModel", run: Run, role: Role, task: Task) -> dict[str, float]:
    """Returns accuracy, ECE and Trust on validation questions during training."""
    inputs = answer_inputs(run, role, run.data.model(role), None, task, "validation")
    found = evaluate(stages.answer_with(model, inputs), run.settings.measures)
    return {"accuracy": found.accuracy, "ece": found.ece, "trust": found.trust}
