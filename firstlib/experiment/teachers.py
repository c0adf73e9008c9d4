"""Teachers and their knowledge: one teacher for all examples, or folds in which none answers its own examples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from firstlib import knowledge as stores
from firstlib.evaluation.gathering import of_knowledge, of_store
from firstlib.evaluation.predictions import Predictions
from firstlib.experiment import answers, stages
from firstlib.experiment.run import Run
from firstlib.experiment.stages import ExtractionInputs, TrainingInputs
from firstlib.knowledge import KnowledgeStore, Origin, TopK
from firstlib.knowledge.servers.logprobs import open_imported
from firstlib.runtime import distributed
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import content_hash, files_hash, number_from
from firstlib.runtime.sequences import select
from firstlib.settings.limits import LARGEST_SEED
from firstlib.settings.methods import Method
from firstlib.settings.schema import Model, Role, Task
from firstlib.tasks.encoding import Encoded

Examples = Callable[[], Sequence[Encoded]]


def training_inputs(run: Run, role: Role, task: Task, model: Model, stage: str) -> TrainingInputs:
    """Returns the inputs of fine-tuning a model on a task's right answers."""
    training = run.settings.training_of(task)
    rate = training.teacher_learning_rate if role == "teacher" else training.student_learning_rate
    measure = partial(answers.measure_while_training, run=run, role=role, task=task)
    return TrainingInputs(
        model=model,
        base=run.data.base_identity(role),
        training=training,
        learning_rate=rate if model.tuning == "full" else model.lora.learning_rate,
        seed=run.seed,
        threads=run.settings.threads,
        data=run.data.hash(task, "train"),
        examples=partial(run.data.encoded, task, "train", role),
        vocabulary=partial(run.data.vocabulary, role),
        measure=measure if training.eval_steps else None,
        logs=run.folder / "logs" / f"{stage}-{task}" if training.report_to else None,
    )


def teacher(run: Run, task: Task) -> Path:
    """Returns the folder of the teacher fine-tuned on a task.

    Raises:
        UserError: The knowledge is imported, so no teacher is here.
    """
    if run.settings.knowledge.imported:
        raise UserError("knowledge.imported: the teacher is behind a server; its weights are not available here")
    inputs = training_inputs(run, "teacher", task, run.settings.teacher, "teacher")
    return _trained(run, f"teacher-{task}", inputs)


def _trained(run: Run, name: str, inputs: TrainingInputs) -> Path:
    def make(to: Path) -> None:
        run.data.check_same_tokens()
        stages.train(inputs, to)

    return run.stage(name, inputs.content(), make, together=True)


def teacher_answers(run: Run, train: Task, test: Task, split: str = "test") -> Predictions:
    """Returns the answers of the teacher of one task to a split of another, or those that were imported."""
    if run.settings.knowledge.imported:
        key = ("imported answers", test, split, run.settings.knowledge.k)
        return run.data.once(key, lambda: _imported_answers(run, test, split))
    inputs = answers.answer_inputs(run, "teacher", run.settings.teacher, teacher(run, train), test, split)
    return answers.kept_answers(run, f"teacher-{train}-on-{test}-{split}", inputs)


# -- knowledge ---------------------------------------------------------------------------------------------------


def knowledge(run: Run, task: Task, k: int | None = None, split: str = "train") -> KnowledgeStore:
    """Returns the fine-tuned teacher's top k at every response position.

    Raises:
        UserError: The knowledge is imported, and holds another k.
    """
    if run.settings.knowledge.imported:
        return _imported(run, task, split, k)
    trained, examples = teacher(run, task), partial(run.data.encoded, task, split, "teacher")
    origin = _origin(run, trained.name, run.data.hash(task, split), k)
    return _extracted(run, f"knowledge-{task}-{split}-top{origin.k}", trained, origin, examples)


def knowledge_hash(run: Run, store: KnowledgeStore) -> str:
    """Returns what identifies a store: its folder's name, or a hash of its files where it was imported."""
    if run.settings.knowledge.imported:
        return files_hash(map(Path, store.paths))
    return Path(store.path).parent.name


def source_of_knowledge(run: Run, task: Task) -> str:
    """Returns whose knowledge a task's coefficient is chosen for."""
    if run.settings.knowledge.imported:
        return knowledge_hash(run, knowledge(run, task))
    return teacher(run, task).name


def _origin(run: Run, teacher: str, data: str, k: int | None = None) -> Origin:
    kept = run.settings.knowledge
    return Origin(teacher, run.data.base_identity("teacher"), data, k or kept.k, kept.temperatures)


def _extracted(run: Run, name: str, trained: Path, origin: Origin, examples: Examples) -> KnowledgeStore:
    model = run.settings.asked(run.settings.teacher)
    return _store(run, name, ExtractionInputs(
        model, (trained,), origin, run.settings.knowledge, run.data.shared_vocabulary, examples
    ))  # fmt: skip


def _store(run: Run, name: str, inputs: ExtractionInputs) -> KnowledgeStore:
    origin = inputs.origin

    def make(to: Path) -> None:
        run.data.check_same_tokens()
        stages.extract(inputs, to)

    folder = run.stage(name, asdict(origin), make, together=True)
    return run.data.once(("store", folder), lambda: KnowledgeStore(folder, origin))


def knowledge_of(run: Run, method: Method, task: Task) -> KnowledgeStore:
    """Returns the knowledge that a method's student learns from."""
    if method.knowledge == "cross-fitted":
        return cross_fitted_knowledge(run, task, method.folds)
    if method.knowledge == "ensemble":
        return ensemble_knowledge(run, task, method.members)
    return sampled_knowledge(run, task) if method.knowledge == "sampled" else knowledge(run, task)


def sampled_knowledge(run: Run, task: Task) -> KnowledgeStore:
    """Returns tokens drawn from the teacher's distribution at every response position, as many as its k."""
    trained, settings = teacher(run, task), run.settings
    origin = replace(_origin(run, f"{trained.name}, drawn {run.seed}", run.data.hash(task, "train")), temperatures=())
    inputs = ExtractionInputs(
        settings.asked(settings.teacher), (trained,), origin, settings.knowledge, run.data.shared_vocabulary,
        partial(run.data.encoded, task, "train", "teacher"), draws=run.seed,
    )  # fmt: skip
    return _store(run, f"knowledge-{task}-train-drawn{origin.k}", inputs)


# -- ensembles ---------------------------------------------------------------------------------------------------


def ensemble_member(run: Run, task: Task, member: int) -> Path:
    """Returns the folder of one LoRA teacher of an ensemble; each has its own seed."""
    model = run.settings.teacher.model_copy(update={"tuning": "lora"})
    inputs = training_inputs(run, "teacher", task, model, f"teacher-member-{member}")
    seed = number_from(f"member {member} of {run.seed}") % LARGEST_SEED
    return _trained(run, f"teacher-{task}-member-{member}", replace(inputs, seed=seed))


def ensemble_knowledge(run: Run, task: Task, members: int, split: str = "train") -> KnowledgeStore:
    """Returns the top k of the mean distribution of several LoRA teachers."""
    folders = tuple(ensemble_member(run, task, member) for member in range(members))
    name = f"ensemble-{content_hash([folder.name for folder in folders])}"
    origin = replace(_origin(run, name, run.data.hash(task, split)), temperatures=())
    model = run.settings.asked(run.settings.teacher.model_copy(update={"tuning": "lora"}))
    inputs = ExtractionInputs(
        model, folders, origin, run.settings.knowledge, run.data.shared_vocabulary,
        partial(run.data.encoded, task, split, "teacher"),
    )  # fmt: skip
    return _store(run, f"knowledge-{task}-{split}-top{origin.k}-ensemble-{members}", inputs)


# -- cross-fitting -----------------------------------------------------------------------------------------------


def fold_of(example_id: str, folds: int) -> int:
    """Returns the fold that an example belongs to, by its id alone.

    >>> fold_of("q1", 4) == fold_of("q1", 4), 0 <= fold_of("q2", 4) < 4
    (True, True)
    """
    return number_from(f"fold {example_id}") % folds


def fold_teacher(run: Run, task: Task, fold: int, folds: int) -> Path:
    """Returns the folder of a teacher fine-tuned on all examples but those of one fold."""
    inputs = training_inputs(run, "teacher", task, run.settings.teacher, f"teacher-without-fold-{fold}")
    others = partial(_examples_of, run, task, fold, folds, inside=False)
    inputs = replace(inputs, data={"all": inputs.data, "without fold": fold, "folds": folds}, examples=others)
    return _trained(run, f"teacher-{task}-without-fold-{fold}-of-{folds}", inputs)


def _examples_of(run: Run, task: Task, fold: int, folds: int, inside: bool) -> Sequence[Encoded]:
    examples = run.data.encoded(task, "train", "teacher")
    return select(examples, [at for at, one in enumerate(examples) if (fold_of(one.id, folds) == fold) == inside])


def cross_fitted_knowledge(run: Run, task: Task, folds: int) -> KnowledgeStore:
    """Returns knowledge in which each example's top k comes from a teacher that was not trained on it.

    Dao et al. 2021, https://arxiv.org/abs/2104.09732.

    Raises:
        UserError: A fold has no examples.
    """
    filled = {fold_of(example.id, folds) for example in run.data.items(task, "train")}
    if len(filled) < folds:
        raise UserError(f"folds: {task} has too few training examples for {folds} folds; lower it")
    parts = [_knowledge_of_fold(run, task, fold, folds) for fold in range(folds)]
    fold_hash = content_hash([knowledge_hash(run, part) for part in parts])
    origin = _origin(run, f"cross-fitted-{fold_hash}", run.data.hash(task, "train"))

    def make(to: Path) -> None:
        if distributed.rank() == 0:
            stores.write_store(to, _entries(parts), origin)

    folder = run.stage(f"knowledge-{task}-train-top{origin.k}-cross-fitted-{folds}", asdict(origin), make)
    return run.data.once(("store", folder), lambda: KnowledgeStore(folder, origin))


def _knowledge_of_fold(run: Run, task: Task, fold: int, folds: int) -> KnowledgeStore:
    trained = fold_teacher(run, task, fold, folds)
    examples = partial(_examples_of, run, task, fold, folds, inside=True)
    data = f"{run.data.hash(task, 'train')}-fold-{fold}-of-{folds}"
    return _extracted(
        run, f"knowledge-{task}-fold-{fold}-of-{folds}", trained, _origin(run, trained.name, data), examples
    )


def _entries(parts: Sequence[KnowledgeStore]) -> Iterator[TopK]:
    for part in parts:
        yield from part


def fold_teachers_answers(run: Run, task: Task, split: str, folds: int) -> Predictions:
    """Returns the answers of all fold teachers to one split, one teacher after the other."""
    parts = []
    for fold in range(folds):
        trained = fold_teacher(run, task, fold, folds)
        inputs = answers.answer_inputs(run, "teacher", run.settings.teacher, trained, task, split)
        parts.append(answers.kept_answers(run, f"teacher-{task}-fold-{fold}-on-{task}-{split}", inputs))
    return Predictions.joined(parts)


# -- imported knowledge ------------------------------------------------------------------------------------------


def _imported(run: Run, task: Task, split: str, k: int | None) -> KnowledgeStore:
    kept = run.settings.knowledge
    if k not in (None, kept.k):
        raise UserError(
            f"knowledge.imported: the store of {task} holds the top {kept.k}, so the top {k} cannot be shown; import "
            f"again with --k {k} and set knowledge.k, or ask for k = {kept.k}"
        )
    place = run.data.imported(task, split)
    expected = run.data.imported_origin(task, split, kept.k, "any")
    return run.data.once(("imported", place, expected), lambda: open_imported(place, expected))


def _imported_answers(run: Run, task: Task, split: str) -> Predictions:
    return answers_in(run, knowledge(run, task, split=split), task, split)


def answers_in(run: Run, store: KnowledgeStore, task: Task, split: str) -> Predictions:
    """Returns stored knowledge on a split as answers to its questions; in free text, at every position."""
    role = run.data.knowledge_role
    if not run.data.has_candidates(task, split):
        return of_knowledge([(e, store[e.id]) for e in run.data.encoded(task, split, role) if e.id in store])
    return of_store(run.data.questions(task, split), run.data.encoded_questions(task, split, role), store)
