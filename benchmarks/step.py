"""A distillation step compared with a fine-tuning step of the plain Trainer: same student, batch and optimiser."""

import tempfile
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from benchmarks.measure import Work
from firstlib.distillation.targets import Targets
from firstlib.distillation.training import TrainingRun, distill, fine_tune
from firstlib.models.loading import load_base, load_tokenizer
from firstlib.settings.schema import Model, Training
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode

Make = Callable[[], tuple[torch.nn.Module, list[Encoded], int]]
K, BATCH, STEPS = 5, 32, 30


def microworld_student() -> tuple[torch.nn.Module, list[Encoded], int]:
    """The microworld's student and its CSQA-like training questions."""
    base = Model(base="data/microworld/student")
    tokenizer = load_tokenizer(base)
    questions = microworld.ask(microworld.make_world(), "csqa", "train", BATCH * STEPS, 0)
    return load_base(base), [encode(tokenizer, q.example()) for q in questions], len(tokenizer)


def larger() -> tuple[torch.nn.Module, list[Encoded], int]:
    """A random student with 32,000 tokens; the last 16 of 64 tokens are the response."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    rows = np.random.default_rng(0).integers(0, 32_000, (8 * STEPS, 64)).tolist()
    return LlamaForCausalLM(config), [Encoded(str(i), row, 48) for i, row in enumerate(rows)], 32_000


def soft(examples: list[Encoded], vocabulary: int) -> list[Targets]:
    """Gives each example a teacher's top 5 at its response positions."""
    rng = np.random.default_rng(0)
    found = []
    for example in examples:
        count = len(example.token_ids) - example.start
        ids = np.stack([rng.choice(vocabulary, K, replace=False) for _ in range(count)])
        found.append(Targets(example, places(example), ids, rng.dirichlet(np.ones(K), count)))
    return found


def places(example: Encoded) -> np.ndarray:
    """The positions of an example's response."""
    return np.arange(example.start, len(example.token_ids))


def plain_rows(examples: list[Encoded]) -> list[dict[str, list[int]]]:
    """Examples as transformers fine-tunes any causal model on them: the model's own loss, on the response only."""
    return [
        {
            "input_ids": e.token_ids,
            "labels": [-100] * e.start + e.token_ids[e.start :],
            "attention_mask": [1] * len(e.token_ids),
        }
        for e in examples
    ]


def plainly_fine_tune(model: torch.nn.Module, examples: list[Encoded], training: Training, rate: float) -> list[float]:
    """Trains one epoch with the plain Trainer and returns the loss of each step."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=1,
            per_device_train_batch_size=training.global_batch_size, num_train_epochs=1, learning_rate=rate,
            lr_scheduler_type="cosine", warmup_steps=training.lr_warmup_fraction, adam_epsilon=training.adam_epsilon,
            remove_unused_columns=False, dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=plain_rows(examples), data_collator=padded)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Collates a batch, with labels padded with -100."""
    length = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {
        name: torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


def work_of(make: Make, batch: int, distilled: bool) -> Work:
    """Runs an epoch of `STEPS` steps and reports the time per step."""
    model, examples, vocabulary = make()
    settings, made = Training(epochs=1, global_batch_size=batch), soft(examples, vocabulary)

    def run() -> None:
        if distilled:
            distill(model, made, settings, TrainingRun(1e-5, 0))
        else:
            plainly_fine_tune(model, examples, settings, 1e-5)

    run()

    def work() -> dict[str, float]:
        started = perf_counter()
        run()
        return {"ms": 1000 * (perf_counter() - started) / STEPS}

    return work


def parity() -> dict[str, float]:
    """Checks that with a teacher certain of the right token, the first losses equal those of fine-tuning."""
    settings = Training(epochs=1, global_batch_size=BATCH)
    model, examples, vocabulary = microworld_student()
    hard = [Targets(e, places(e), *certain(e, vocabulary)) for e in examples[:BATCH]]
    first = distill(model, hard, settings, TrainingRun(1e-9, 0))
    second = fine_tune(model, examples[:BATCH], settings, TrainingRun(1e-9, 0))
    plain = plainly_fine_tune(model, examples[:BATCH], settings, 1e-9)
    largest = max(abs(first[0] - plain[0]), abs(second[0] - plain[0]))
    assert largest < 1e-4, (first, second, plain)
    return {"difference": largest}


def certain(example: Encoded, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """All mass on the right token and none on four others."""
    right = np.array(example.token_ids[example.start :])
    ids = (right[:, None] + np.arange(K)) % vocabulary
    return ids, np.eye(K)[np.zeros(len(right), int)]


VARIANTS = {
    f"{name}, {source}": (lambda make=make, batch=batch, distilled=distilled: work_of(make, batch, distilled))
    for source, make, batch in (("microworld", microworld_student, BATCH), ("32k", larger, 8))
    for name, distilled in (("distillation", True), ("fine-tuning", False))
}
ROWS = [
    (
        f"a step, {label}",
        "ms",
        "ms",
        f"distillation, {s}",
        f"fine-tuning, {s}",
        "fine-tuning, Trainer",
        "ratio at most 1.05",
    )
    for s, label in (("microworld", "the microworld's student"), ("32k", "4 layers, 32,000 tokens"))
]
