"""What happens between the steps of a training: progress, a check of the loss, checkpoints, measurements."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from firstlib.models.heads import LanguageModel
from firstlib.runtime import distributed
from firstlib.runtime.artefacts import damage, write_checksums
from firstlib.runtime.errors import UserError

Measure = Callable[[LanguageModel], dict[str, float]]


class ProgressCallback(TrainerCallback):
    """Reports progress, and stops when the loss becomes NaN or infinite."""

    def __init__(self, at: Callable[[int], None]) -> None:
        self.at = at

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Reports the step."""
        self.at(state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stops a training whose loss is not finite."""
        loss = kwargs["logs"].get("loss", 0.0)
        if not math.isfinite(loss):
            raise UserError(
                f"training: the loss of step {state.global_step} is {loss}; lower the learning rate, choose another "
                "training.mixed_precision, or look at the base model's weights"
            )


class CheckpointCallback(TrainerCallback):
    """Writes a checkpoint every few minutes, and its checksums when it is complete."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder, self.seconds, self.last = folder, 60 * minutes, time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks for a checkpoint where one is due."""
        due = distributed.broadcast(time.monotonic() - self.last >= self.seconds)
        control.should_save = due and state.global_step < state.max_steps

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Completes a checkpoint."""
        distributed.barrier()
        if distributed.rank() == 0:
            write_checksums(self.folder / f"checkpoint-{state.global_step}")
        self.last = time.monotonic()


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the latest complete checkpoint. Later ones that are incomplete or damaged are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    while found and damage(found[-1]):
        shutil.rmtree(found.pop())
    return found[-1] if found else None


class EvaluationCallback(TrainerCallback):
    """Measures the model during training and logs the result wherever the Trainer reports to."""

    def __init__(self, trainer: Trainer, model: LanguageModel, measure: Measure, every: int) -> None:
        self.trainer, self.model, self.measure, self.every = trainer, model, measure, every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measures the model where it is due."""
        if state.global_step % self.every and state.global_step < state.max_steps:
            return
        self.model.eval()
        self.trainer.log({f"eval_{name}": value for name, value in self.measure(self.model).items()})
        self.model.train()
        control.should_log = True  # the call above replaced the step's own loss
