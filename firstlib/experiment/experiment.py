"""The one thing a notebook needs: a preset and a seed, and from there every stage of the paper by name.

Each stage is computed when it is first asked for and kept under the hash of all that went into it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from firstlib import knowledge
from firstlib.distillation import recalibration
from firstlib.distillation.recalibration import Map, Search
from firstlib.evaluation import asking
from firstlib.evaluation.predictions import Predictions, Reading
from firstlib.evaluation.scores import Row, scores
from firstlib.knowledge import KnowledgeStore, Origin, TopK
from firstlib.knowledge.servers.logprobs import open_imported
from firstlib.knowledge.servers.vllm_engine import extract_with_vllm
from firstlib.metrics import ece
from firstlib.models import loading
from firstlib.models.loading import LanguageModel
from firstlib.runtime import artefacts, distributed, hashing, paths
from firstlib.runtime.artefacts import Artefacts
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.hashing import stream_hash
from firstlib.runtime.paths import CHOSEN
from firstlib.runtime.sequences import select
from firstlib.settings.loading import change_settings, load_preset
from firstlib.settings.schema import LARGEST_SEED, METHODS, STAGES, STUDENT_METHODS, Method, Model, Settings, Task
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode_on_disk, encode_questions
from firstlib.tasks.question import Item, Question
from firstlib.tasks.source import Source

if TYPE_CHECKING:  # imported where something is trained: the Trainer takes four seconds to import
    from firstlib.distillation.training import Lessons

Role = Literal["teacher", "student"]

# What a folder holds may change its meaning between versions of the library: then its number goes up.
FORMATS = {"tuned": 2, "predictions": 1, "knowledge": knowledge.FORMAT}

# Settings of training that do not decide what is learnt, only how a batch is divided and what is watched.
_MEANS = {"micro_batch_size", "gradient_checkpointing", "eval_steps", "report_to", "checkpoint_minutes"}
_RATES = {"teacher_learning_rate", "student_learning_rate"}


class Experiment:
    """A preset under one seed. `experiment.results()` computes the paper's table; all else can be asked by name."""

    def __init__(
        self,
        preset: str = "microworld",
        seed: int = 0,
        run_folder: str = "runs",
        overrides: Iterable[str] = (),
    ) -> None:
        """Opens an experiment; nothing is computed yet.

        Raises:
            UserError: A parameter has the wrong type or the preset does not exist.
        """
        for name, value, kind in (
            ("preset", preset, str),
            ("seed", seed, int),
            ("run_folder", run_folder, str),
        ):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{name}: must be {_KINDS[kind]}, not {value!r}")
        if not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"seed: must be from 0 to {LARGEST_SEED}, not {seed}")
        overrides = _texts(overrides)
        self.preset, self.seed = preset, seed
        self.settings: Settings = load_preset(preset, overrides)
        self.folder = paths.run_folder(run_folder, preset, seed, overrides)
        self.artefacts = Artefacts(self.folder)
        self.source = Source(self.settings, seed, self.tokenizer, self._context)
        self._loaded: dict[Any, Any] = {}
        self._changed = False
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)

    def __repr__(self) -> str:
        return f"Experiment(preset={self.preset!r}, seed={self.seed})"

    def seal(self) -> None:
        """From now on nothing is made: a stage that is missing is an error."""
        self.artefacts = replace(self.artefacts, sealed=True)

    def change(self, **changes: Any) -> "Experiment":
        """The same experiment with some settings changed, for example `distillation__student="renormalised"`.

        It shares the run's folder: what the change does not touch is not computed again.
        """
        other = object.__new__(Experiment)
        other.__dict__.update(self.__dict__)
        other.settings = change_settings(self.settings, **changes)
        other._loaded, other._changed = {}, True
        if any(getattr(other.settings, part) != getattr(self.settings, part) for part in ("data", "sizes", "columns")):
            other.source = Source(other.settings, self.seed, other.tokenizer, other._context)
        return other

    # -- questions ---------------------------------------------------------------------------------------------

    @property
    def world(self) -> microworld.World:
        """The microworld, with its truth."""
        return self.source.world

    def items(self, task: Task, split: str = "test") -> Sequence[Item]:
        """What one task and split holds: questions, or plain examples where answers are free text."""
        return self.source.items(task, split)

    def questions(self, task: Task, split: str = "test") -> list[Question]:
        """The questions of one task and split: `train`, `validation` or `test`.

        Raises:
            UserError: The task's answers are free text.
        """
        found = [item for item in self.items(task, split) if isinstance(item, Question)]
        if not found:
            raise UserError(f"{task}: its answers are free text, so it has no questions with candidates")
        return found

    def asks(self, task: Task, split: str = "test") -> bool:
        """Whether the task's items are questions with candidates, and not free text."""
        return isinstance(self.items(task, split)[0], Question)

    def describe(self, role: Role) -> str:
        """Teacher or student in a line: base, size, tuning, type, device."""
        return f"{role} {loading.description(self._model(role))}"

    def training_tasks(self) -> list[Task]:
        """Every task that a model is trained on."""
        return list(dict.fromkeys(column.train for column in self.settings.columns))

    def all_tasks(self) -> list[Task]:
        """Every task that a model is trained or tested on."""
        tests = [test for column in self.settings.columns for test in column.test]
        return list(dict.fromkeys([*self.training_tasks(), *tests]))

    @property
    def main(self) -> Task:
        """The task that notebooks look at closely: the first column's."""
        return self.settings.columns[0].train

    # -- the teacher -------------------------------------------------------------------------------------------

    def teacher(self, task: Task) -> Path:
        """Stage 1, the teacher fine-tuned on the task: the folder of its weights.

        Raises:
            UserError: The knowledge is imported, so there is no teacher here.
        """
        if self.settings.knowledge.imported:
            raise UserError("knowledge.imported: the teacher is behind an interface; there are no weights of it here")
        return self._tuned("teacher", "teacher", task, {})

    def knowledge(self, task: Task, k: int | None = None, split: str = "train") -> KnowledgeStore:
        """Stage 2, the fine-tuned teacher's top-k at every response position."""
        k = k or self.settings.knowledge.k
        self._check_tokens()
        if self.settings.knowledge.imported:
            return self._once(("imported", task, split), lambda: self._imported(task, split))
        origin = Origin(
            teacher=self.teacher(task).name,
            tokenizer=self._identity("teacher"),
            data=self._data_key(task, split),
            k=k,
            temperatures=self.settings.knowledge.temperatures,
        )
        folder = self.artefacts.get(
            f"knowledge-{task}-{split}-top{k}",
            asdict(origin),
            lambda to: self._extract(task, split, k, origin, to),
            together=True,
        )
        return self._once(("store", folder), lambda: KnowledgeStore(folder, origin))

    def answer_probabilities(self, task: Task, k: int = 100) -> np.ndarray:
        """The teacher's top-k on the training set at answer positions alone, `(N, k)`; in free text that is all."""
        store = self.knowledge(task, k)
        if not self.asks(task, "train"):
            return store.all_probabilities()
        stems = encode_questions(self.tokenizer("teacher"), self.questions(task, "train"))
        rows = [(e, len(stem)) for e, (stem, _) in zip(self.encoded(task, "train", "teacher"), stems, strict=True)]
        return np.stack([store[e.id].probabilities[at - e.start] for e, at in rows])

    def search(self, task: Task) -> Search:
        """Stage 3, the two-step search for the coefficient with the lowest validation ECE."""
        kind = Map(self.settings.recalibration.first_map)
        return self._once(
            ("search", task, kind),
            lambda: recalibration.search(
                lambda c: self.target_ece(task, "validation", kind, c), recalibration.GRIDS[kind]
            ),
        )

    def coefficient(self, task: Task) -> float:
        """The coefficient that FIRST distils with: the settings' own, else one chosen by hand, else the search's."""
        return self.settings.recalibration.coefficient or self._by_hand(task) or self.search(task).best

    def _by_hand(self, task: Task) -> float | None:
        kept = self.chosen().get(task, {}).get(self.settings.recalibration.first_map)
        if kept and kept["knowledge"] != self._source_of_knowledge(task):
            raise UserError(
                f"{self.folder / CHOSEN}: {kept['coefficient']:g} was chosen for {task} with {kept['knowledge']}, and "
                f"the settings now give {self._source_of_knowledge(task)}; choose again in notebook 04, or remove it"
            )
        return kept and kept["coefficient"]

    def _source_of_knowledge(self, task: Task) -> str:
        return self._knowledge_key(task) if self.settings.knowledge.imported else self.teacher(task).name

    def choose(self, task: Task, coefficient: float | None) -> None:
        """Distils with this coefficient from now on, in this run; None: with the search's again. It is kept in the run.

        Raises:
            UserError: The coefficient is not positive, or the task is not trained on.
        """
        if task not in self.training_tasks() or (coefficient is not None and not coefficient > 0):
            raise UserError(f"coefficient of {task}: must be above 0, for a task trained on, not {coefficient!r}")
        kept = self.chosen()
        choice = coefficient and {"coefficient": coefficient, "knowledge": self._source_of_knowledge(task)}
        kept[task] = {**kept.get(task, {}), self.settings.recalibration.first_map: choice}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / CHOSEN, kept)

    def chosen(self) -> dict[str, dict[str, Any]]:
        """Coefficients chosen by hand, by task and map, each with the teacher whose knowledge it was chosen for."""
        path = self.folder / CHOSEN
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise UserError(f"{path}: is damaged; remove it, and choose again in notebook 04") from error

    def target_ece(self, task: Task, split: str, kind: Map | str, coefficient: float) -> float:
        """ECE of the teacher's recalibrated targets: what a student that matched them exactly would show."""
        return ece(*self.target_outcomes(task, split, kind, coefficient), bins=self.settings.measures.bins)

    def target_outcomes(
        self, task: Task, split: str, kind: Map | str, coefficient: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Confidence and correctness `(N,)` of the teacher's recalibrated targets on its own task."""
        before = self.predictions("teacher", task, task, split)
        after = before.under(recalibration.recalibrate(before.top_probabilities, kind, coefficient))
        return after.confidence(self.settings.measures.confidence), after.correct()

    # -- the student -------------------------------------------------------------------------------------------

    def student(self, method: Method, task: Task) -> Path:
        """Stage 4, a student trained by one of the four methods: the folder of its weights."""
        if method not in STUDENT_METHODS:
            raise UserError(f"method: must be one of {', '.join(STUDENT_METHODS)}, not {method!r}")
        lesson = {} if method == "fine-tune" else self._lesson_inputs(method, task)
        return self._tuned(method, "student", task, lesson)

    def stage(self, name: str, task: str) -> Path:
        """One costly stage by name: the folder of `teacher`, `knowledge`, or of a method's student.

        Raises:
            UserError: There is no such stage, or the task is not trained on.
        """
        if name not in STAGES or task not in self.training_tasks():
            stages, tasks = ", ".join(STAGES), ", ".join(self.training_tasks())
            raise UserError(f"stage {name} {task}: the stages are {stages}; the tasks are {tasks}")
        if name == "knowledge":
            return Path(self.knowledge(task).path).parent
        return self._trained(cast(Method, name), task)[1]

    def targets(self, method: Method, task: Task) -> tuple[Map, float]:
        """The map from the teacher's probabilities to a method's targets, and its coefficient."""
        settings = self.settings.recalibration
        if method == "distill":
            return Map.NONE, 0.0
        if method == "label-smoothing":
            return Map.LABEL_SMOOTHING, settings.label_smoothing
        return Map(settings.first_map), self.coefficient(task)

    # -- answers -----------------------------------------------------------------------------------------------

    def predictions(self, method: Method, train: Task, test: Task, split: str = "test") -> Predictions:
        """A trained model's answers to the questions of `test`."""
        if method == "teacher" and self.settings.knowledge.imported:
            return self._once(("imported", test, split, "answers"), lambda: self._imported_answers(test, split))
        role, trained = self._trained(method, train)
        return self._predicted(f"{method}-{train}", role, test, split, {"model": trained.name}, trained)

    def base_predictions(self, role: Role, test: Task, split: str = "test") -> Predictions:
        """A base model's answers, before any fine-tuning."""
        identity = self._identity(role)
        return self._predicted(f"{role}-base", role, test, split, {"model": identity}, None)

    def rows(self, reading: Reading | None = None) -> list[Row]:
        """The results table: every method on every test set of every column."""
        return [
            self._row(method, column.setting, column.train, test, reading)
            for column in self.settings.columns
            for test in column.test
            for method in METHODS
        ]

    def losses(self, method: Method, task: Task) -> list[float]:
        """The training loss of each step, in nats."""
        return json.loads((self._trained(method, task)[1] / "losses.json").read_text())

    def ask(self, method: Method, train: Task, questions: Sequence[Question]) -> Predictions:
        """A trained model's answers to any questions; not kept."""
        role, trained = self._trained(method, train)
        return self._ask(self._load(role, trained), role, questions)

    @property
    def figures(self) -> Path:
        """Where the run's figures are kept."""
        return self.folder / "figures"

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the teacher chooses from."""
        return loading.vocabulary_size(self.settings.teacher)

    def results(self) -> dict[str, Any]:
        """Everything a run reports; also written to `results.json` in the run's folder.

        A changed experiment (`change`) shares that folder, and leaves its results as they are.
        """
        content = self.measured()
        if not self._changed:
            write_json(self.folder / "results.json", content)
        return content

    def measured(self) -> dict[str, Any]:
        """The same, not written."""
        return {
            "preset": paths.preset_name(self.preset),
            "seed": self.seed,
            "coefficients": {task: self.coefficient(task) for task in self.training_tasks()},
            "chosen_by_hand": self.chosen(),
            "rows": [asdict(row) for row in self.rows()],
            "rows_by_vocabulary": [asdict(row) for row in self.rows("vocabulary")],
            "base": self._base_rows(),
            "coverage": {task: self._coverage(task) for task in self.training_tasks()},
            "unusable": {task: self.source.unusable(task) for task in self.all_tasks()},
        }

    # -- how stages are made -----------------------------------------------------------------------------------

    def _trained(self, method: Method, task: Task) -> tuple[Role, Path]:
        """Who a method's model is, and the folder of its weights."""
        return ("teacher", self.teacher(task)) if method == "teacher" else ("student", self.student(method, task))

    def _model(self, role: Role) -> Model:
        return getattr(self.settings, role)

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._loaded:
            self._loaded[key] = make()
        return self._loaded[key]

    def tokenizer(self, role: Role = "student") -> PreTrainedTokenizerBase:
        """The tokenizer of teacher or student."""
        return self._once(("tokenizer", role), lambda: loading.load_tokenizer(self._model(role)))

    def encoded(self, task: Task, split: str, role: Role = "student") -> Sequence[Encoded]:
        """A split's items with their right responses, as token ids."""
        make = lambda: encode_on_disk(self.tokenizer(role), self.items(task, split))  # noqa: E731
        return self._once(("encoded", task, split, role), make)

    def _data_key(self, task: Task, split: str) -> str:
        return self._once(("data", task, split), lambda: stream_hash(map(vars, self.items(task, split))))

    def _check_tokens(self) -> None:
        """Before anything costly is made: the student must understand the teacher's token ids."""
        self._once("tokens", lambda: loading.check_same_tokens(self.tokenizer("teacher"), self.tokenizer("student")))
        k, words = self.settings.knowledge.k, min(len(self.tokenizer("teacher")), self.vocabulary_size)
        if k > words:
            raise UserError(f"knowledge.k: {k}, but the teacher has {words} tokens; lower it")

    def _tuned(self, stage: str, role: Role, task: Task, lesson: dict[str, Any]) -> Path:
        model = self._model(role)
        inputs = {
            "format": FORMATS["tuned"],
            "base": self._identity(role),
            "model": model.model_dump(mode="json", exclude={"base"} | ({"lora"} if model.tuning == "full" else set())),
            "training": self.settings.training.model_dump(mode="json", exclude=_RATES | _MEANS),
            "threads": self.settings.threads,
            "learning_rate": self._learning_rate(role),
            "data": self._data_key(task, "train"),
            "seed": self.seed,
            **lesson,
        }
        make = lambda to: self._train(role, stage, task, to)  # noqa: E731
        return self.artefacts.get(f"{stage}-{task}", inputs, make, together=True)

    def _identity(self, role: Role) -> str:
        return self._once(("identity", role), lambda: loading.base_identity(self._model(role)))

    def _learning_rate(self, role: Role) -> float:
        model, rates = self._model(role), self.settings.training
        full = rates.teacher_learning_rate if role == "teacher" else rates.student_learning_rate
        return full if model.tuning == "full" else model.lora.learning_rate

    def _lesson_inputs(self, method: Method, task: Task) -> dict[str, Any]:
        kind, coefficient = self.targets(method, task)
        return {
            "knowledge": self._knowledge_key(task),
            "map": kind,
            "coefficient": coefficient,
            "distillation": self.settings.distillation.model_dump(mode="json"),
        }

    def _knowledge_key(self, task: Task) -> str:
        store = self.knowledge(task)
        if self.settings.knowledge.imported:
            return hashing.files_hash(map(Path, store.paths))
        return Path(store.path).parent.name

    def _train(self, role: Role, stage: str, task: Task, to: Path) -> None:
        from firstlib.distillation import training

        self._check_tokens()
        settings = self.settings
        examples = self.encoded(task, "train", role)
        lessons = None if stage in ("teacher", "fine-tune") else self._lessons(stage, task, examples)
        torch.manual_seed(self.seed)
        model = loading.load_for_training(self._model(role), self.seed)
        course = training.Course(
            self._learning_rate(role), self.seed, save_to=to, logs=self._logs(stage, task),
            checkpoints=artefacts.unfinished(to), measure=lambda learner: self._measure(learner, role, task),
        )  # fmt: skip
        if lessons is not None:
            losses = training.distill(model, lessons, settings.training, settings.distillation, course)
        else:
            losses = training.fine_tune(model, examples, settings.training, course)
        if distributed.rank() == 0:
            write_json(to / "losses.json", losses)

    def _logs(self, stage: str, task: Task) -> Path | None:
        return self.folder / "logs" / f"{stage}-{task}" if self.settings.training.report_to else None

    def _measure(self, learner: LanguageModel, role: Role, task: Task) -> dict[str, float]:
        """Accuracy, ECE and Trust on validation, while a model learns."""
        found = self._answers(learner, role, task, "validation")
        measured = scores(found, self.settings.measures)
        return {name: measured[name] for name in ("accuracy", "ece", "trust")}

    def _lessons(self, method: Any, task: Task, examples: Sequence[Encoded]) -> "Lessons":
        from firstlib.distillation.training import Lessons

        kind, coefficient = self.targets(method, task)
        store = self.knowledge(task)
        known = [place for place, example in enumerate(examples) if example.id in store]
        # An imported store may lack some, and said so.
        return Lessons(select(examples, known), store, lambda p: recalibration.recalibrate(p, kind, coefficient))

    def _extract(self, task: Task, split: str, k: int, origin: Origin, to: Path) -> None:
        encoded = self.encoded(task, split, "teacher")
        ours = knowledge.shard(encoded, distributed.rank(), distributed.world_size())
        words = min(len(self.tokenizer("teacher")), self.vocabulary_size)
        engine = self._vllm(task) if self.settings.knowledge.engine == "vllm" else self._transformers(task)
        parts = knowledge.Parts(
            artefacts.unfinished(to) / knowledge.file_name(distributed.rank(), distributed.world_size())
        )
        found = engine(ours, k, temperatures=origin.temperatures, vocabulary=words, known=parts.examples())
        knowledge.write_store(to, found, origin, distributed.rank(), distributed.world_size(), parts)
        distributed.barrier()
        if distributed.rank() == 0:
            knowledge.check_complete(KnowledgeStore(to, origin), encoded)

    def _imported_answers(self, task: Task, split: str) -> Predictions:
        store = self.knowledge(task, split=split)
        if not self.asks(task, split):
            return asking.of_knowledge([(e, store[e.id]) for e in self.encoded(task, split) if e.id in store])
        questions = self.questions(task, split)
        return asking.of_store(questions, encode_questions(self.tokenizer(), questions), store)

    def _transformers(self, task: Task) -> Callable[..., Iterator[TopK]]:
        model = self._load("teacher", self.teacher(task))
        return partial(knowledge.extract_top_k, model, batch=self.settings.knowledge.batch_size)

    def _vllm(self, task: Task) -> Callable[..., Iterator[TopK]]:
        return partial(extract_with_vllm, self.settings.teacher, self.teacher(task))

    def imported_origin(self, task: Task, split: str, k: int, teacher: str) -> Origin:
        """Whose knowledge an imported store holds."""
        return Origin(teacher, self._identity("student"), self._data_key(task, split), k)

    def _imported(self, task: Task, split: str) -> KnowledgeStore:
        place = paths.project_path(self.settings.knowledge.imported or "") / f"{task}-{split}"
        return open_imported(place, self.imported_origin(task, split, self.settings.knowledge.k, "any"))

    def _load(self, role: Role, trained: Path | None) -> LanguageModel:
        spec = self._model(role)
        half = {"bf16": "bfloat16", "fp16": "float16"}.get(self.settings.training.mixed_precision)
        if half:  # a model is asked in the type that it was trained to compute in
            spec = spec.model_copy(update={"dtype": half})
        return loading.load_trained(spec, trained) if trained else loading.load_base(spec).eval()

    def _predicted(
        self, name: str, role: Role, test: Task, split: str, inputs: dict[str, Any], trained: Path | None
    ) -> Predictions:
        k = self.settings.knowledge.k
        inputs = {"format": FORMATS["predictions"], **inputs, "data": self._data_key(test, split), "k": k}

        def make(to: Path) -> None:
            self._answers(self._load(role, trained), role, test, split).save(to)

        folder = self.artefacts.get(f"predictions-{name}-on-{test}-{split}", inputs, make)
        return self._once(("predictions", folder), lambda: Predictions.load(folder))

    def _answers(self, model: LanguageModel, role: Role, task: Task, split: str) -> Predictions:
        """A model's answers to questions, or, where answers are free text, to every position of the right ones."""
        if self.asks(task, split):
            questions = self.questions(task, split)
            encode = lambda: encode_questions(self.tokenizer(role), questions)  # noqa: E731
            return self._ask(model, role, questions, self._once(("asked", task, split, role), encode))
        kept = self.settings.knowledge
        return asking.follow(model, self.encoded(task, split, role), kept.k, kept.batch_size)

    def _ask(self, model: LanguageModel, role: Role, questions: Sequence[Question], encoded: Any = None) -> Predictions:
        k, batch = self.settings.knowledge.k, asking.AT_ONCE * self.settings.knowledge.batch_size
        return asking.ask(model, self.tokenizer(role), questions, k, batch, encoded)

    def _row(self, method: Method, setting: str, train: Task, test: Task, reading: Reading | None) -> Row:
        found = self.predictions(method, train, test)
        return Row(method, setting, test, len(found), **scores(found, self.settings.measures, reading))

    def _base_rows(self) -> list[dict[str, Any]]:
        tests = dict.fromkeys(test for column in self.settings.columns for test in column.test)
        return [
            {
                "role": role,
                "dataset": test,
                **scores(self.base_predictions(role, test), self.settings.measures, "candidates"),
            }
            for role in self.roles()
            for test in tests
        ]

    def _context(self) -> int | None:
        """Tokens that both models can read at once."""
        known = [length for role in self.roles() if (length := loading.context_length(self._model(role)))]
        return min(known, default=None)

    def roles(self) -> tuple[Role, ...]:
        """Of whom there are weights."""
        return ("student",) if self.settings.knowledge.imported else ("teacher", "student")

    def _coverage(self, task: Task) -> dict[str, float]:
        probabilities = self.knowledge(task).all_probabilities()
        return {f"top-{k}": float(probabilities[:, :k].sum(axis=1).mean()) for k in (1, probabilities.shape[1])}


def _texts(overrides: Any) -> tuple[str, ...]:
    found = tuple(overrides) if isinstance(overrides, Iterable) and not isinstance(overrides, str) else (None,)
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"overrides: must be a list of texts such as 'training.epochs=1', not {overrides!r}")
    return found


_KINDS = {str: "text", int: "a whole number"}
