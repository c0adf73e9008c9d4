"""Decoder layers: what each one changes, and a model without some of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from firstlib.models.heads import LanguageModel, body_and_head, logits_of
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps

_ROWS = 256  # positions whose logits are in memory at once


def layers_of(model: LanguageModel) -> torch.nn.ModuleList:
    """Returns the decoder's layers.

    Raises:
        UserError: The model keeps them in another form.
    """
    layers = getattr(body_and_head(model)[0], "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise UserError(f"base model: the family {model.config.model_type!r} has no list of layers; choose another")
    return layers


@torch.inference_mode()
def influences(model: LanguageModel, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the influence of each layer `(L,)`: 1 minus the mean cosine of what goes in and what comes out.

    Block influence: Men et al. 2024, https://arxiv.org/abs/2403.03853, Eq. 1.

    Args:
        model: Any causal language model with a list of layers.
        texts: Token ids.
    """
    layers = layers_of(model)
    sums, count = np.zeros(len(layers)), 0
    body, head = body_and_head(model)
    for text in texts:
        with _recorded(layers) as pairs:
            body(input_ids=torch.tensor([text], device=head.weight.device), use_cache=False)
        for at, (before, after) in pairs.items():
            sums[at] += torch.nn.functional.cosine_similarity(before, after, dim=-1).sum().item()
        count += len(text)
    return 1 - sums / count


@contextmanager
def _recorded(layers: torch.nn.ModuleList) -> Iterator[dict[int, tuple[torch.Tensor, torch.Tensor]]]:
    """Keeps what goes into each layer and what comes out, in float32."""
    pairs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def keep(at: int, _: Any, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        pairs[at] = _input(given, named).float(), (made[0] if isinstance(made, tuple) else made).float()

    hooks = [layer.register_forward_hook(partial(keep, at), with_kwargs=True) for at, layer in enumerate(layers)]
    try:
        yield pairs
    finally:
        for hook in hooks:
            hook.remove()


def _input(given: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """The hidden states that a layer was called with, by place or by name."""
    found: torch.Tensor = given[0] if given else named["hidden_states"]
    return found


@torch.inference_mode()
def text_nll(model: LanguageModel, texts: Sequence[Sequence[int]]) -> float:
    """Returns the mean negative log-likelihood of each token given those before it, in nats."""
    body, head = body_and_head(model)
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([text], device=head.weight.device)
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
        for rows, right in zip(hidden.split(_ROWS), ids[0, 1:].split(_ROWS), strict=True):
            total += torch.nn.functional.cross_entropy(logits_of(model, rows), right, reduction="sum").item()
        count += len(text) - 1
    return total / count


def drop_layers(model: PreTrainedModel, dropped: Sequence[int]) -> PreTrainedModel:
    """Removes layers in place, and from the configuration; returns the model.

    Raises:
        UserError: The model keeps its layers in another form.
    """
    layers, config = layers_of(model), model.config.get_text_config()
    kept = [at for at in range(len(layers)) if at not in set(dropped)]
    for name, value in list(vars(config).items()):  # one entry a layer: the kinds of attention, for example
        if isinstance(value, list) and len(value) == len(layers) and not name.endswith("token_id"):
            setattr(config, name, [value[at] for at in kept])
    config.num_hidden_layers = len(kept)
    body: Any = body_and_head(model)[0]
    body.layers = torch.nn.ModuleList(layers[at] for at in kept)
    for at, layer in enumerate(body.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = at
    _check_configuration(model)
    return model


def _check_configuration(model: PreTrainedModel) -> None:
    """A configuration that names layers by number, or every second one, no longer describes what is left."""
    with torch.device("meta"):
        described = type(model)(model.config).state_dict()
    if wrong := sorted(described.keys() ^ model.state_dict().keys()):
        raise UserError(
            f"{model.config.model_type}: its configuration says by number which layers are of which kind, and would no "
            f"longer fit ({wrong[0]}); layers of such a model cannot be dropped"
        )


@torch.inference_mode()
def nll_without_each(model: LanguageModel, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns what the texts cost without one layer at a time `(L,)`, in nats a token."""
    layers: Any = layers_of(model)
    costs = []
    with steps("leaving out layers", len(layers)) as at:
        for layer in layers:
            hook = layer.register_forward_hook(_passed_through, with_kwargs=True)
            costs.append(text_nll(model, texts))
            hook.remove()
            at(len(costs))
    return np.array(costs)


def _passed_through(_: Any, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> Any:
    before = _input(given, named)
    return (before, *made[1:]) if isinstance(made, tuple) else before
