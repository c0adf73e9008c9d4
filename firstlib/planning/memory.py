"""Memory of a stage, in bytes, from a model's anatomy.

Training holds, at its highest, with P parameters of which F are tuned:

    weights      P x their type's bytes; QLoRA: half a byte and its scales for those in linear layers, 4 for the others
    gradients    F x 4 (2 where 16-bit weights are tuned in full): they live on from one batch to the next
    optimiser    2 x the gradients: Adam's two moments
    activations  what autograd saves, for every token of a batch and every block (`SAVED`); with checkpointing only what
                 enters a block
    working      the larger of two that come one after the other: the loss with its chunk of logits; a block's
                 backward pass, which with checkpointing holds that block's saved tensors too

Asking a model holds weights and, as working memory, the larger of one block's forward pass and a chunk of logits.
Every formula counts named tensors, none is fitted; tests compare them with what is measured.
"""

from dataclasses import dataclass
from typing import NamedTuple

from firstlib.distillation.losses import LARGEST_CHUNK, SMALLEST_CHUNK
from firstlib.knowledge.extraction import CHUNK
from firstlib.planning.anatomy import Anatomy
from firstlib.settings.schema import Model, Training

FLOAT32, HALF = 4, 2  # bytes
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a weight: 4 bits; a byte for each 64; for 256 of those a float32
ADAPTERS = 7  # in a block: query, key, value, output, gate, up, down


@dataclass(frozen=True)
class Memory:
    """What a stage holds at its highest, in bytes, by what it is for."""

    weights: float
    gradients: float = 0
    optimiser: float = 0
    activations: float = 0
    working: float = 0

    @property
    def total(self) -> float:
        """All of it together."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.working


@dataclass(frozen=True)
class Batch:
    """What one device takes at once, every example as long as the longest.

    Attributes:
        positions: Those that a loss or an answer is taken at.
    """

    examples: int
    length: int
    positions: int

    @property
    def tokens(self) -> int:
        """Padding included."""
        return self.examples * self.length


class Saved(NamedTuple):
    """Bytes a token and block, for each number of the width D, of the attention A, of the inner width I, of the rank.

    `passing_*` is what the block's backward pass adds: the gradients of the stream and of the inner product.
    """

    width: int
    attention: int
    inner: int
    rank: int
    passing_width: int
    passing_inner: int


# Of a Llama-like block autograd saves: of each norm its input in float32, the normalised numbers (to tune its weights)
# and its output (to tune the matrices that read it); queries, keys, values, one set for each head, and the attention's
# output; the gate, the gate activated, the other half, their product. A frozen matrix needs no input saved, its
# adapter does. Where a matrix or adapter computes in another type than it is given, it saves a copy of its own: five
# of them read the norms' outputs, one the attention's, one the product.
SAVED: dict[tuple[str, int, bool], Saved] = {
    # (tuning, bytes of the weights' type, mixed precision)
    ("full", FLOAT32, False): Saved(2 * (4 + 4 + 4), 4 * 4, 4 * 4, 0, 4, 4),
    ("full", FLOAT32, True): Saved(2 * (4 + 4) + 5 * 2, 4 * 2, 4 * 2, 0, 4, 2),
    ("full", HALF, False): Saved(2 * (4 + 2 + 2), 4 * 2, 4 * 2, 0, 2, 2),
    ("full", HALF, True): Saved(2 * (4 + 2 + 2), 4 * 2, 4 * 2, 0, 2, 2),
    ("lora", FLOAT32, False): Saved(2 * (4 + 4), 4 * 4, 4 * 4, ADAPTERS * 4, 4, 4),
    ("lora", FLOAT32, True): Saved(2 * 4 + 5 * 2, 4 * 2 + 2, 3 * 2 + 2, ADAPTERS * 2, 4, 4 + 2),
    ("lora", HALF, False): Saved(2 * 4 + 5 * 4, 4 * 2 + 4, 3 * 2 + 4, ADAPTERS * 4, 4, 4 + 2),
    ("lora", HALF, True): Saved(2 * 4 + 5 * 2, 4 * 2 + 2, 3 * 2 + 2, ADAPTERS * 2, 4, 4 + 2),
    # QLoRA's stream is float32, whatever the weights' type: what is not quantised is made so.
    ("qlora", FLOAT32, False): Saved(2 * (4 + 4), 4 * 4, 4 * 4, ADAPTERS * 4, 4, 4),
    ("qlora", FLOAT32, True): Saved(2 * 4 + 5 * 2, 4 * 2, 3 * 4 + 2, ADAPTERS * 2, 4, 4 + 2),
}


def element(model: Model) -> int:
    """Bytes of a number in the type that the weights are loaded in."""
    return FLOAT32 if model.dtype == "float32" else HALF


def tuned(anatomy: Anatomy, model: Model) -> int:
    """How many parameters are tuned."""
    return anatomy.parameters if model.tuning == "full" else anatomy.adapter(model.lora.rank)


def training_memory(anatomy: Anatomy, model: Model, training: Training, batch: Batch, devices: int = 1) -> Memory:
    """Fine-tuning or distilling, on each of several devices that divide weights, gradients and optimiser evenly."""
    mixed = training.mixed_precision != "no"
    number = element(model) if model.tuning == "full" else FLOAT32  # adapters are float32
    gradients = tuned(anatomy, model) * number / devices
    block = _block(anatomy, model, mixed, batch)
    stream = batch.tokens * anatomy.width * _stream(model)
    return Memory(
        weights=_training_weights(anatomy, model, mixed, devices),
        gradients=gradients,
        optimiser=2 * gradients,
        activations=anatomy.layers * (stream if training.gradient_checkpointing else block.saved),
        working=max(
            _loss(anatomy, model, mixed, batch),
            block.passing + (block.saved if training.gradient_checkpointing else 0),
        ),
    )


def asking_memory(anatomy: Anatomy, model: Model, batch: Batch) -> Memory:
    """Extraction or answers: one whole model on each device, in the type it is asked in."""
    number = element(model)
    if model.tuning == "full" or number == FLOAT32:
        halves = 3 if model.tuning == "full" else 4  # of the inner width: gate, other half, product; LoRA's sum
        block = number * (max(halves * anatomy.inner, 6 * anatomy.attention) + 4 * anatomy.width)
    else:  # adapters work in float32, and give 16 bits back
        block = (4 + 4 + 2 + 2) * (anatomy.inner + anatomy.width)
    logits = min(batch.positions * anatomy.vocabulary, CHUNK) * _logit(number)
    states = batch.tokens * anatomy.width * number
    return Memory(_asking_weights(anatomy, model), working=max(batch.tokens * block, states + logits))


def _stream(model: Model) -> int:
    """Bytes of a number on its way from block to block."""
    return FLOAT32 if model.tuning == "qlora" else element(model)


def _computing(model: Model, mixed: bool) -> int:
    """Bytes of a number in matrix products."""
    return HALF if mixed else _stream(model)


def _logit(computing: int) -> int:
    """Bytes of a logit: float32, made from 16 bits where those are what a product gives."""
    return FLOAT32 + (HALF if computing == HALF else 0)


def _training_weights(anatomy: Anatomy, model: Model, mixed: bool, devices: int) -> float:
    whole = _base(anatomy, model, _stream(model)) + _adapters(anatomy, model)
    computing, four_bit = _computing(model, mixed), model.tuning == "qlora"
    if devices > 1:  # what is not a block's, and two blocks, are put together when their turn comes
        blocks = (NF4 if four_bit else computing) * 2 * anatomy.linear / anatomy.layers
        return whole / devices + blocks + computing * (anatomy.parameters - anatomy.linear)
    copies = computing < _stream(model) and not four_bit  # autocast keeps them until the backward pass
    return whole + (computing * anatomy.linear if copies else 0)


def _asking_weights(anatomy: Anatomy, model: Model) -> float:
    return _base(anatomy, model, element(model)) + _adapters(anatomy, model)


def _base(anatomy: Anatomy, model: Model, number: int) -> float:
    """The base model's weights, where those that are not quantised have so many bytes each."""
    of_linear = NF4 if model.tuning == "qlora" else number
    return of_linear * anatomy.linear + number * (anatomy.parameters - anatomy.linear)


def _adapters(anatomy: Anatomy, model: Model) -> int:
    return 0 if model.tuning == "full" else FLOAT32 * anatomy.adapter(model.lora.rank)


class _Block(NamedTuple):
    saved: float
    passing: float


def _block(anatomy: Anatomy, model: Model, mixed: bool, batch: Batch) -> _Block:
    """One block's saved tensors, and what its backward pass adds; the attention mask is saved in every block."""
    each = SAVED[model.tuning, _stream(model), mixed]
    mask = batch.length * _computing(model, mixed)
    saved = (
        each.width * anatomy.width
        + each.attention * anatomy.attention
        + each.inner * anatomy.inner
        + each.rank * model.lora.rank
        + mask
    )
    passing = each.passing_width * anatomy.width + each.passing_inner * anatomy.inner
    return _Block(batch.tokens * saved, batch.tokens * passing)


def _loss(anatomy: Anatomy, model: Model, mixed: bool, batch: Batch) -> float:
    """`losses.top_k_kl`: its chunk of logits, states with their gradients, and of the head the gradient and a copy."""
    computing, head = _computing(model, mixed), anatomy.vocabulary * anatomy.width
    logits = batch.positions * anatomy.vocabulary * _logit(computing)
    chunk = min(logits, LARGEST_CHUNK, max(SMALLEST_CHUNK, logits // 4))
    states = batch.positions * anatomy.width * (_stream(model) + computing + FLOAT32)
    gradient = FLOAT32 * head if model.tuning == "full" else 0
    copy = computing * head if computing < _stream(model) else 0
    return chunk + states + gradient + copy
