"""Training steps at SmolLM2-135M's shape, beside packages that people train with: tokens per second and peak memory.

Random weights; lengths as CommonsenseQA's questions have them (some 75 tokens, 7 of them the response); 32 examples a
step. Ours distils from a stored teacher's top 5. The peers are transformers' Trainer on labels, TRL's SFTTrainer with a
loss on completions alone, and the loss of TRL's GKD on the same stored teacher, made dense, in the Trainer.
"""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import torchao as lora_of_torchao
from transformers import LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from benchmarks import reading
from benchmarks.loss import dense_teacher
from benchmarks.measure import Work, memory
from benchmarks.step import certain, padded, places, plain_rows, soft
from firstlib.distillation.targets import Targets
from firstlib.distillation.training import TrainingRun, distill
from firstlib.settings.schema import Training
from firstlib.tasks.encoding import Encoded

BATCH, STEPS, RATE = 32, 2, 1e-5
SETTINGS = Training(epochs=1, global_batch_size=BATCH)
Fit = Callable[[Any, list[Targets]], list[float]]


def student(layers: int = 30, lora: bool = False) -> Any:
    """A random model, whole or with an adapter of rank 16 on every linear layer but the head."""
    config = reading.model(layers).config
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    if not lora:
        return model
    lora_of_torchao.is_torchao_available = lambda: False  # torchtune, a peer, needs an older one than peft accepts
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=names))


def targets(count: int) -> list[Targets]:
    """A stored teacher's top 5 on the examples' responses."""
    return soft(lengths_spread(count), reading.VOCABULARY)


def lengths_spread(count: int) -> list[Encoded]:
    """Examples from 40 to 110 tokens, as CommonsenseQA's are."""
    rng = np.random.default_rng(0)
    sizes = np.clip(rng.normal(68, 13, count), 33, 103).astype(int)
    rows = [rng.integers(0, reading.VOCABULARY, size + reading.RESPONSE).tolist() for size in sizes]
    return [Encoded(str(i), row, len(row) - reading.RESPONSE) for i, row in enumerate(rows)]


def ours(model: Any, taught: list[Targets], micro_batch_size: int | None = None, bfloat16: bool = False) -> list[float]:
    """Distils with this library."""
    precision = "bf16" if bfloat16 else "no"
    settings = SETTINGS.model_copy(update={"micro_batch_size": micro_batch_size, "mixed_precision": precision})
    return distill(model, taught, settings, TrainingRun(RATE, 0))


def trainer(
    model: Any, taught: list[Targets], kind: type[Trainer] = Trainer, collate: Any = padded, bfloat16: bool = False
) -> list[float]:
    """Fine-tunes on labels with transformers' Trainer."""
    rows = plain_rows([one.example for one in taught]) if collate is padded else taught
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(**_arguments(scratch, bfloat16))
        made = kind(model=model, args=arguments, train_dataset=rows, data_collator=collate)
        return _losses(made)


def sft(model: Any, taught: list[Targets], bfloat16: bool = False) -> list[float]:
    """Fine-tunes on completions with TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from firstlib.models.loading import load_tokenizer
    from firstlib.settings.schema import Model

    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in plain_rows([t.example for t in taught])]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            **_arguments(scratch, bfloat16), max_length=None, completion_only_loss=True, packing=False,
            gradient_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        tokenizer = load_tokenizer(Model(base="data/microworld/student"))  # for its padding token alone
        made = SFTTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
        return _losses(made)


def gkd(model: Any, taught: list[Targets], bfloat16: bool = False) -> list[float]:
    """Distils with the loss of TRL's GKD, as forward KL, from the stored teacher made dense."""
    return trainer(model, taught, _gkd_trainer(), _with_teacher, bfloat16)


def _gkd_trainer() -> type[Trainer]:
    from trl.experimental.gkd import GKDTrainer

    class Dense(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            teacher, labels = inputs.pop("teacher"), inputs.pop("labels")
            logits = model(**inputs).logits[:, :-1]
            kept = labels[:, 1:] != -100
            found = GKDTrainer.generalized_jsd_loss(logits[kept][None], teacher[None], beta=0.0, reduction="sum")
            return found / kept.sum()

    return Dense


def _with_teacher(batch: list[Targets]) -> dict[str, torch.Tensor]:
    ids, probabilities = (
        torch.from_numpy(np.concatenate([getattr(one, name) for one in batch]))
        for name in ("token_ids", "probabilities")
    )
    rows = padded(plain_rows([one.example for one in batch]))
    return {**rows, "teacher": dense_teacher(ids.long(), probabilities.float(), reading.VOCABULARY)}


def _arguments(scratch: str, bfloat16: bool) -> dict[str, Any]:
    return {
        "output_dir": scratch, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 1,
        "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "learning_rate": RATE, "seed": 0,
        "lr_scheduler_type": "cosine", "warmup_steps": SETTINGS.lr_warmup_fraction, "use_cpu": True,
        "adam_epsilon": SETTINGS.adam_epsilon, "remove_unused_columns": False, "dataloader_pin_memory": False,
        "bf16": bfloat16,
    }  # fmt: skip


def _losses(made: Trainer) -> list[float]:
    made.remove_callback(PrinterCallback)
    made.train()
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


def timed(fit: Fit, lora: bool, learned: Callable[[int], list[Targets]] = targets) -> Work:
    """Runs an epoch of `STEPS` steps; the first step of another epoch warms up.

    Memory is counted above the model, not above what a process keeps after the warm-up.
    """
    model, taught = student(lora=lora), learned(BATCH * STEPS)
    before = memory("VmRSS")
    fit(model, taught[:BATCH])
    tokens = sum(len(one.example.token_ids) for one in taught)

    def work() -> dict[str, float]:
        started = perf_counter()
        fit(model, taught)
        return {"rate": tokens / (perf_counter() - started), "MiB": memory("VmHWM") - before}

    return work


def variants(fits: Mapping[str, Fit]) -> dict[str, Callable[[], Work]]:
    """Each way of training, in full and with an adapter."""
    return {
        f"{name}, {kind}": partial(timed, fit, lora)
        for kind, lora in (("full", False), ("LoRA", True))
        for name, fit in fits.items()
    }


def parity() -> dict[str, float]:
    """Checks losses and weights of two steps on two layers: labels beside labels, distillation beside GKD."""
    taught = targets(BATCH * STEPS)  # the first step's rate is 0
    hard = [Targets(one.example, places(one.example), *certain(one.example, reading.VOCABULARY)) for one in taught]
    pairs = ((ours, hard, trainer, taught), (ours, hard, sft, taught), (ours, taught, gkd, taught))
    return {"largest difference": max(difference(*pair) for pair in pairs)}


def difference(
    first: Fit, of_first: list[Targets], second: Fit, of_second: list[Targets], rounding: float = 1e-4
) -> float:
    """The largest mean difference of a weight after two steps by two ways; small, or an error."""
    models, losses = [], []
    for fit, taught in ((first, of_first), (second, of_second)):
        models.append(student(2))
        losses.append(fit(models[-1], taught))
    np.testing.assert_allclose(losses[0], losses[1], atol=rounding)
    weights = [dict(model.named_parameters()) for model in models]
    largest = max(float((weights[0][name] - weight).detach().abs().mean()) for name, weight in weights[1].items())
    assert 0 < largest < RATE / 10, largest  # Adam's first step moves every weight by the rate
    return largest


FITS = {"ours": ours, "Trainer": trainer, "SFTTrainer": sft, "GKD": gkd}
VARIANTS = variants(FITS)
PEERS = {
    "Trainer": "transformers' Trainer, labels", "SFTTrainer": "trl 1.16 SFTTrainer, completions",
    "GKD": "trl 1.16 GKD's loss, stored teacher",
}  # fmt: skip
FIGURES = (  # what is compared, the figure, its unit and its goal
    ("float32", "rate", "tokens/s", "ratio at least 1.5"),
    ("peak above the model", "MiB", "MiB", "ratio at most 0.6"),
)
ROWS = [
    (f"135M shape, {kind}, {what}", figure, unit, f"ours, {kind}", f"{name}, {kind}", peer, goal)
    for kind in ("full", "LoRA")
    for what, figure, unit, goal in FIGURES
    for name, peer in PEERS.items()
]
