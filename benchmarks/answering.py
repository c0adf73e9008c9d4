"""Answering CSQA-like questions, compared with lm-evaluation-harness on the same models and questions.

Both run one forward pass per question (lm-eval since 0.4.13, for one-token candidates), so the body costs both the
same. Only the head can be saved: we apply it at one position, and lm-eval applies it at all. The head takes little of
the time in the microworld's teacher (465 tokens), most of it in a small model with 32,000 tokens, and a large part in
Qwen2-0.5B's shape. Behind five worked examples the body is what can be saved: we read the examples once.
"""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from benchmarks import extraction
from benchmarks.measure import Work
from firstlib.evaluation import asking
from firstlib.models.loading import load_base, load_tokenizer
from firstlib.settings.schema import CandidateScore, Model
from firstlib.tasks import microworld
from firstlib.tasks.question import Question
from firstlib.tasks.text_answers import in_words

Ask = Callable[[], np.ndarray]
Source = Callable[[], PreTrainedModel]
BASE, BATCH = Model(base="data/microworld/teacher"), 32


def microworld_teacher() -> PreTrainedModel:
    """The microworld's teacher."""
    return load_base(BASE).eval()


def small() -> PreTrainedModel:
    """A random model with 4 layers and 32,000 tokens, of which the questions use 465."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def questions(count: int, shots: int = 0) -> list[Question]:
    """The CSQA-like test questions, each behind the same worked examples."""
    asked = microworld.ask(microworld.make_world(), "csqa", "test", shots + count, 0)
    shown = "".join(f"{q.prompt}{q.response}\n" for q in asked[:shots])
    return [replace(q, prompt=shown + q.prompt) for q in asked[shots:]]


def ours(source: Source, asked: list[Question]) -> Ask:
    """Returns a function that predicts the candidates `(N,)` with this library."""
    model, tokenizer = source(), load_tokenizer(BASE)
    return lambda: asking.ask(model, tokenizer, asked, asking.Asking(batch_size=BATCH)).predicted()


def harness(source: Source, asked: list[Question]) -> Ask:
    """The same with lm-evaluation-harness: one request per candidate."""
    ask = log_likelihoods(source(), load_tokenizer(BASE), asked)
    return lambda: ask().argmax(1)


def log_likelihoods(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: list[Question]) -> Ask:
    """Returns a function that gives lm-evaluation-harness's log-likelihoods `(N, C)` of the candidates, in nats."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH)
    pairs = [(q.prompt + q.lead, text) for q in asked for text in q.candidates]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]

    def ask() -> np.ndarray:
        found = [value for value, _ in wrapped.loglikelihood(requests, disable_tqdm=True)]
        return np.array(found).reshape(len(asked), -1)

    return ask


def timed(maker: Callable[[Source, list[Question]], Ask], source: Source, count: int, shots: int) -> Work:
    """Measures questions per second, without loading the model."""
    maker(source, questions(8))()
    ask = maker(source, questions(count, shots))

    def work() -> dict[str, float]:
        started = perf_counter()
        ask()
        return {"rate": count / (perf_counter() - started)}

    return work


def parity() -> dict[str, float]:
    """Checks that both predict the same candidates, also where these are several tokens."""
    for source, count, shots in ((microworld_teacher, 300, 0), (small, 50, 0), (small, 50, 5)):
        first, second = (maker(source, questions(count, shots))() for maker in (ours, harness))
        assert (first == second).all(), f"{(first != second).sum()} of {count} differ"
    return {"questions": 400.0, "in words": float(_parity_of_words(500))}


def _parity_of_words(count: int) -> int:
    """Checks `acc` and `acc_norm` of choices' own texts, a byte a token; returns the number of questions."""
    asked = [in_words(question) for question in questions(count)]
    model, tokenizer = small(), _bytes()
    found = asking.ask(model, tokenizer, asked, asking.Asking(batch_size=BATCH))
    total = log_likelihoods(model, tokenizer, asked)()
    characters = np.array([[len(text.strip()) for text in q.candidates] for q in asked])
    scores: dict[CandidateScore, np.ndarray] = {"total": total, "mean-by-character": total / characters}
    for name, theirs in scores.items():
        differing = int((found.scored(name).predicted() != theirs.argmax(1)).sum())
        assert not differing, f"{differing} of {count} differ by {name}"
    return count


def _bytes() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte."""
    core = Tokenizer(models.BPE({piece: at for at, piece in enumerate(sorted(bytes_to_unicode().values()))}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="!", pad_token="!")


MODELS = {
    "the microworld's teacher": (microworld_teacher, 1000, 0),
    "4 layers, 32,000 tokens": (small, 500, 0),
    "Qwen2-0.5B's shape": (extraction.model, 32, 0),
    "Qwen2-0.5B's shape, behind five worked examples": (extraction.model, 16, 5),
}
VARIANTS = {
    f"{name}, {label}": (lambda maker=maker, how=how: timed(maker, *how))
    for label, how in MODELS.items()
    for name, maker in (("ours", ours), ("lm-eval", harness))
}
ROWS = [
    (
        f"5 candidates, {label}", "rate", "questions/s", f"ours, {label}", f"lm-eval, {label}",
        "lm-evaluation-harness 0.4.13", "ratio at least 2" if "Qwen2" in label else "ratio at least 4",
    )
    for label in MODELS
]  # fmt: skip
