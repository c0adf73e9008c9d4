"""Teaching a model: on the right tokens (fine-tuning), or on a teacher's distributions (distillation, Eq. 5).

Both go through `transformers.Trainer`, with the paper's optimiser and schedule; they differ in the loss alone.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from firstlib.errors import UserError
from firstlib.knowledge import KnowledgeStore, TopK
from firstlib.losses import top_k_kl
from firstlib.models import LanguageModel, body_and_head, logit_form
from firstlib.progress import steps
from firstlib.settings import Distillation, Training
from firstlib.tasks.encoding import Encoded, pad

IGNORE = -100  # what the Trainer's cross-entropy leaves out


@dataclass(frozen=True)
class Lesson:
    """An example with the distribution that a student is to match at each response position.

    Attributes:
        token_ids: `(P, K)`.
        targets: `(P, K)` recalibrated probabilities.
    """

    example: Encoded
    token_ids: np.ndarray
    targets: np.ndarray


def make_lesson(example: Encoded, knowledge: TopK, recalibrate: Callable[[np.ndarray], np.ndarray]) -> Lesson:
    """Joins an example with what the teacher said on it.

    Raises:
        ValueError: The knowledge is on other positions than the example's response.
    """
    expected = np.arange(example.start, len(example.token_ids))
    if example.id != knowledge.example_id or not np.array_equal(knowledge.position, expected):
        raise ValueError(f"example {example.id}: the store's positions are not its response's; extract again")
    return Lesson(example, knowledge.token_ids, recalibrate(knowledge.probabilities))


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
            ValueError: What it has is on other positions.
        """
        example = self.examples[index]
        return make_lesson(example, self.store[example.id], self.recalibrate)


def fine_tune(
    model: LanguageModel,
    examples: Sequence[Encoded],
    training: Training,
    *,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Cross-entropy on the response tokens. Tunes the model in place and returns the loss of each step, in nats."""
    return _train(Trainer, _collate_examples, model, examples, training, learning_rate, seed, "fine-tuning")


def distill(
    model: LanguageModel,
    lessons: Sequence[Lesson] | Lessons,
    training: Training,
    distillation: Distillation,
    *,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Knowledge matching (Eq. 5), without any hard-label loss. Returns the loss of each step, in nats.

    Raises:
        UserError: The model's output head has a bias, which the fused loss does not know.
    """
    if body_and_head(model)[1].bias is not None:
        raise UserError("student: its output head has a bias, which distillation does not support; choose another base")

    def trainer(**arguments: Any) -> Trainer:
        return DistillationTrainer(distillation, **arguments)

    return _train(trainer, _collate_lessons, model, lessons, training, learning_rate, seed, "distilling")


class DistillationTrainer(Trainer):
    """The Trainer with the sparse distillation loss, which never holds logits for the whole vocabulary."""

    def __init__(self, distillation: Distillation, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.distillation = distillation
        self.model_accepts_loss_kwargs = True  # so that accumulated batches are weighed by their positions

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Eq. 5 over the batch's response positions, in nats."""
        outputs = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False,
            output_hidden_states=True, logits_to_keep=1,
        )  # fmt: skip
        kept = inputs["labels"][:, 1:] != IGNORE
        hidden = outputs.hidden_states[-1][:, :-1][kept]
        gold = inputs["labels"][:, 1:][kept]
        inner = self.accelerator.unwrap_model(model)
        scale, softcap = logit_form(inner)
        loss = top_k_kl(
            hidden, body_and_head(inner)[1].weight, inputs["token_ids"], inputs["targets"],
            tail=self.distillation.tail, student=self.distillation.student, gold=gold, softcap=softcap, scale=scale,
        )  # fmt: skip
        if num_items_in_batch is not None:
            loss = loss * len(hidden) / num_items_in_batch
            if self.args.average_tokens_across_devices:  # processes' gradients are averaged, the count is their sum
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


class _Watch(TrainerCallback):
    """Keeps each step's loss and tells how far training is."""

    def __init__(self, at: Callable[[int], None]) -> None:
        self.at = at
        self.losses: list[float] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.at(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            self.losses.append(float(kwargs["logs"]["loss"]))


def _train(
    trainer_class: Callable[..., Trainer],
    collate: Callable[[Sequence[Any]], dict[str, torch.Tensor]],
    model: LanguageModel,
    data: Sequence[Any] | Lessons,
    training: Training,
    learning_rate: float,
    seed: int,
    label: str,
) -> list[float]:
    total = training.epochs * -(-len(data) // training.batch)
    with steps(label, total) as at, tempfile.TemporaryDirectory() as scratch:  # the Trainer insists on a folder
        watch = _Watch(at)
        trainer = trainer_class(
            model=model, args=_arguments(training, learning_rate, seed, scratch), train_dataset=data,
            data_collator=collate, callbacks=[watch],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.losses


def _arguments(training: Training, learning_rate: float, seed: int, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=1,
        per_device_train_batch_size=training.batch, num_train_epochs=training.epochs,
        learning_rate=learning_rate, lr_scheduler_type="cosine", warmup_steps=training.warmup,
        adam_beta1=training.adam_beta1, adam_beta2=training.adam_beta2, adam_epsilon=training.adam_epsilon,
        seed=seed, remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip


def _collate_examples(examples: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask`, `labels`, each `(B, T)`; labels are -100 outside the response."""
    ids, mask = pad([example.token_ids for example in examples])
    labels = torch.full_like(ids, IGNORE)
    for row, example in enumerate(examples):
        labels[row, example.start : len(example.token_ids)] = ids[row, example.start : len(example.token_ids)]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _collate_lessons(lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """The same, and `token_ids` and `targets` `(M, K)` for the batch's M response positions, in their order."""
    batch = _collate_examples([lesson.example for lesson in lessons])
    batch["token_ids"] = torch.from_numpy(np.concatenate([lesson.token_ids for lesson in lessons])).long()
    batch["targets"] = torch.from_numpy(np.concatenate([lesson.targets for lesson in lessons])).float()
    return batch
