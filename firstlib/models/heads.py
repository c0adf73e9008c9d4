"""Hidden states to logits: a model's decoder, its output head, and what its family does to the head's output.

Losses and extraction apply the head to few positions and in blocks, so they do not call the model itself. What they
compute is compared with the model's own forward pass once after loading (`check_own_logits`).
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from transformers import PreTrainedModel

from firstlib.runtime.errors import UserError

if TYPE_CHECKING:  # imported at run time only for adapters: it takes three seconds
    from peft import PeftModel

LanguageModel: TypeAlias = "PreTrainedModel | PeftModel"

# What families call the factor on the head's output, by the name of the setting.
_FACTORS = ("logit_scale", "lm_head_multiplier")  # Cohere; Falcon-H1
_DIVISOR = "logits_scaling"  # Granite divides by it
_MULTIPLIED = ("hyperclovax",)  # families that multiply by it instead
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # Gemma; RecurrentGemma; xLSTM

# What families raise when they are read in a way that they do not know.
COMPLAINTS = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)
HEAD_BLOCK = 2**12  # rows of a head in half precision that are copied to float32 at once
_PROBE = 8  # tokens of the text on which both computations are compared
# Largest difference, as a share of the largest logit: rounding of the number formats, with room for sums in any order.
_ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}


def causal_model(model: LanguageModel) -> Any:
    """Returns the model without a surrounding adapter."""
    inner: Any = model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def body_and_head(model: LanguageModel) -> tuple[torch.nn.Module, torch.nn.Linear]:
    """Returns the decoder, which computes hidden states, and the output head over the vocabulary."""
    inner = causal_model(model)
    return inner.get_decoder(), inner.get_output_embeddings()


def logit_form(model: LanguageModel) -> tuple[float, float | None]:
    """Returns the factor and then the soft cap (None: no cap) that the model's family applies to the head's output."""
    config: Any = model.config.get_text_config()
    scale = getattr(config, _DIVISOR, None) or 1.0
    factor = scale if config.model_type.startswith(_MULTIPLIED) else 1 / scale
    for name in _FACTORS:
        factor *= getattr(config, name, None) or 1.0
    return factor, next((cap for name in _CAPS if (cap := getattr(config, name, None))), None)


def head_has_rows(model: LanguageModel) -> bool:
    """Returns whether the output head is a plain matrix in this process, so that some of its rows can be applied."""
    head = body_and_head(model)[1]
    return type(head) is torch.nn.Linear and not hasattr(head, "_hf_hook")


def logits_of(model: LanguageModel, hidden: torch.Tensor, first: int = 0, end: int | None = None) -> torch.Tensor:
    """Returns float32 logits `(N, V)` of last hidden states `(N, D)`, for all tokens or for `first` up to `end`.

    Products of a head in half precision stay in float32. Rounded to bfloat16, logits around 20 are multiples of 1/8,
    and choices tie: `scripts/half_precision.py` counts how often.
    """
    scale, cap = logit_form(model)
    head, rows = body_and_head(model)[1], slice(first, end)
    hidden = hidden.to(head.weight.dtype) if head.weight.is_floating_point() else hidden  # xLSTM returns float32
    if head_has_rows(model):
        logits = _products(hidden, head.weight[rows])
        logits = logits if head.bias is None else logits + head.bias[rows]
    else:
        logits = head(hidden)[..., rows].float()
    if scale != 1:
        logits = logits * scale
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _products(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns `hidden @ weight.T` in float32, without rounding it to the number format of both."""
    if weight.dtype.itemsize >= torch.float32.itemsize:
        return torch.nn.functional.linear(hidden, weight).float()
    if weight.is_cuda and torch.version.cuda:  # not AMD's, which may lack it
        return torch.mm(hidden.flatten(0, -2), weight.T, out_dtype=torch.float32).unflatten(0, hidden.shape[:-1])
    with torch.autocast(weight.device.type, enabled=False):  # it would round the products
        wide, products = hidden.float(), hidden.new_empty(*hidden.shape[:-1], len(weight), dtype=torch.float32)
        for first in range(0, len(weight), HEAD_BLOCK):
            block = slice(first, first + HEAD_BLOCK)
            products[..., block] = wide @ weight[block].float().T
    return products


def agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Returns whether two ways to the same numbers differ by no more than rounding."""
    return float((found - expected).abs().max()) <= _rounding(expected.dtype) * float(expected.abs().max())


def _rounding(dtype: torch.dtype) -> float:
    return _ROUNDING.get(dtype, _ROUNDING[torch.bfloat16])


@torch.no_grad()
def check_own_logits(model: LanguageModel, name: str) -> None:
    """Checks on one short text that `logits_of` the decoder's states are the logits of the model's own forward pass.

    Args:
        model: A loaded model; its mode is kept.
        name: How the message calls it.

    Raises:
        UserError: They differ by more than rounding: its family does something to the logits that is not known here.
    """
    training = model.training
    model.eval()
    try:
        ours, own = _both_logits(model)
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"base model {name!r}: its decoder and output head cannot be applied one by one ({error}); choose another"
        ) from error
    finally:
        model.train(training)
    difference, largest = float((ours - own).abs().max()), float(own.abs().max())
    if difference > _rounding(model.dtype) * max(largest, 1e-6):
        raise UserError(
            f"base model {name!r}: its own logits differ from its output head's by up to {difference:.3g} (largest "
            f"logit {largest:.3g}); the family {model.config.model_type!r} changes logits in an unknown way, so every "
            "probability would be wrong; choose another model"
        )


def _both_logits(model: LanguageModel) -> tuple[torch.Tensor, torch.Tensor]:
    body, head = body_and_head(model)
    ids = torch.arange(_PROBE, device=head.weight.device)[None] % model.config.get_text_config().vocab_size
    hidden = body(input_ids=ids, use_cache=False).last_hidden_state
    own = causal_model(model)(input_ids=ids, use_cache=False).logits.float()
    ours = logits_of(model, hidden)
    if not own.isfinite().all():  # broken weights: asking and training report them
        return ours.nan_to_num(), ours.nan_to_num()
    return ours, own
