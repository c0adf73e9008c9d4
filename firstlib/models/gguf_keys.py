"""What a GGUF file's keys say, compared with what transformers makes of them.

transformers reads some keys of each architecture and leaves out the rest without a word, so a model may be loaded with
other positions, another window or other caps than its file says. Here every key of a file's architecture is read by
transformers, agrees with the configuration that it made, or has no effect. A file with any other key is refused.
"""

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from math import isclose
from typing import Any

from transformers import PreTrainedConfig
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.gguf_config_mapping import get_gguf_config
from transformers.integrations.gguf.utils import is_gguf_arch_supported

from firstlib.models.gguf_file import Contents
from firstlib.runtime.errors import UserError

# Sizes that the shapes of the weights repeat, which are compared when they are loaded, and what changes no probability.
_CHECKED_BY_SHAPES = frozenset(
    ("vocab_size", "embedding_length", "block_count", "feed_forward_length", "expert_feed_forward_length",
     "expert_shared_feed_forward_length", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank")
)  # fmt: skip
_WITHOUT_EFFECT = frozenset(
    ("context_length", "tensor_data_layout", "pooling_type", "rope.scaling.finetuned", "decoder_start_token_id",
     "nextn_predict_layers", "use_parallel_residual")  # the last: all go by whether there is a second norm
)  # fmt: skip
# What llama.cpp requires of every file, where transformers would take its class's value instead.
_REQUIRED = ("block_count", "embedding_length")
_EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")  # one of them
_ORIGINAL = "rope.scaling.original_context_length"
_WINDOW, _PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"
_IMPLIED = {"rope.freq_base": 10000.0}  # llama.cpp's value of a missing key


def check_keys(found: Contents, config: PreTrainedConfig) -> None:
    """Checks that a configuration computes what a file's keys say.

    Args:
        found: The file.
        config: What transformers made of it.

    Raises:
        UserError: A key is lost, or lacks; names it.
    """
    family, said = found.architecture, _spelled_out(found.of_architecture(), config)
    read = _read_by_transformers(found, said)
    lacking = [key for key in _REQUIRED if key not in said] + ([] if {*_EPSILONS} & said.keys() else [_EPSILONS[0]])
    if lacking:
        raise UserError(f"{found.path}: lacks the key {family}.{lacking[0]}, so it is not a whole model; get it again")
    implied = {key: value for key, value in _IMPLIED.items() if _SAYS[key](config) is not None}
    for key, value in {**implied, **said}.items():
        if (key in read and key in said) or key in _CHECKED_BY_SHAPES | _WITHOUT_EFFECT:
            continue
        here = _SAYS[key](config) if key in _SAYS else _NEUTRAL.get(key)
        if not _same(key, value, here):
            stated = f"has {family}.{key} = {_short(value)}"
            made = f"would compute with {_short(here)}" if key in _SAYS and here is not None else "does not read it"
            raise UserError(f"{found.path}: {stated}, and transformers {made}; use the model's original folder")
    _check_attention_scale(found, config)


def _spelled_out(said: dict[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """A file's keys, in the words of a configuration: a window of at most all positions, and a layer's kind each."""
    said = {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}
    if _WINDOW in said:
        window = said[_WINDOW]
        said[_WINDOW] = [_seen(one, config) for one in window] if isinstance(window, list) else _seen(window, config)
    if isinstance(every := said.get(_PATTERN), int):  # every so many layers, one has no window
        said[_PATTERN] = [bool((layer + 1) % every) if every else False for layer in range(config.num_hidden_layers)]
    return said


def name_in_transformers(family: str) -> str:
    """Returns what transformers calls an architecture of llama.cpp.

    >>> name_in_transformers("qwen2moe"), name_in_transformers("minimax-m2")
    ('qwen2_moe', 'minimax_m2')
    """
    return {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}.get(family, family.replace("-", "_"))


def _read_by_transformers(found: Contents, said: Mapping[str, Any]) -> set[str]:
    """The architecture's keys that transformers reads."""
    family = found.architecture
    if is_gguf_arch_supported(family):
        asked = _Asked({**found.metadata, "tokenizer.ggml.tokens": len(found.metadata["tokenizer.ggml.tokens"])})
        get_gguf_config(asked, tuple(found.types))
        return {key for key in said if f"{family}.{key}" in asked.keys_read}
    mapping: Any = GGUF_CONFIG_MAPPING[name_in_transformers(family)]
    return {key for key, attribute in mapping.items() if attribute is not None}


class _Asked(dict[str, Any]):
    """A dictionary that remembers which of its keys were read."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.keys_read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_read.add(key)
        return super().get(key, default)


# -- what a configuration computes -------------------------------------------------------------------------------


def _rope(config: PreTrainedConfig, layers: str = "full_attention") -> dict[str, Any]:
    """The settings of rotary positions; empty where a model has none."""
    settings: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    of_layers: dict[str, Any] = settings.get(layers, {} if "sliding_attention" in settings else settings)
    return of_layers if layers == "full_attention" else settings.get(layers, {})


def _head_width(config: PreTrainedConfig) -> int | None:
    heads = getattr(config, "num_attention_heads", None)
    return getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else None)


def _rotated(config: PreTrainedConfig) -> int | None:
    width = _head_width(config)
    return int(width * _rope(config).get("partial_rotary_factor", 1.0)) if width and _rope(config) else None


def _epsilon(config: PreTrainedConfig) -> float | None:
    names = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def _window(config: PreTrainedConfig) -> int:
    """Positions that a layer with a window sees; all where none has one."""
    layers = getattr(config, "layer_types", None) or []
    used = "sliding_attention" in layers if layers else getattr(config, "use_sliding_window", True)
    return _seen(getattr(config, "sliding_window", None) if used else None, config)


def _seen(window: int | None, config: PreTrainedConfig) -> int:
    positions: int = getattr(config, "max_position_embeddings", sys.maxsize)
    return min(window or positions, positions)


def _pattern(config: PreTrainedConfig) -> list[bool]:
    return [layer == "sliding_attention" for layer in getattr(config, "layer_types", None) or []]


def _scaling(config: PreTrainedConfig) -> str:
    kind = str(_rope(config).get("rope_type", "default"))
    return "none" if kind == "default" else kind


_SAYS: dict[str, Callable[[PreTrainedConfig], Any]] = {
    "attention.head_count": lambda config: getattr(config, "num_attention_heads", 0),
    "attention.head_count_kv": lambda config: (
        getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 0)
    ),
    "attention.key_length": _head_width,
    "attention.value_length": _head_width,
    **dict.fromkeys(_EPSILONS, _epsilon),
    _WINDOW: _window,
    _PATTERN: _pattern,
    "attn_logit_softcapping": lambda config: getattr(config, "attn_logit_softcapping", None),
    "final_logit_softcapping": lambda config: getattr(config, "final_logit_softcapping", None),
    "expert_weights_norm": lambda config: getattr(config, "norm_topk_prob", None),
    "rope.dimension_count": _rotated,
    "rope.freq_base": lambda config: _rope(config).get("rope_theta"),
    "rope.freq_base_swa": lambda config: _rope(config, "sliding_attention").get("rope_theta"),
    "rope.scaling.type": _scaling,
    "rope.scaling.factor": lambda config: _rope(config).get("factor", 1.0),
    _ORIGINAL: lambda config: _rope(config).get("original_max_position_embeddings"),
}
# Values that say nothing, of keys that no configuration here has.
_NEUTRAL: dict[str, Any] = {
    "attention.causal": True,
    "expert_count": 0,
    "expert_used_count": 0,
    "expert_weights_scale": 1.0,
    "rope.scale_linear": 1.0,
    "rope.scaling.attn_factor": 1.0,
    "ssm.dt_b_c_rms": False,
}
_ZERO_IS_ONE = ("rope.scale_linear", "rope.scaling.factor")


def _same(key: str, said: Any, here: Any) -> bool:
    """Whether a key's value and a configuration's are one; GGUF keeps numbers in float32, and some as one a layer."""
    if isinstance(said, list):
        return said == here if isinstance(here, list) else all(_same(key, one, here) for one in said)
    if key == _ORIGINAL and here is None:
        return True  # without a scaling, which other keys tell, it has no effect; Phi-4 has it so
    if key == "rope.scaling.type":
        return (said or "none") == here
    if here is None or isinstance(here, str) or isinstance(said, str):
        return bool(said == here)
    return isclose(said or (key in _ZERO_IS_ONE), here, rel_tol=1e-5)


def _check_attention_scale(found: Contents, config: PreTrainedConfig) -> None:
    """Gemma divides by a number that a file does not hold: the width of a head in all but the largest models."""
    scalar, width = getattr(config, "query_pre_attn_scalar", None), found.of_model("attention.key_length")
    if scalar is not None and width is not None and scalar != width:
        raise UserError(
            f"{found.path}: its heads are {width} wide, and transformers would scale their attention as for {scalar}; "
            "use the model's original folder"
        )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, islice(value, 4))) + (", ...]" if len(value) > 4 else "]")
    return f"{value:.7g}" if isinstance(value, float) else str(value)[:60]
