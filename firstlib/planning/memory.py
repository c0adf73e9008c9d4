"""Peak memory of a stage, in bytes, from a model's anatomy.

Training, with P parameters of which F are tuned:

    weights      P x the size of their type; QLoRA: half a byte plus scales in linear layers, 4 bytes elsewhere
    gradients    F x 4 (2 if 16-bit weights are tuned in full); they persist between batches
    optimiser    2 x the gradients: Adam's two moments
    activations  tensors that autograd saves, for every token of a batch and every block (`SAVED`); with checkpointing,
                 only the inputs of blocks
    working      the larger of two that do not coincide: the loss with its chunk of logits; a block's backward pass,
                 with checkpointing including that block's saved tensors

Inference takes the weights and, as working memory, the larger of a block's forward pass and a chunk of logits.
The formulas count named tensors; no constant is fitted. Tests compare them with measurements.
"""

from dataclasses import dataclass
from typing import NamedTuple

from firstlib.distillation.losses import LARGEST_CHUNK, SMALLEST_CHUNK
from firstlib.knowledge.extraction import CHUNK, MIN_HEAD_ROWS
from firstlib.models.heads import HEAD_BLOCK
from firstlib.planning.anatomy import Anatomy
from firstlib.settings.schema import HALF_FORMATS, Model, Training

FLOAT32, HALF = 4, 2  # bytes
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes per weight: 4 bits, a 1-byte scale per 64, a float32 per 256 scales
ADAPTERS = 7  # per block: query, key, value, output, gate, up, down


@dataclass(frozen=True)
class Memory:
    """A stage's peak memory by purpose, in bytes."""

    weights: float
    gradients: float = 0
    optimiser: float = 0
    activations: float = 0
    working: float = 0

    @property
    def total(self) -> float:
        """The sum, in bytes."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.working


@dataclass(frozen=True)
class Batch:
    """A batch on one device; every example counts with the length of the longest.

    Attributes:
        examples: Number of examples.
        length: Tokens of the longest example.
        positions: Positions whose logits are computed, over all examples.
    """

    examples: int
    length: int
    positions: int

    @property
    def tokens(self) -> int:
        """Number of tokens, including padding."""
        return self.examples * self.length


class Saved(NamedTuple):
    """Bytes saved per token and block, for each unit of the width D, attention A, inner width I and adapter rank.

    `passing_*` is added by the block's backward pass: gradients of the residual stream and of the inner product.
    """

    width: int
    attention: int
    inner: int
    rank: int
    passing_width: int
    passing_inner: int


# In a Llama-like block, autograd saves: for each norm, its input in float32, the normalised values (to tune its
# weights) and its output (to tune the matrices that read it); queries, keys and values, one set per head, and the
# attention's output; the gate, the activated gate, the other half, and their product. A frozen matrix does not need
# its input saved, but its adapter does. A matrix or adapter that computes in another type than its input saves its own
# copy: five of them read the norms' outputs, one the attention's output, one the product.
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
    # QLoRA's residual stream is float32 for all types, because weights that are not quantised are cast to it.
    ("qlora", FLOAT32, False): Saved(2 * (4 + 4), 4 * 4, 4 * 4, ADAPTERS * 4, 4, 4),
    ("qlora", FLOAT32, True): Saved(2 * 4 + 5 * 2, 4 * 2, 3 * 4 + 2, ADAPTERS * 2, 4, 4 + 2),
}


def element(model: Model) -> int:
    """Returns the bytes per number in the type of the loaded weights."""
    return FLOAT32 if model.dtype == "float32" else HALF


def tuned(anatomy: Anatomy, model: Model) -> int:
    """Returns the number of tuned parameters."""
    return anatomy.parameters if model.tuning == "full" else anatomy.adapter(model.lora.rank)


def training_memory(anatomy: Anatomy, model: Model, training: Training, batch: Batch, devices: int = 1) -> Memory:
    """Memory of fine-tuning or distillation, per device; weights, gradients and optimiser are evenly sharded."""
    mixed = training.mixed_precision in HALF_FORMATS  # not auto: which it takes is known when it trains
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
    """Memory of extraction or answering: one whole model per device, in its inference type."""
    number = element(model)
    if model.tuning == "full" or number == FLOAT32:
        halves = 3 if model.tuning == "full" else 4  # gate, other half, product; for LoRA also the sum
        block = number * (max(halves * anatomy.inner, 6 * anatomy.attention) + 4 * anatomy.width)
    else:  # adapters compute in float32 and return 16 bits
        block = (4 + 4 + 2 + 2) * (anatomy.inner + anatomy.width)
    logits = min(batch.positions * anatomy.vocabulary, CHUNK) * FLOAT32
    if number == HALF:  # a block of the head is copied to float32 and multiplied, as on the CPU; a GPU copies none
        at_once = min(batch.positions, CHUNK // MIN_HEAD_ROWS)
        logits += min(HEAD_BLOCK, anatomy.vocabulary) * (at_once + anatomy.width) * FLOAT32
    states = batch.tokens * anatomy.width * number
    return Memory(_asking_weights(anatomy, model), working=max(batch.tokens * block, states + logits))


def _stream(model: Model) -> int:
    """Returns the bytes per number of the residual stream."""
    return FLOAT32 if model.tuning == "qlora" else element(model)


def _computing(model: Model, mixed: bool) -> int:
    """Returns the bytes per number in matrix products."""
    return HALF if mixed else _stream(model)


def _logit(computing: int) -> int:
    """Returns the bytes per logit: float32, plus its 16-bit source if the product is computed in 16 bits."""
    return FLOAT32 + (HALF if computing == HALF else 0)


def _training_weights(anatomy: Anatomy, model: Model, mixed: bool, devices: int) -> float:
    whole = _base(anatomy, model, _stream(model)) + _adapters(anatomy, model)
    computing, four_bit = _computing(model, mixed), model.tuning == "qlora"
    if devices > 1:  # parameters outside blocks, and two blocks at a time, are gathered
        blocks = (NF4 if four_bit else computing) * 2 * anatomy.linear / anatomy.layers
        return whole / devices + blocks + computing * (anatomy.parameters - anatomy.linear)
    copies = computing < _stream(model) and not four_bit  # autocast keeps copies until the backward pass
    return whole + (computing * anatomy.linear if copies else 0)


def _asking_weights(anatomy: Anatomy, model: Model) -> float:
    return _base(anatomy, model, element(model)) + _adapters(anatomy, model)


def _base(anatomy: Anatomy, model: Model, number: int) -> float:
    """Returns the bytes of the base model's weights, with `number` bytes per weight that is not quantised."""
    of_linear = NF4 if model.tuning == "qlora" else number
    return of_linear * anatomy.linear + number * (anatomy.parameters - anatomy.linear)


def _adapters(anatomy: Anatomy, model: Model) -> int:
    return 0 if model.tuning == "full" else FLOAT32 * anatomy.adapter(model.lora.rank)


class _Block(NamedTuple):
    saved: float
    passing: float


def _block(anatomy: Anatomy, model: Model, mixed: bool, batch: Batch) -> _Block:
    """Returns the bytes that one block saves, and those that its backward pass adds; each block saves the mask."""
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
    """Bytes of `losses.top_k_kl`: chunk of logits, hidden states and their gradients, the head's gradient and copy."""
    computing, head = _computing(model, mixed), anatomy.vocabulary * anatomy.width
    logits = batch.positions * anatomy.vocabulary * _logit(computing)
    chunk = min(logits, LARGEST_CHUNK, max(SMALLEST_CHUNK, logits // 4))
    states = batch.positions * anatomy.width * (_stream(model) + computing + FLOAT32)
    gradient = FLOAT32 * head if model.tuning == "full" else 0
    copy = computing * head if computing < _stream(model) else 0
    return chunk + states + gradient + copy
