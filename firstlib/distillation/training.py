"""Training a model on the right tokens (fine-tuning) or on a teacher's distributions (distillation, Eq. 5).

Both use `transformers.Trainer` with the paper's optimiser and schedule, and one loss: fine-tuning is distillation from
a teacher that is certain of the right token, for which Eq. 5 is the cross-entropy. Only the targets differ.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments
from transformers.modeling_outputs import CausalLMOutput
from transformers.trainer_callback import PrinterCallback

from firstlib.distillation.callbacks import (
    CheckpointCallback,
    EvaluationCallback,
    Measure,
    ProgressCallback,
    last_checkpoint,
)
from firstlib.distillation.losses import top_k_kl
from firstlib.distillation.options import Student, Tail
from firstlib.distillation.precision import EXAMPLES, try_formats
from firstlib.distillation.targets import SoftTargets, Targets, hard_targets
from firstlib.models.heads import LanguageModel, body_and_head, causal_model, logit_form
from firstlib.models.loading import device
from firstlib.models.packing import packs, states_of
from firstlib.runtime import distributed
from firstlib.runtime.allocator import reuse_freed_memory
from firstlib.runtime.files import write_json
from firstlib.runtime.progress import steps
from firstlib.runtime.sequences import LazySequence
from firstlib.settings.schema import Training
from firstlib.tasks.encoding import IGNORE_INDEX, Encoded, pad

PRECISION = "mixed_precision.json"  # beside a model trained with `auto`: seconds of a pass by format


@dataclass(frozen=True)
class Matching:
    """How a student's distribution is compared with its targets: the options of Eq. 5.

    Attributes:
        tail: What becomes of the mass outside the targets' tokens.
        student: Which softmax the student's probabilities come from.
        vocabulary: Rows of the output head that are tokens; padding rows get no mass. None: all.
    """

    tail: Tail | str = Tail.DROP
    student: Student | str = Student.FULL
    vocabulary: int | None = None


@dataclass(frozen=True)
class TrainingRun:
    """One training, beside its settings.

    Attributes:
        learning_rate: Peak of the schedule.
        seed: Determines the order of examples.
        save_to: Folder for the trained model, written by rank 0; None: not saved.
        measure: Called on the model every `Training.eval_steps` steps; its result is logged.
        logs: Folder for TensorBoard's logs.
        checkpoints: Folder for checkpoints, written every `Training.checkpoint_minutes`. Training resumes from
            existing checkpoints. None: no checkpoints.
    """

    learning_rate: float
    seed: int
    save_to: Path | None = None
    measure: Measure | None = None
    logs: Path | None = None
    checkpoints: Path | None = None


def fine_tune(
    model: LanguageModel,
    examples: Sequence[Encoded],
    training: Training,
    run: TrainingRun,
    vocabulary: int | None = None,
    smoothing: float = 0.0,
) -> list[float]:
    """Trains on the response tokens by cross-entropy, in place. Returns the loss of each step, in nats.

    With `smoothing`, so much of each target's mass is spread evenly over the rest of the vocabulary (Szegedy et al.
    2016, https://arxiv.org/abs/1512.00567).
    """
    targets = LazySequence(len(examples), lambda i: hard_targets(examples[i], smoothing))
    matching = Matching(Tail.SMOOTH if smoothing else Tail.DROP, vocabulary=vocabulary)
    return _train(model, targets, training, matching, run, "fine-tuning")


def distill(
    model: LanguageModel,
    targets: Sequence[Targets] | SoftTargets,
    training: Training,
    run: TrainingRun,
    matching: Matching = Matching(),
) -> list[float]:
    """Trains on soft targets (Eq. 5), without hard labels, in place. Returns the loss of each step, in nats."""
    return _train(model, targets, training, matching, run, "distilling")


class DistillationTrainer(Trainer):
    """A Trainer whose model computes the sparse loss in its forward pass and never builds logits of the vocabulary.

    The loss belongs inside the forward pass because DDP and FSDP have the output head at hand only there.
    """

    def __init__(self, matching: Matching, model: LanguageModel, **arguments: Any) -> None:
        super().__init__(model=model, **arguments)
        self.model_accepts_loss_kwargs = True  # accumulated batches are weighted by their positions
        self.tuned_model = model
        inner = causal_model(model)
        inner.forward = partial(_loss_of, inner, matching)

    def restore_forward(self) -> None:
        """Restores the model's own forward pass."""
        causal_model(self.tuned_model).__dict__.pop("forward", None)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns Eq. 5 over the batch's positions, in nats."""
        outputs = model(**inputs)
        loss = outputs["loss"]
        if num_items_in_batch is not None:
            loss = loss * len(inputs["targets"]) / num_items_in_batch
            if self.args.average_tokens_across_devices:  # gradients are averaged over processes, the count is summed
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def _loss_of(
    inner: Any,
    matching: Matching,
    *,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    labels: torch.Tensor,
    token_ids: torch.Tensor,
    targets: torch.Tensor,
    **_: Any,
) -> CausalLMOutput:
    head = body_and_head(inner)[1]
    following = labels.roll(-1, 1)  # each token's next; a row's first token is no target
    kept = following != IGNORE_INDEX
    hidden, weight = states_of(inner, input_ids, attention_mask, kept), head.weight
    if head.bias is not None:  # as one more column, which every state multiplies by 1
        hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        weight = torch.cat([weight, head.bias[:, None]], 1)
    scale, softcap = logit_form(inner)
    loss = top_k_kl(
        hidden, weight, token_ids, targets, tail=matching.tail, student=matching.student,
        gold=following[kept], softcap=softcap, scale=scale, vocabulary=matching.vocabulary,
    )  # fmt: skip
    return CausalLMOutput(loss=loss)


def _train(
    model: LanguageModel,
    targets: Sequence[Targets] | SoftTargets,
    training: Training,
    matching: Matching,
    run: TrainingRun,
    label: str,
) -> list[float]:
    total = training.epochs * -(-len(targets) // training.global_batch_size)
    reuse_freed_memory()
    training, precision = _with_precision(training, run, lambda: _trial(model, targets, matching))
    with (
        steps(label + precision, total) as at,
        tempfile.TemporaryDirectory() as scratch,
    ):  # the Trainer insists on a folder
        trainer = DistillationTrainer(
            matching, model=model, args=_arguments(training, run, scratch), train_dataset=targets,
            data_collator=_collate, callbacks=[ProgressCallback(at)],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        if training.eval_steps and run.measure:
            trainer.add_callback(EvaluationCallback(trainer, model, run.measure, training.eval_steps))
        try:
            with packs(model):
                trainer.train(resume_from_checkpoint=_checkpoint_to_resume(trainer, training, run.checkpoints))
        finally:
            trainer.restore_forward()
        if run.save_to:
            _save(trainer, run.save_to)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _with_precision(
    training: Training, run: TrainingRun, trial: Callable[[], dict[str, float]]
) -> tuple[Training, str]:
    """Replaces `mixed_precision: auto` by the faster format of a trial; also returns what the progress says of it."""
    if training.mixed_precision != "auto":
        return training, ""
    kept = run.checkpoints / PRECISION if run.checkpoints else None  # a training that resumes keeps its format
    seconds = json.loads(kept.read_text(encoding="utf-8")) if kept and kept.is_file() else trial()
    seconds = distributed.broadcast(seconds)
    for folder in (run.checkpoints, run.save_to):
        if folder and distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / PRECISION, seconds)
    chosen = min(seconds, key=seconds.__getitem__)
    ratio = max(seconds.values()) / seconds[chosen]
    return training.model_copy(update={"mixed_precision": chosen}), f" ({chosen}: {ratio:.1f} x as fast)"


def _trial(model: LanguageModel, targets: Sequence[Targets] | SoftTargets, matching: Matching) -> dict[str, float]:
    torch.nn.Module.to(model, device()).train()
    tried = _collate([targets[i] for i in range(min(EXAMPLES, len(targets)))])
    batch = {name: part.to(device()) for name, part in tried.items()}
    return try_formats(model, lambda: _loss_of(causal_model(model), matching, **batch)["loss"])


def _save(trainer: DistillationTrainer, folder: Path) -> None:
    trainer.save_model(str(folder))
    if distributed.rank() > 0:
        return
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; the manifest records the settings
    adapter = folder / "adapter_config.json"
    if adapter.is_file():  # peft writes a set in any order; equal trainings must give equal bytes
        content = json.loads(adapter.read_text(encoding="utf-8"))
        write_json(adapter, content | {"target_modules": sorted(content["target_modules"])})


def _checkpoint_to_resume(trainer: DistillationTrainer, training: Training, checkpoints: Path | None) -> str | None:
    """Turns checkpoints on, and returns the one to resume from, if any."""
    if not checkpoints:
        return None
    trainer.add_callback(CheckpointCallback(checkpoints, training.checkpoint_minutes))
    last = distributed.broadcast(last_checkpoint(checkpoints) if distributed.rank() == 0 else None)
    return str(last) if last else None


def _arguments(training: Training, run: TrainingRun, scratch: str) -> TrainingArguments:
    micro_batch_size, accumulation = training.batch_sizes(distributed.world_size())
    if run.logs:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.logs)  # the Trainer reads it from there
    arguments = TrainingArguments(
        output_dir=str(run.checkpoints or scratch), save_strategy="no", save_total_limit=2,
        disable_tqdm=True, logging_steps=1, logging_nan_inf_filter=False, report_to=list(training.report_to) or "none",
        per_device_train_batch_size=micro_batch_size, gradient_accumulation_steps=accumulation,
        num_train_epochs=training.epochs, learning_rate=run.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=training.lr_warmup_fraction,
        adam_beta1=training.adam_beta1, adam_beta2=training.adam_beta2, adam_epsilon=training.adam_epsilon,
        bf16=training.mixed_precision == "bf16", fp16=training.mixed_precision == "fp16",
        activation_checkpointing=training.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=device().type == "cpu", seed=run.seed, remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one device per process; several need `accelerate launch`
    return arguments


def _collate(batch: Sequence[Targets]) -> dict[str, torch.Tensor]:
    """Returns one batch of B examples with M target positions in all.

    `input_ids`, `attention_mask`, `labels`: `(B, T)` each, labels -100 where there is no target. `token_ids` and
    `targets`: `(M, K)`, in the order of those positions.
    """
    ids, mask = pad([targets.example.token_ids for targets in batch])
    labels = torch.full_like(ids, IGNORE_INDEX)
    for row, targets in enumerate(batch):
        labels[row, targets.position] = ids[row, targets.position]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "token_ids": torch.from_numpy(np.concatenate([targets.token_ids for targets in batch])).long(),
        "targets": torch.from_numpy(np.concatenate([targets.probabilities for targets in batch])).float(),
    }
