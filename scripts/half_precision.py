"""What bfloat16 does to a model's answers: as transformers rounds its logits, and as FIRST keeps them.

    python -m scripts.half_precision BASE QUESTIONS

Asks a base model CommonsenseQA's first test questions (`FIRST_REAL_DATA`), one at a time. For float32, for bfloat16
with logits rounded to it, and for bfloat16 with logits in float32, it prints accuracy and mean confidence in percent,
in how many questions two choices tie, and in how many the answer is not float32's.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch

from firstlib import Experiment
from firstlib.models.heads import LanguageModel, body_and_head, logits_of
from firstlib.models.loading import load_base, load_tokenizer
from firstlib.results.study import PAIR
from firstlib.settings.schema import Model
from firstlib.tasks.encoding import EncodedQuestion, encode_questions

Logits = Callable[[LanguageModel, torch.Tensor], torch.Tensor]


def main(base: str, count: int) -> None:
    """Prints one line for each number format."""
    questions = (
        Experiment(PAIR)
        .change(data__folder="$FIRST_REAL_DATA", teacher__base=base, student__base=base)
        .questions("csqa")[:count]
    )
    encoded = encode_questions(load_tokenizer(Model(base=base)), questions)
    right = np.array([question.answer for question in questions])
    single, half = (load_base(Model(base=base, dtype=name)).eval() for name in ("float32", "bfloat16"))
    exact = asked(single, encoded, logits_of)
    show("float32", exact, exact, right)
    show("bfloat16, logits rounded", asked(half, encoded, rounded), exact, right)
    show("bfloat16, logits in float32", asked(half, encoded, logits_of), exact, right)


def rounded(model: LanguageModel, hidden: torch.Tensor) -> torch.Tensor:
    """Returns logits as the model's own forward pass does."""
    return body_and_head(model)[1](hidden)


@torch.inference_mode()
def asked(model: LanguageModel, encoded: list[EncodedQuestion], logits: Logits) -> np.ndarray:
    """Returns each question's share of every choice `(N, C)`."""
    body, _ = body_and_head(model)
    found = []
    for stem, candidates in encoded:
        hidden = body(input_ids=torch.tensor([stem]), use_cache=False).last_hidden_state[:, -1]
        found.append(logits(model, hidden)[0, list(candidates)].float().softmax(-1).numpy())
    return np.stack(found)


def show(name: str, shares: np.ndarray, exact: np.ndarray, right: np.ndarray) -> None:
    """Prints one line."""
    ties = sum(len(set(row)) < len(row) for row in shares.tolist())
    answers, confidence = shares.argmax(1), 100 * shares.max(1).mean()
    other, correct = (answers != exact.argmax(1)).sum(), 100 * (answers == right).mean()
    print(f"{name:28} accuracy {correct:.1f}  confidence {confidence:.1f}  ties {ties}  other answers {other}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
