"""Teaching a model: on the right tokens (fine-tuning), or on a teacher's distributions (distillation, Eq. 5).

Both go through `transformers.Trainer`, with the paper's optimiser and schedule, and through one loss: fine-tuning is
distillation from a teacher who is sure of the right token, for then Eq. 5 is the cross-entropy. They differ in the
lessons alone.
"""

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.modeling_outputs import CausalLMOutput
from transformers.trainer_callback import PrinterCallback

from firstlib.distillation.losses import top_k_kl
from firstlib.knowledge import KnowledgeStore, TopK
from firstlib.models.loading import LanguageModel, body_and_head, causal_model, device, logit_form
from firstlib.runtime import distributed
from firstlib.runtime.artefacts import damage, write_checksums
from firstlib.runtime.errors import StoreError, UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.progress import steps
from firstlib.runtime.sequences import LazySequence
from firstlib.settings.schema import Distillation, Training
from firstlib.tasks.encoding import Encoded, pad

IGNORE = -100  # what the Trainer does not count as an item of the loss
Measure = Callable[[LanguageModel], dict[str, float]]


@dataclass(frozen=True)
class Lesson:
    """An example with the distribution that a student is to match at P positions of its response.

    Attributes:
        position: `(P,)`, places in the example's token ids.
        token_ids: `(P, K)`.
        targets: `(P, K)` recalibrated probabilities.
    """

    example: Encoded
    position: np.ndarray
    token_ids: np.ndarray
    targets: np.ndarray


def right_answers(example: Encoded) -> Lesson:
    """What fine-tuning teaches: at each position of the response the right token, with certainty."""
    position = np.arange(example.start, len(example.token_ids))
    token_ids = np.array(example.token_ids[example.start :])[:, None]
    return Lesson(example, position, token_ids, np.ones(token_ids.shape))


def make_lesson(example: Encoded, knowledge: TopK, recalibrate: Callable[[np.ndarray], np.ndarray]) -> Lesson:
    """Joins an example with what the teacher said on it, on all of its response or (behind an interface) on a part.

    Raises:
        StoreError: The knowledge is on another example, or on positions outside its response.
    """
    inside = (knowledge.position >= example.start) & (knowledge.position < len(example.token_ids))
    if example.id != knowledge.example_id or not inside.all():
        raise StoreError(f"example {example.id}: the store's positions are not its response's; extract again")
    return Lesson(example, knowledge.position, knowledge.token_ids, recalibrate(knowledge.probabilities))


class Lessons(Dataset[Lesson]):
    """Every example's lesson, made when it is asked for: memory stays flat however large the store is."""

    def __init__(
        self, examples: Sequence[Encoded], store: KnowledgeStore, recalibrate: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self.examples, self.store, self.recalibrate = examples, store, recalibrate

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Lesson:
        """The lesson of one example.

        Raises:
            KeyError: The store has nothing on it.
            StoreError: What it has is on other positions.
        """
        example = self.examples[index]
        return make_lesson(example, self.store[example.id], self.recalibrate)


@dataclass(frozen=True)
class Course:
    """How a training goes, beside its settings.

    Attributes:
        learning_rate: Of the schedule's top.
        seed: Of the order of examples.
        save_to: The folder that the trained model is written to, by the first process; None: it is not.
        measure: What to log of the model every `Training.eval_steps` steps.
        logs: The folder that TensorBoard's logs go to.
        checkpoints: Where the training's state is kept every `Training.checkpoint_minutes`. What is there already is
            gone on from; None: nothing is kept.
    """

    learning_rate: float
    seed: int
    save_to: Path | None = None
    measure: Measure | None = None
    logs: Path | None = None
    checkpoints: Path | None = None


def fine_tune(model: LanguageModel, examples: Sequence[Encoded], training: Training, course: Course) -> list[float]:
    """Cross-entropy on the response tokens. Tunes the model in place and returns the loss of each step, in nats."""
    lessons = LazySequence(len(examples), lambda i: right_answers(examples[i]))
    return _train(model, lessons, training, Distillation(), course, "fine-tuning")


def distill(
    model: LanguageModel,
    lessons: Sequence[Lesson] | Lessons,
    training: Training,
    distillation: Distillation,
    course: Course,
) -> list[float]:
    """Knowledge matching (Eq. 5), without any hard-label loss. Returns the loss of each step, in nats."""
    return _train(model, lessons, training, distillation, course, "distilling")


class DistillationTrainer(Trainer):
    """The Trainer on a model whose forward pass gives the sparse loss, and never logits for the whole vocabulary.

    The loss is taken inside the forward pass, because only there do DDP and FSDP have the output head at hand.
    """

    def __init__(self, distillation: Distillation, model: LanguageModel, **arguments: Any) -> None:
        super().__init__(model=model, **arguments)
        self.model_accepts_loss_kwargs = True  # so that accumulated batches are weighed by their positions
        self.learner = model
        inner = causal_model(model)
        inner.forward = partial(_loss_of, inner, distillation)

    def release(self) -> None:
        """Gives the model its own forward pass back."""
        causal_model(self.learner).__dict__.pop("forward", None)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Eq. 5 over the batch's positions, in nats."""
        outputs = model(**inputs)
        loss = outputs["loss"]
        if num_items_in_batch is not None:
            loss = loss * len(inputs["targets"]) / num_items_in_batch
            if self.args.average_tokens_across_devices:  # processes' gradients are averaged, the count is their sum
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def _loss_of(
    inner: Any,
    distillation: Distillation,
    *,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    labels: torch.Tensor,
    token_ids: torch.Tensor,
    targets: torch.Tensor,
    **_: Any,
) -> CausalLMOutput:
    body, head = body_and_head(inner)
    states = body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
    kept = labels[:, 1:] != IGNORE
    hidden, weight = states[:, :-1][kept], head.weight
    if head.bias is not None:  # one more column, of which every state has 1
        hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        weight = torch.cat([weight, head.bias[:, None]], 1)
    scale, softcap = logit_form(inner)
    loss = top_k_kl(
        hidden, weight, token_ids, targets, tail=distillation.tail, student=distillation.student,
        gold=labels[:, 1:][kept], softcap=softcap, scale=scale,
    )  # fmt: skip
    return CausalLMOutput(loss=loss)


class _Watch(TrainerCallback):
    """Tells how far training is, and stops one whose loss is no number any more."""

    def __init__(self, at: Callable[[int], None]) -> None:
        self.at = at

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.at(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = kwargs["logs"].get("loss", 0.0)
        if not math.isfinite(loss):
            raise UserError(
                f"training: the loss of step {state.global_step} is {loss}; lower the learning rate, choose another "
                "training.mixed_precision, or look at the base model's weights"
            )


class _Keeper(TrainerCallback):
    """Keeps the training's state every few minutes, and seals it when it is whole."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder, self.seconds, self.last = folder, 60 * minutes, time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        due = distributed.broadcast(time.monotonic() - self.last >= self.seconds)
        control.should_save = due and state.global_step < state.max_steps

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        distributed.barrier()
        if distributed.rank() == 0:
            write_checksums(self.folder / f"checkpoint-{state.global_step}")
        self.last = time.monotonic()


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that is whole. Later ones, broken off half written or damaged since, are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    while found and damage(found[-1]):
        shutil.rmtree(found.pop())
    return found[-1] if found else None


class _Examiner(TrainerCallback):
    """Measures the model while it learns: what it logs goes wherever the Trainer reports to."""

    def __init__(self, trainer: DistillationTrainer, measure: Measure, every: int) -> None:
        self.trainer, self.measure, self.every = trainer, measure, every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every and state.global_step < state.max_steps:
            return
        learner = self.trainer.learner
        learner.eval()
        self.trainer.log({f"eval_{name}": value for name, value in self.measure(learner).items()})
        learner.train()
        control.should_log = True  # logging has just struck the step's own loss off the list


def _train(
    model: LanguageModel,
    lessons: Sequence[Lesson] | Lessons,
    training: Training,
    distillation: Distillation,
    course: Course,
    label: str,
) -> list[float]:
    total = training.epochs * -(-len(lessons) // training.global_batch_size)
    with steps(label, total) as at, tempfile.TemporaryDirectory() as scratch:  # the Trainer insists on a folder
        trainer = DistillationTrainer(
            distillation, model=model, args=_arguments(training, course, scratch), train_dataset=lessons,
            data_collator=_collate, callbacks=[_Watch(at)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        if training.eval_steps and course.measure:
            trainer.add_callback(_Examiner(trainer, course.measure, training.eval_steps))
        trainer.train(resume_from_checkpoint=_kept(trainer, training, course.checkpoints))
        trainer.release()
        if course.save_to:
            _save(trainer, course.save_to)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _save(trainer: DistillationTrainer, folder: Path) -> None:
    trainer.save_model(str(folder))
    if distributed.rank() > 0:
        return
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, and the preset says it all
    adapter = folder / "adapter_config.json"
    if adapter.is_file():  # peft writes a set in any order, and the same training is to give the same bytes
        content = json.loads(adapter.read_text(encoding="utf-8"))
        write_json(adapter, content | {"target_modules": sorted(content["target_modules"])})


def _kept(trainer: DistillationTrainer, training: Training, checkpoints: Path | None) -> str | None:
    """Where to go on from, if anywhere; from here on the trainer keeps its state."""
    if not checkpoints:
        return None
    trainer.add_callback(_Keeper(checkpoints, training.checkpoint_minutes))
    last = distributed.broadcast(last_checkpoint(checkpoints) if distributed.rank() == 0 else None)
    return str(last) if last else None


def _arguments(training: Training, course: Course, scratch: str) -> TrainingArguments:
    micro_batch_size, accumulation = training.shares(distributed.world_size())
    if course.logs:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(course.logs)  # the Trainer's own way to be told
    arguments = TrainingArguments(
        output_dir=str(course.checkpoints or scratch), save_strategy="no", save_total_limit=2,
        disable_tqdm=True, logging_steps=1, logging_nan_inf_filter=False, report_to=list(training.report_to) or "none",
        per_device_train_batch_size=micro_batch_size, gradient_accumulation_steps=accumulation,
        num_train_epochs=training.epochs, learning_rate=course.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=training.lr_warmup_fraction,
        adam_beta1=training.adam_beta1, adam_beta2=training.adam_beta2, adam_epsilon=training.adam_epsilon,
        bf16=training.mixed_precision == "bf16", fp16=training.mixed_precision == "fp16",
        activation_checkpointing=training.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=device().type == "cpu", seed=course.seed, remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one device a process; several go through `accelerate launch`
    return arguments


def _collate(lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """One batch of B examples with M taught positions in all.

    `input_ids`, `attention_mask`, `labels`, each `(B, T)`, labels -100 where nothing is taught; `token_ids` and
    `targets` `(M, K)`, in the order of those positions.
    """
    ids, mask = pad([lesson.example.token_ids for lesson in lessons])
    labels = torch.full_like(ids, IGNORE)
    for row, lesson in enumerate(lessons):
        labels[row, lesson.position] = ids[row, lesson.position]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "token_ids": torch.from_numpy(np.concatenate([lesson.token_ids for lesson in lessons])).long(),
        "targets": torch.from_numpy(np.concatenate([lesson.targets for lesson in lessons])).float(),
    }
