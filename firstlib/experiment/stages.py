"""The costly stages: train a model, extract a teacher's top k, ask a model. Frozen inputs in, files or answers out.

Each input knows the content that its stage's folder is named after, so that what is hashed is what is computed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlib import knowledge
from firstlib.distillation.recalibration import UNCERTAIN, at_positions, targets_of
from firstlib.evaluation.gathering import Asking
from firstlib.evaluation.predictions import Predictions
from firstlib.knowledge import KnowledgeStore, Origin, TopK
from firstlib.runtime import distributed
from firstlib.runtime.artefacts import unfinished
from firstlib.runtime.files import write_json
from firstlib.runtime.sequences import select
from firstlib.settings.schema import Knowledge, Model, Training
from firstlib.tasks.encoding import Encoded
from firstlib.tasks.question import Question

if TYPE_CHECKING:  # torch and transformers take seconds to import, and a finished run needs neither
    from transformers import PreTrainedTokenizerBase

    from firstlib.distillation.targets import SoftTargets
    from firstlib.models.heads import LanguageModel

# Bump when an artefact's format changes.
FORMATS = {"training": 3, "predictions": 2}

# Settings of training that change how a batch is divided and what is logged, not what is learned.
_WITHOUT_EFFECT = {"micro_batch_size", "gradient_checkpointing", "eval_steps", "report_to", "checkpoint_minutes"}
_RATES = {"teacher_learning_rate", "student_learning_rate"}


@dataclass(frozen=True)
class TargetInputs:
    """The soft targets of a student's training.

    Attributes:
        store: The teacher's knowledge.
        store_hash: What identifies it.
        map: From stored probabilities to targets.
        coefficient: Of the map.
        tail: What becomes of the mass outside the targets' tokens.
        student: Which softmax the student's probabilities come from.
        where: Positions that the map applies to.
        answer_positions: Gives, by example, the positions that name the choice; None in free text.
    """

    store: KnowledgeStore
    store_hash: str
    map: str
    coefficient: float
    tail: str
    student: str
    where: str = "everywhere"
    answer_positions: Callable[[], dict[str, range]] | None = None

    def content(self) -> dict[str, Any]:
        """Returns what a student's folder is named after."""
        names = ("map", "coefficient", "tail", "student", *(("where",) if self.where != "everywhere" else ()))
        return {"knowledge": self.store_hash, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class TrainingInputs:
    """Everything that a training depends on.

    Attributes:
        base: Identity of the base model.
        data: Identity of the examples.
        examples: Gives what is trained on, tokenised only if the model is trained; without targets, on its responses.
        vocabulary: Gives the rows of the output head that are tokens.
        smoothing: Mass of each right token that is spread over the vocabulary, where there are no targets.
        measure: Called on the model every `training.eval_steps` steps.
    """

    model: Model
    base: str
    training: Training
    learning_rate: float
    seed: int
    threads: int | None
    data: Any
    examples: Callable[[], Sequence[Encoded]]
    vocabulary: Callable[[], int]
    targets: TargetInputs | None = None
    smoothing: float = 0.0
    measure: Callable[["LanguageModel"], dict[str, float]] | None = None
    logs: Path | None = None

    def content(self) -> dict[str, Any]:
        """Returns what the model's folder is named after."""
        without = {"base"} | ({"lora"} if self.model.tuning == "full" else set())
        return {
            "format": FORMATS["training"],
            "base": self.base,
            "model": _described(self.model, without),
            "training": self.training.model_dump(mode="json", exclude=_RATES | _WITHOUT_EFFECT),
            "threads": self.threads,
            "learning_rate": self.learning_rate,
            "data": self.data,
            "seed": self.seed,
            **(self.targets.content() if self.targets else {}),
            **({"smoothing": self.smoothing} if self.smoothing else {}),
        }


def _described(model: Model, without: set[str]) -> dict[str, Any]:
    """Returns a model's settings; those that came later only where they are set, so that older folders are found."""
    content = model.model_dump(mode="json", exclude=without)
    if "lora" in content and not content["lora"]["targets"]:
        del content["lora"]["targets"]
    return content


def train(inputs: TrainingInputs, to: Path) -> None:
    """Trains a model and writes its weights and `losses.json` to a folder."""
    import torch

    from firstlib.distillation import training
    from firstlib.models import loading

    torch.manual_seed(inputs.seed)
    model = loading.load_for_training(inputs.model, inputs.seed)
    run = training.TrainingRun(
        inputs.learning_rate, inputs.seed, save_to=to, logs=inputs.logs, checkpoints=unfinished(to),
        measure=inputs.measure,
    )  # fmt: skip
    vocabulary = inputs.vocabulary()
    if inputs.targets is None:
        losses = training.fine_tune(model, inputs.examples(), inputs.training, run, vocabulary, inputs.smoothing)
    else:
        matching = training.Matching(inputs.targets.tail, inputs.targets.student, vocabulary)
        targets = soft_targets_of(inputs.targets, inputs.examples())
        losses = training.distill(model, targets, inputs.training, run, matching)
    if distributed.rank() == 0:
        write_json(to / "losses.json", losses)


def soft_targets_of(inputs: TargetInputs, examples: Sequence[Encoded]) -> "SoftTargets":
    """Returns the recalibrated targets of the examples that the store holds; an import reported the missing ones."""
    from firstlib.distillation.targets import SoftTargets  # here: it needs torch

    known = [place for place, example in enumerate(examples) if example.id in inputs.store]
    positions = inputs.answer_positions() if inputs.answer_positions and inputs.where == "answers" else {}

    def recalibrate(item: TopK) -> np.ndarray:
        targets = targets_of(item, inputs.map, inputs.coefficient, inputs.store.origin.temperatures)
        if inputs.where == "uncertain":
            return at_positions(item, targets, item.entropy() > UNCERTAIN)
        if item.example_id in positions:
            return at_positions(item, targets, np.isin(item.position, positions[item.example_id]))
        return targets

    return SoftTargets(select(examples, known), inputs.store, recalibrate)


@dataclass(frozen=True)
class ExtractionInputs:
    """Everything that an extraction depends on.

    Attributes:
        teachers: Folder of the trained teacher; of several, their mean distribution is extracted.
        origin: Of the store; its folder is named after it.
        vocabulary: Gives the rows of the output head that are tokens.
        examples: Gives what is extracted on, tokenised only if it is.
        draws: Seed of the tokens to draw; None: the top k.
    """

    model: Model
    teachers: tuple[Path, ...]
    origin: Origin
    settings: Knowledge
    vocabulary: Callable[[], int]
    examples: Callable[[], Sequence[Encoded]]
    draws: int | None = None


def extract(inputs: ExtractionInputs, to: Path) -> None:
    """Writes a teacher's top k on all examples as a store; each process writes its share."""
    rank, processes, examples = distributed.rank(), distributed.world_size(), inputs.examples()
    parts = knowledge.RowGroupCache(unfinished(to) / knowledge.file_name(rank, processes))
    found = _engine(inputs)(
        knowledge.shard(examples, rank, processes), inputs.origin.k, vocabulary=inputs.vocabulary(),
        known=parts.example_ids(),
    )  # fmt: skip
    knowledge.write_store(to, found, inputs.origin, rank, processes, parts)
    distributed.barrier()
    if rank == 0:
        knowledge.check_complete(KnowledgeStore(to, inputs.origin), examples)


def _engine(inputs: ExtractionInputs) -> Callable[..., Iterator[TopK]]:
    from firstlib.knowledge.servers.vllm_engine import extract_with_vllm
    from firstlib.models import loading

    temperatures, batch = inputs.origin.temperatures, inputs.settings.batch_size
    whole = len(inputs.teachers) > 1 or inputs.draws is not None  # needs whole distributions, which vLLM does not give
    if inputs.settings.engine == "vllm" and not whole:
        return partial(extract_with_vllm, inputs.model, inputs.teachers[0], temperatures=temperatures)
    models = [loading.load_trained(inputs.model, folder) for folder in inputs.teachers]
    if len(models) > 1:
        return partial(knowledge.extract_mean_top_k, models, batch=batch)
    if inputs.draws is not None:
        return partial(knowledge.extract_sampled, models[0], batch=batch, seed=inputs.draws)
    return partial(knowledge.extract_top_k, models[0], batch=batch, temperatures=temperatures)


@dataclass(frozen=True)
class AnswerInputs:
    """Everything that a model's answers to one split depend on.

    Attributes:
        trained: Folder of a trained model; None: the base model is asked.
        identity: Of the model that is asked.
        data: Identity of the split.
        questions: With candidates; empty where answers are free text.
        encoded: Gives the questions' token ids, or the examples of free text; tokenised only if the model is asked.
        vocabulary: Gives the rows of the output head that are tokens.
        share: Of the trained weights; below 1, the rest are the base model's.
    """

    model: Model
    trained: Path | None
    identity: str
    data: str
    tokenizer: Callable[[], "PreTrainedTokenizerBase"]
    questions: Sequence[Question]
    encoded: Callable[[], Any]
    vocabulary: Callable[[], int]
    asking: Asking
    share: float = 1.0

    def content(self) -> dict[str, Any]:
        """Returns what the answers' folder is named after."""
        optional: dict[str, Any] = {"normalisers": list(self.asking.normalisers)} if self.asking.normalisers else {}
        optional |= {"temperature": self.asking.temperature} if self.asking.temperature != 1 else {}
        optional |= {"share": self.share} if self.share != 1 else {}
        optional |= _number_format(self.model) if self.trained is None else {}  # a trained folder's name tells it
        return {
            "format": FORMATS["predictions"],
            "model": self.identity,
            "data": self.data,
            "k": self.asking.k,
            **optional,
        }


def _number_format(model: Model) -> dict[str, Any]:
    """Returns how a base model's weights are held, where it is not float32: its answers differ."""
    found: dict[str, Any] = {"dtype": model.dtype} if model.dtype != "float32" else {}
    return found | ({"weights": "4 bits"} if model.tuning == "qlora" else {})


def answer(inputs: AnswerInputs) -> Predictions:
    """Loads a model and returns its answers."""
    return answer_with(load(inputs.model, inputs.trained, inputs.share), inputs)


def answer_with(model: "LanguageModel", inputs: AnswerInputs) -> Predictions:
    """Returns the answers of a model that is loaded already."""
    from firstlib.evaluation.asking import ask, follow

    how = replace(inputs.asking, vocabulary=inputs.vocabulary())
    if inputs.questions:
        return ask(model, inputs.tokenizer(), inputs.questions, how, inputs.encoded())
    return follow(model, inputs.encoded(), how)


def load(model: Model, trained: Path | None, share: float = 1.0) -> "LanguageModel":
    """Loads a trained model, the base model or, with a share below 1, their average, ready to be asked."""
    from firstlib.models import averaging, loading

    if trained and share != 1:
        return averaging.average_with_base(model, trained, share)
    return loading.load_trained(model, trained) if trained else loading.load_base(model).eval()
