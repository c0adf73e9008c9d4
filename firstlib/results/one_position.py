"""One stored position, followed by hand through the method: what notebooks show before they show the whole."""

from dataclasses import dataclass

import numpy as np
import torch

from firstlib.experiment import Experiment, stages, students
from firstlib.models.heads import body_and_head, logit_form
from firstlib.settings.schema import Task
from firstlib.tasks.encoding import encode_question
from firstlib.tasks.question import Question


@dataclass(frozen=True)
class OnePosition:
    """What a teacher stored at the answer of one training example.

    Attributes:
        before: Token ids up to the position.
        text: The same, as text.
        right: The right token, as text.
        tokens: The K stored tokens as text, most probable first.
        token_ids: `(1, K)`.
        probabilities: `(1, K)`, as stored.
        residual: Probability of all other tokens together.
    """

    before: list[int]
    text: str
    right: str
    tokens: tuple[str, ...]
    token_ids: np.ndarray
    probabilities: np.ndarray
    residual: float


def one_position(experiment: Experiment, task: Task | None = None, number: int = 0) -> OnePosition:
    """Returns the stored answer position of a training example; in free text its last word's.

    Args:
        experiment: The run.
        task: A training task; None: the main one.
        number: Of the training example.
    """
    task, data = task or experiment.main_task, experiment.run.data
    role = data.knowledge_role
    tokenizer, example = data.tokenizer(role), data.encoded(task, "train", role)[number]
    item, known = data.items(task, "train")[number], experiment.knowledge(task)[example.id]
    at = len(encode_question(tokenizer, item)[0]) if isinstance(item, Question) else len(example.token_ids) - 2
    row = int(np.flatnonzero(known.position == at)[0])
    before = list(example.token_ids[:at])
    return OnePosition(
        before=before,
        text=str(tokenizer.decode(before, skip_special_tokens=True)),
        right=str(tokenizer.decode([example.token_ids[at]])),
        tokens=tuple(str(tokenizer.decode([int(i)])) for i in known.token_ids[row]),
        token_ids=known.token_ids[row : row + 1].astype(np.int64),
        probabilities=known.probabilities[row : row + 1].astype(np.float64),
        residual=float(known.residual[row]),
    )


@dataclass(frozen=True)
class StudentAt:
    """What a student computes before a position, as the loss takes it.

    Attributes:
        hidden: `(1, D)`, the last hidden state; a family's factor on logits is folded in, and a 1 for a head's bias.
        head: `(V, D)`, the output matrix, with its bias as one more column.
        softcap: Of the logits; None: there is none.
    """

    hidden: torch.Tensor
    head: torch.Tensor
    softcap: float | None

    @property
    def logits(self) -> torch.Tensor:
        """`(1, V)`."""
        product = self.hidden @ self.head.T
        return product if self.softcap is None else self.softcap * torch.tanh(product / self.softcap)


def student_at(experiment: Experiment, method: str, at: OnePosition, task: Task | None = None) -> StudentAt:
    """Returns what a method's student computes before a position."""
    task, run = task or experiment.main_task, experiment.run
    model = stages.load(students.student_model(run, method), students.student(run, method, task))
    body, head = body_and_head(model)
    ids = torch.tensor([at.before], device=head.weight.device)
    with torch.no_grad():  # not around the whole: the student may have to be trained first
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state[:, -1].float()
    matrix = head.weight.detach().float()
    if head.bias is not None:
        hidden = torch.cat([hidden, hidden.new_ones(1, 1)], 1)
        matrix = torch.cat([matrix, head.bias.detach().float()[:, None]], 1)
    factor, softcap = logit_form(model)
    return StudentAt((hidden * factor).cpu(), matrix.cpu(), softcap)
