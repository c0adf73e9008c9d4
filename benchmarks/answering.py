"""Asking the microworld's teacher its CSQA-like questions, beside lm-evaluation-harness on the same model."""

from collections.abc import Callable
from time import perf_counter

import numpy as np

from benchmarks.measure import Work
from firstlib import answers
from firstlib.models import load_base, load_tokenizer
from firstlib.settings import Model
from firstlib.tasks import microworld
from firstlib.tasks.question import Question

Ask = Callable[[], np.ndarray]
BASE, QUESTIONS, BATCH = Model(base="data/microworld/teacher"), 1000, 128


def questions(count: int = QUESTIONS) -> list[Question]:
    """The CSQA-like test questions."""
    return microworld.ask(microworld.make_world(), "csqa", "test", count, 0)


def ours(asked: list[Question]) -> Ask:
    """Gives the predicted candidates `(N,)`."""
    model, tokenizer = load_base(BASE).eval(), load_tokenizer(BASE)
    return lambda: answers.ask(model, tokenizer, asked, batch=BATCH).predicted()


def harness(asked: list[Question]) -> Ask:
    """The same by lm-evaluation-harness: a request for each candidate."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=load_base(BASE).eval(), tokenizer=load_tokenizer(BASE), batch_size=BATCH)
    pairs = [(q.prompt + q.lead, text) for q in asked for text in q.candidates]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]

    def ask() -> np.ndarray:
        found = [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]
        return np.array(found).reshape(len(asked), -1).argmax(1)

    return ask


def timed(maker: Callable[[list[Question]], Ask]) -> Work:
    """Questions a second, once the model is loaded."""
    maker(questions(64))()
    ask = maker(questions())

    def work() -> dict[str, float]:
        started = perf_counter()
        ask()
        return {"rate": QUESTIONS / (perf_counter() - started)}

    return work


def parity() -> dict[str, float]:
    """The same predictions."""
    first, second = (maker(questions(300))() for maker in (ours, harness))
    assert (first == second).all(), f"{(first != second).sum()} of 300 differ"
    return {"questions": 300.0}


VARIANTS = {"ours": lambda: timed(ours), "lm-eval": lambda: timed(harness)}
ROWS = [("5 candidates", "rate", "questions/s", "ours", "lm-eval", "lm-evaluation-harness 0.4.13", "ratio at least 4")]
