"""Operations of a run, and bytes of what it stores and fetches.

A matrix product takes 2 operations for each parameter and token. Training takes three such: forward, the gradient of
the input, the gradient of the weights. Frozen weights need no gradient, so adapters save the third (their own few
parameters are not counted); checkpointing adds a second forward pass. Attention's own products, which grow with the
square of the length, and padding are not counted.
"""

import math

from firstlib.settings.schema import Model, Training

FLOPS_TO_TRAIN, FLOPS_TO_ASK = 6, 2  # per parameter and token: forward and backward, or forward alone
BYTES_PER_ENTRY = 12  # the paper's count: a token id and its probability
PROBABILITY_BITS = 13  # of what we keep: 10 of the mantissa, and about 3 of the exponent vary
ROW_BITS = 4  # a row's place in its example; ids are written once a run


def flops_to_train(model: Model, training: Training) -> int:
    """Operations for each parameter and token of a training.

    >>> flops_to_train(Model(base="any", tuning="lora"), Training(gradient_checkpointing=True))
    6
    """
    frozen = 0 if model.tuning == "full" else FLOPS_TO_ASK
    again = FLOPS_TO_ASK if training.gradient_checkpointing else 0
    return FLOPS_TO_TRAIN - frozen + again


def training_flops(parameters: int, tokens: int, epochs: int, each: int = FLOPS_TO_TRAIN) -> float:
    """Floating-point operations of a training: 6 per parameter and token, unless told otherwise.

    >>> training_flops(parameters=1_000_000, tokens=1_000, epochs=3)
    18000000000.0
    """
    return float(each) * parameters * tokens * epochs


def store_bytes(positions: int, k: int) -> int:
    """The paper's count of a store: 12 bytes for each token kept.

    >>> store_bytes(positions=100_000 * 2048, k=5)  # the paper prints 1.2 GB here; its own count gives 12.3
    12288000000
    """
    return positions * k * BYTES_PER_ENTRY


def our_store_bytes(positions: int, k: int, vocabulary: int) -> float:
    """What our store takes where nothing repeats: log2(V) bits a token id, 13 a probability or residual.

    Real text repeats itself, and a sure teacher's probabilities do: there it is less (12 to 16 bytes at k = 5).
    """
    bits = k * math.log2(vocabulary) + (k + 1) * PROBABILITY_BITS + ROW_BITS
    return positions * bits / 8


def download_bytes(parameters: int) -> int:
    """Weights as they are published, 16 bits each."""
    return 2 * parameters
