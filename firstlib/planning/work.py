"""Operations of a run, and bytes that it stores and downloads.

A matrix product takes 2 operations per parameter and token. Training takes three products: forward, gradient of the
input, gradient of the weights. Frozen weights need no gradient, so adapters save the third (their own few parameters
are not counted); checkpointing adds a second forward pass. Attention products, which grow with the square of the
length, and padding are not counted.
"""

import math

from firstlib.settings.schema import Model, Training

FLOPS_TO_TRAIN, FLOPS_TO_ASK = 6, 2  # per parameter and token: forward and backward, or forward alone
BYTES_PER_ENTRY = 12  # the paper's count: a token id and its probability
PROBABILITY_BITS = 13  # per stored probability: 10 bits of the mantissa, and about 3 of the exponent, vary
ROW_BITS = 4  # a row's position in its example; example ids are run-length encoded


def flops_to_train(model: Model, training: Training) -> int:
    """Returns the operations of training per parameter and token.

    >>> flops_to_train(Model(base="any", tuning="lora"), Training(gradient_checkpointing=True))
    6
    """
    frozen = 0 if model.tuning == "full" else FLOPS_TO_ASK
    again = FLOPS_TO_ASK if training.gradient_checkpointing else 0
    return FLOPS_TO_TRAIN - frozen + again


def training_flops(parameters: int, tokens: int, epochs: int, each: int = FLOPS_TO_TRAIN) -> float:
    """Returns the floating-point operations of training, by default 6 per parameter and token.

    >>> training_flops(parameters=1_000_000, tokens=1_000, epochs=3)
    18000000000.0
    """
    return float(each) * parameters * tokens * epochs


def store_bytes(positions: int, k: int) -> int:
    """Returns the size of a store by the paper's count (arXiv 2408.12168): 12 bytes per kept token.

    >>> store_bytes(positions=100_000 * 2048, k=5)  # the paper states 1.2 GB; its count gives 12.3
    12288000000
    """
    return positions * k * BYTES_PER_ENTRY


def our_store_bytes(positions: int, k: int, vocabulary: int) -> float:
    """Returns an upper estimate of our store's bytes: log2(V) bits per token id, 13 per probability or residual.

    Real text and a confident teacher's probabilities repeat, and take less: 12 to 16 bytes per position at k = 5.
    """
    bits = k * math.log2(vocabulary) + (k + 1) * PROBABILITY_BITS + ROW_BITS
    return positions * bits / 8


def download_bytes(parameters: int) -> int:
    """Returns the bytes of published weights, 16 bits each."""
    return 2 * parameters
