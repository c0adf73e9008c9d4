"""What only a GPU shows: the loss at full size, training steps of a 1B and a 7B shape, extraction, a whole run.

`python -m benchmarks.gpu` takes under eight minutes on one card and writes the card's rows to `gpu.json` and README.
`--small` runs the same code with small shapes on any machine, and writes nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import loss as losses
from benchmarks.step import soft
from firstlib.distillation.losses import top_k_kl
from firstlib.distillation.training import TrainingRun, distill
from firstlib.knowledge import extract_top_k
from firstlib.models.loading import device, load_for_training
from firstlib.planning.anatomy import dissect
from firstlib.planning.machines import GIB, find_machines
from firstlib.planning.memory import Batch, training_memory
from firstlib.planning.work import flops_to_train
from firstlib.results.markup import with_block
from firstlib.runtime.files import write_json, write_text
from firstlib.settings.schema import Lora, Model, Training
from firstlib.tasks.encoding import Encoded

KEPT, README = Path(__file__).parent / "gpu.json", Path(__file__).parent / "README.md"
BEGIN, END = "<!-- gpu: python -m benchmarks.gpu -->", "<!-- end of gpu -->"
STEPS, K = 4, 5
CHIPS = {"H100": "H100", "H200": "H100", "A100": "A100", "4090": "4090"}  # an H200 computes like an H100


@dataclass(frozen=True)
class Shape:
    """A Llama of random weights, and the batch that it is measured with."""

    width: int
    inner: int
    layers: int
    heads: int
    vocabulary: int = 32_000
    batch: int = 8
    length: int = 512
    response: int = 128

    @property
    def config(self) -> LlamaConfig:
        """Its configuration."""
        return LlamaConfig(
            vocab_size=self.vocabulary, hidden_size=self.width, intermediate_size=self.inner,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.heads,
            max_position_embeddings=self.length,
        )  # fmt: skip

    def examples(self, count: int) -> list[Encoded]:
        """Returns sequences of random tokens, the last `response` of which are the response."""
        rows = np.random.default_rng(0).integers(0, self.vocabulary, (count, self.length)).tolist()
        return [Encoded(str(i), row, self.length - self.response) for i, row in enumerate(rows)]


@dataclass(frozen=True)
class Sizes:
    """What is measured: the loss's problem (N, V, D), both shapes, and a preset."""

    loss: tuple[int, int, int] = (8192, 151_936, 896)
    full: Shape = field(default_factory=lambda: Shape(2048, 5632, 22, 32, batch=16))
    four_bit: Shape = field(default_factory=lambda: Shape(4096, 11_008, 32, 32))
    preset: str = "microworld"


SMALL = Sizes((64, 500, 32), Shape(64, 128, 2, 2, 500, 2, 32, 8), Shape(64, 128, 2, 2, 500, 2, 32, 8), "smoke")
Line = dict[str, Any]


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Returns seconds and GiB above what was allocated before; without a card GiB are not a number."""
    on_card = torch.cuda.is_available()
    if on_card:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before, started = torch.cuda.memory_allocated() if on_card else 0, time.perf_counter()
    work()
    if not on_card:
        return time.perf_counter() - started, float("nan")
    torch.cuda.synchronize()
    return time.perf_counter() - started, (torch.cuda.max_memory_allocated() - before) / GIB


def line(name: str, value: float, unit: str, beside: float | None = None, what: str = "") -> Line:
    """Returns a row: ours, and what stands beside it."""
    return {"name": name, "value": value, "unit": unit, "beside": beside, "what": what}


# -- the loss ----------------------------------------------------------------------------------------------------


def loss_lines(sizes: Sizes) -> Iterator[Line]:
    """Yields time and peak memory of one forward and backward pass in bfloat16, beside the peers'."""
    n, v, d = sizes.loss
    hidden, head, ids, q = (one.to(device()) for one in losses.problem(n, v, d))
    hidden, head = hidden.bfloat16(), head.bfloat16()
    teacher = (torch.randn_like(hidden), torch.randn_like(head).mul_(d**-0.5))
    ours: tuple[float, float] | None = None
    for name, loss, target in (
        ("ours", top_k_kl, (ids, q)),
        ("plain PyTorch", losses.dense, (ids, q)),
        ("liger", losses.liger, (teacher,)),
        ("trl chunked", losses.trl_chunked, (teacher,)),
        ("cut-cross-entropy, labels alone", _cut_cross_entropy, (ids[:, 0],)),
    ):
        found = _best(loss, hidden, head, target)
        if name == "ours":
            ours = found
        elif ours and found:
            yield line("loss: time", 1000 * ours[0], "ms", 1000 * found[0], name)
            yield line("loss: peak above inputs", ours[1], "GiB", found[1], name)


def _best(loss: Any, hidden: torch.Tensor, head: torch.Tensor, target: tuple[Any, ...]) -> tuple[float, float] | None:
    """Seconds and GiB of the fastest of three; None where a peer is not installed or does not run here."""
    try:
        runs = [measured(lambda: losses.gradients(loss, hidden, head, *target, frozen=False)) for _ in range(3)]
    except Exception as error:  # peers raise many types, out of memory among them
        print(f"{getattr(loss, '__name__', loss)}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    return min(seconds for seconds, _ in runs), runs[-1][1]


def _cut_cross_entropy(hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    from cut_cross_entropy import linear_cross_entropy

    found: torch.Tensor = linear_cross_entropy(hidden, head, labels)
    return found


# -- training steps and extraction -------------------------------------------------------------------------------


def step_lines(name: str, shape: Shape, model: Model) -> Iterator[Line]:
    """Yields a distillation step's tokens a second, share of the card's peak, and memory beside `first plan`'s."""
    training = Training(epochs=1, global_batch_size=shape.batch, gradient_checkpointing=model.tuning == "qlora")
    loaded, anatomy = load_for_training(model, 0), dissect(shape.config, "shape")
    targets = soft(shape.examples(STEPS * shape.batch), shape.vocabulary)
    held = torch.cuda.memory_allocated() / GIB if torch.cuda.is_available() else float("nan")
    run = lambda: distill(loaded, targets, training, TrainingRun(1e-5, 0))  # noqa: E731
    run()
    seconds, peak = measured(run)
    tokens = STEPS * shape.batch * shape.length / seconds
    plan = training_memory(anatomy, model, training, Batch(shape.batch, shape.length, shape.batch * shape.response))
    yield line(f"{name}: throughput", tokens, "tokens/s")
    yield line(
        f"{name}: share of the peak", 100 * flops_to_train(model, training) * anatomy.parameters * tokens / _peak(), "%"
    )
    yield line(f"{name}: memory", held + peak, "GiB", plan.total / GIB, "first plan")


def _peak() -> float:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((find_machines(chip)[0].half for key, chip in CHIPS.items() if key in name), float("nan"))


def extraction_lines(shape: Shape, folder: Path) -> Iterator[Line]:
    """Yields the time of extracting the top 5 at every position, beside the model's own forward pass."""
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": device()}).eval()
    examples = [Encoded(one.id, one.token_ids, 1) for one in shape.examples(2 * shape.batch)]

    @torch.inference_mode()
    def forward() -> None:
        for first in range(0, len(examples), shape.batch):
            rows = [one.token_ids for one in examples[first : first + shape.batch]]
            model(input_ids=torch.tensor(rows, device=device()), use_cache=False)

    def ours() -> None:
        list(extract_top_k(model, examples, K, shape.batch))

    for work in (forward, ours):
        work()
    yield line("extraction: time", measured(ours)[0], "s", measured(forward)[0], "its own forward pass, all logits")


def run_lines(preset: str) -> Iterator[Line]:
    """Yields the seconds of a whole run, notebooks and all."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "firstlib.cli", "run", "--preset", preset, "--runs", runs]
        seconds, _ = measured(lambda: subprocess.run(command, check=True, capture_output=True))
    yield line(f"first run --preset {preset}", seconds, "s")


def lines(sizes: Sizes) -> Iterator[Line]:
    """Yields every row, each as it is measured."""
    yield from loss_lines(sizes)
    for name, shape, tuning in (("full step", sizes.full, "full"), ("QLoRA step", sizes.four_bit, "qlora")):
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            with torch.device(device()):
                LlamaForCausalLM(shape.config).bfloat16().save_pretrained(folder)
            dtype = "bfloat16" if tuning == "full" else "float32"
            yield from step_lines(name, shape, Model(base=folder, tuning=tuning, dtype=dtype, lora=Lora()))
            if tuning == "qlora":
                yield from extraction_lines(shape, Path(folder))
    yield from run_lines(sizes.preset)


def kept() -> dict[str, list[Line]]:
    """Returns the rows measured so far, by card."""
    found: dict[str, list[Line]] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return found


def table(found: dict[str, list[Line]]) -> str:
    """Returns the rows of every card in Markdown."""
    if not found:
        return "Not measured: no card was at hand. `python -m benchmarks.gpu` measures it."
    head = "| card | what | unit | ours | beside | |\n|---|---|---|---:|---:|---|\n"
    rows = [
        f"| {card} | {one['name']} | {one['unit']} | {one['value']:.4g} | "
        f"{'' if one['beside'] is None else format(one['beside'], '.4g')} | {one['what']} |"
        for card, of in found.items()
        for one in of
    ]
    return head + "\n".join(rows)


def main() -> None:
    """Measures, and keeps the rows under the card's name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small shapes, on any machine; keeps nothing")
    options = parser.parse_args()
    if not options.small and not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: there is no card here; --small runs the same code without one")
    found = []
    for one in lines(SMALL if options.small else Sizes()):
        print(json.dumps(one), flush=True)
        found.append(one)
    if not options.small:
        cards = kept() | {torch.cuda.get_device_name(): found}
        write_json(KEPT, cards)
        write_text(README, with_block(README.read_text(encoding="utf-8"), BEGIN, END, table(cards)))


if __name__ == "__main__":
    main()
