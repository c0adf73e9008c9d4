"""A distillation step beside a fine-tuning step: same student, same batch, same Trainer."""

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measure import Work
from firstlib.models import load_base, load_tokenizer
from firstlib.settings import Distillation, Model, Training
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode
from firstlib.training import Lesson, distill, fine_tune

Make = Callable[[], tuple[torch.nn.Module, list[Encoded], int]]
K, BATCH, STEPS = 5, 32, 30


def town() -> tuple[torch.nn.Module, list[Encoded], int]:
    """The microworld's student and its CSQA-like training questions."""
    base = Model(base="data/microworld/student")
    tokenizer = load_tokenizer(base)
    questions = microworld.ask(microworld.make_world(), "csqa", "train", BATCH * STEPS, 0)
    return load_base(base), [encode(tokenizer, q.example()) for q in questions], len(tokenizer)


def larger() -> tuple[torch.nn.Module, list[Encoded], int]:
    """A random student with 32,000 tokens; of 64 tokens the last 16 are the response."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    rows = np.random.default_rng(0).integers(0, 32_000, (8 * STEPS, 64)).tolist()
    return LlamaForCausalLM(config), [Encoded(str(i), row, 48) for i, row in enumerate(rows)], 32_000


def lessons(examples: list[Encoded], vocabulary: int) -> list[Lesson]:
    """Each example with a teacher's top 5 at its response positions."""
    rng = np.random.default_rng(0)
    found = []
    for example in examples:
        count = len(example.token_ids) - example.start
        ids = np.stack([rng.choice(vocabulary, K, replace=False) for _ in range(count)])
        found.append(Lesson(example, ids, rng.dirichlet(np.ones(K), count)))
    return found


def work_of(make: Make, batch: int, taught: bool) -> Work:
    """An epoch of `STEPS` steps; the figure is a step's time."""
    model, examples, vocabulary = make()
    settings, made = Training(epochs=1, batch=batch), lessons(examples, vocabulary)

    def run() -> None:
        if taught:
            distill(model, made, settings, Distillation(), learning_rate=1e-5, seed=0)
        else:
            fine_tune(model, examples, settings, learning_rate=1e-5, seed=0)

    run()

    def work() -> dict[str, float]:
        started = perf_counter()
        run()
        return {"ms": 1000 * (perf_counter() - started) / STEPS}

    return work


def parity() -> dict[str, float]:
    """A teacher that is sure of the right token teaches what fine-tuning teaches: the first losses agree."""
    settings = Training(epochs=1, batch=BATCH)
    model, examples, vocabulary = town()
    hard = [Lesson(e, *certain(e, vocabulary)) for e in examples[:BATCH]]
    first = distill(model, hard, settings, Distillation(), learning_rate=1e-9, seed=0)
    second = fine_tune(model, examples[:BATCH], settings, learning_rate=1e-9, seed=0)
    assert abs(first[0] - second[0]) < 1e-4, (first, second)
    return {"difference": abs(first[0] - second[0])}


def certain(example: Encoded, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """All mass on the right token, none on four others."""
    right = np.array(example.token_ids[example.start :])
    ids = (right[:, None] + np.arange(K)) % vocabulary
    return ids, np.eye(K)[np.zeros(len(right), int)]


VARIANTS = {
    f"{name}, {source}": (lambda make=make, batch=batch, taught=taught: work_of(make, batch, taught))
    for source, make, batch in (("town", town, BATCH), ("32k", larger, 8))
    for name, taught in (("distillation", True), ("fine-tuning", False))
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
    for s, label in (("town", "the microworld's student"), ("32k", "4 layers, 32,000 tokens"))
]
