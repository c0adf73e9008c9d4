"""A model's shape and size, from its configuration alone: no weights are downloaded or allocated."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from firstlib.models.places import base_location, trusts_remote_code
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model


def _llama(width: int, inner: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    shape = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
    return {"model_type": "llama", "vocab_size": 32_000, "num_key_value_heads": heads, **shape, **others}


_SMOL = {"vocab_size": 49_152, "tie_word_embeddings": True}
_QWEN = {"model_type": "qwen2"}
_SMALL_QWEN = {"vocab_size": 151_936, "tie_word_embeddings": True, **_QWEN}

# Configurations of the presets' models as published, so that a plan does not need the hub.
KNOWN: dict[str, dict[str, Any]] = {
    "huggyllama/llama-30b": _llama(6656, 17_920, 60, 52),
    "huggyllama/llama-7b": _llama(4096, 11_008, 32, 32),
    "meta-llama/Llama-2-70b-hf": _llama(8192, 28_672, 80, 64, num_key_value_heads=8),
    "meta-llama/Llama-2-13b-hf": _llama(5120, 13_824, 40, 40),
    "meta-llama/Llama-2-7b-hf": _llama(4096, 11_008, 32, 32),
    "openlm-research/open_llama_13b": _llama(5120, 13_824, 40, 40),
    "openlm-research/open_llama_7b": _llama(4096, 11_008, 32, 32),
    "HuggingFaceTB/SmolLM2-1.7B": _llama(2048, 8192, 24, 32, **_SMOL),
    "HuggingFaceTB/SmolLM2-360M": _llama(960, 2560, 32, 15, num_key_value_heads=5, **_SMOL),
    "HuggingFaceTB/SmolLM2-135M": _llama(576, 1536, 30, 9, num_key_value_heads=3, **_SMOL),
    "Qwen/Qwen2.5-7B": _llama(3584, 18_944, 28, 28, num_key_value_heads=4, vocab_size=152_064, **_QWEN),
    "Qwen/Qwen2.5-0.5B": _llama(896, 4864, 24, 14, num_key_value_heads=2, **_SMALL_QWEN),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": _llama(1536, 8960, 28, 12, num_key_value_heads=2, **_SMALL_QWEN),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": _llama(896, 4864, 24, 14, num_key_value_heads=2, **_SMALL_QWEN),
}


FOLDER = "its folder"


@dataclass(frozen=True)
class Anatomy:
    """A model's dimensions, as the estimates need them.

    Attributes:
        parameters: All parameters; tied ones count once.
        linear: Parameters of the linear layers below the head, which LoRA adapts and QLoRA quantises.
        sides: Inputs plus outputs of those layers, summed: the parameters of all adapters at rank 1.
        largest: Parameters of the largest of those matrices.
        layers: Number of transformer blocks.
        width: Hidden size, D.
        attention: Number of heads times their size, A.
        inner: Feed-forward size, I.
        vocabulary: Rows of the output head, V.
        source: Where the configuration came from.
    """

    parameters: int
    linear: int
    sides: int
    largest: int
    layers: int
    width: int
    attention: int
    inner: int
    vocabulary: int
    source: str

    def adapter(self, rank: int) -> int:
        """Returns the parameters of LoRA adapters on all linear layers: two matrices of that rank per layer."""
        return rank * self.sides


def anatomy_of(model: Model) -> Anatomy:
    """Returns a model's anatomy without loading its weights.

    Raises:
        UserError: The configuration is not available from a local folder, the cache, the built-in table or the hub.
    """
    return _anatomy(base_location(model), model.revision, trusts_remote_code(model))


@cache
def _anatomy(location: str, revision: str, trusted: bool) -> Anatomy:
    config, source = _configuration(location, revision=revision, trust_remote_code=trusted)
    return dissect(config, source, trusted)


def _configuration(location: str, **which: Any) -> tuple[Any, str]:
    """Returns the first available configuration, and its source: folder or cache, the table above, the hub."""
    try:
        found = AutoConfig.from_pretrained(location, local_files_only=True, **which)
        return found, FOLDER if Path(location).is_dir() else "the hub's cache"
    except (OSError, ValueError) as error:
        if Path(location).is_dir():
            raise UserError(f"base model {location}: its config.json cannot be read; repair it") from error
    if location in KNOWN:
        shape = dict(KNOWN[location])
        return AutoConfig.for_model(shape.pop("model_type"), **shape), "the built-in table"
    try:
        return AutoConfig.from_pretrained(location, **which), "the hub"
    except (OSError, ValueError) as error:
        raise UserError(
            f"base model {location!r}: its configuration is neither built in nor available from the hub; "
            "check the name and the connection, or give a local folder"
        ) from error


def dissect(config: Any, source: str, trusted: bool = False) -> Anatomy:
    """Counts the parameters of the model, built on the meta device, where tensors take no memory."""
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    head, text = built.get_output_embeddings(), config.get_text_config()
    layers = [m for m in built.modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head]
    matrices = [layer.weight for layer in layers]
    heads = text.num_attention_heads
    return Anatomy(
        parameters=int(built.num_parameters()),
        linear=sum(matrix.numel() for matrix in matrices),
        sides=sum(sum(matrix.shape) for matrix in matrices),
        largest=max(matrix.numel() for matrix in matrices),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        attention=heads * (getattr(text, "head_dim", None) or text.hidden_size // heads),
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        source=source,
    )
