"""Causal language models: loaded from a folder or the hub, tuned in full, by LoRA or by QLoRA. Safetensors only."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from accelerate import PartialState
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.hashing import files_hash
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Model

if TYPE_CHECKING:  # imported where an adapter is at hand: that takes three seconds
    from peft import LoraConfig, PeftModel

LanguageModel: TypeAlias = "PreTrainedModel | PeftModel"

logging.disable_progress_bar()  # a bar for every file that is read would bury ours


def device() -> torch.device:
    """This process's accelerator if there is one, else the processor."""
    return PartialState().device


def _divided() -> bool:
    """Whether accelerate divides a model that is trained between devices."""
    return any(os.environ.get(name) == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))


def base_location(model: Model) -> str:
    """The base model's folder if there is one of that name, else its hub name.

    Raises:
        UserError: The name looks like a folder, and there is none.
    """
    folder = project_path(model.base)
    if (folder / "config.json").is_file():
        return str(folder)
    if model.base.count("/") != 1 or model.base.startswith((".", "/", "~", "data/")):
        raise UserError(f"base model {model.base!r}: no folder {folder} with a config.json; check the preset's `base`")
    return model.base


def base_identity(model: Model) -> str:
    """What tells one base model from another: a folder's content, or the hub name with the commit that is loaded."""
    location = Path(base_location(model))
    if location.is_dir():
        return files_hash(p for p in location.iterdir() if p.suffix in (".json", ".safetensors", ".model"))
    commit = getattr(_configuration(model), "_commit_hash", None) or model.revision
    return f"{model.base}@{commit}"


def _had(loader: Any, model: Model, **options: Any) -> Any:
    """What a loader of transformers gives for the base model, from its folder, the cache or the hub."""
    location, trusted = base_location(model), _trusted(model)
    try:
        return loader.from_pretrained(location, revision=model.revision, trust_remote_code=trusted, **options)
    except Exception as error:  # transformers, safetensors and the hub raise many kinds
        reason = first_line(error)
        if "custom code" in reason:
            raise UserError(
                f"base model {model.base!r}: it brings code of its own, which is not run; read it, and if you trust it "
                "set its trust_remote_code and, for a hub name, its revision to a commit"
            ) from error
        raise UserError(
            f"base model {model.base!r}: cannot be loaded ({reason}); check its name, the connection and whether the "
            "hub wants a login for it, or give a local folder"
        ) from error


def _trusted(model: Model) -> bool:
    if model.trust_remote_code:
        message = f"base model {model.base!r}: trust_remote_code is set, so code that it brings along is run here"
        warnings.warn(message, stacklevel=2)
    return model.trust_remote_code


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The base model's tokenizer; the end token also pads where none is named."""
    tokenizer = _had(AutoTokenizer, model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_same_tokens(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
    """Makes sure that teacher and student mean the same by a token id; only the padding of their heads may differ.

    Raises:
        UserError: They do not; the first differing token is named.
    """
    ours, theirs = ({i: token for token, i in each.get_vocab().items()} for each in (teacher, student))
    for i in sorted(ours.keys() | theirs.keys()):
        if ours.get(i) != theirs.get(i):
            raise UserError(
                f"teacher and student: token {i} is {ours.get(i)!r} to the teacher ({teacher.name_or_path}) and "
                f"{theirs.get(i)!r} to the student ({student.name_or_path}); choose a pair with one vocabulary"
            )


def load_base(model: Model, place: bool = True) -> PreTrainedModel:
    """The base model as it comes; for QLoRA with its weights in 4-bit NF4, doubly quantised.

    Args:
        model: settings.
        place: whether to put it on this process's device; else accelerate will.

    Raises:
        UserError: It cannot be had, or not all of its weights are there.
    """
    dtype = getattr(torch, model.dtype)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    base, found = _had(
        AutoModelForCausalLM,
        model,
        dtype=dtype,
        use_safetensors=True,
        quantization_config=four_bit if model.tuning == "qlora" else None,
        device_map={"": device()} if place else None,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"base model {model.base!r}: {len(missing)} of its weights are in none of its files, the first is "
            f"{missing[0]}; is it a causal language model, and its config.json its own?"
        )
    return base


def load_for_training(model: Model, seed: int) -> LanguageModel:
    """The base model ready to be tuned as the settings say."""
    base = load_base(model, place=not _divided())
    if model.tuning == "full":
        return base
    from peft import get_peft_model, prepare_model_for_kbit_training

    if model.tuning == "qlora":
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)  # the Trainer does
    torch.manual_seed(seed)  # the adapter's first weights are random
    return get_peft_model(base, _adapter(model))


def load_trained(model: Model, folder: Path) -> LanguageModel:
    """A model that was tuned, or the base with the adapter that was, ready to be asked."""
    if not (folder / "adapter_config.json").is_file():
        dtype = getattr(torch, model.dtype)
        tuned = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, device_map={"": device()}, trust_remote_code=_trusted(model)
        )
        return tuned.eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(model), folder).eval()


def causal_model(model: LanguageModel) -> Any:
    """The model itself, without the adapter around it."""
    inner: Any = model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def body_and_head(model: LanguageModel) -> tuple[torch.nn.Module, torch.nn.Linear]:
    """The part that gives hidden states, and the output head over the vocabulary."""
    inner = causal_model(model)
    return inner.get_decoder(), inner.get_output_embeddings()


def logit_form(model: LanguageModel) -> tuple[float, float | None]:
    """What a family does to its head's products: a factor (Cohere, Granite), then a bound (Gemma 2), if any."""
    config: Any = model.config.get_text_config()
    divisor = getattr(config, "logits_scaling", None) or 1.0
    scale = getattr(config, "logit_scale", None) or 1.0
    return scale / divisor, getattr(config, "final_logit_softcapping", None)


def head_has_rows(model: LanguageModel) -> bool:
    """Whether the output head is a plain matrix in this process's memory, of which some rows can be applied alone."""
    head = body_and_head(model)[1]
    return type(head) is torch.nn.Linear and not hasattr(head, "_hf_hook")


def logits_of(model: LanguageModel, hidden: torch.Tensor, first: int = 0, end: int | None = None) -> torch.Tensor:
    """The model's own logits `(N, V)` from its last hidden states `(N, D)`, in float32; or only some tokens'."""
    scale, bound = logit_form(model)
    head, rows = body_and_head(model)[1], slice(first, end)
    if (first or end) and head_has_rows(model):
        bias = None if head.bias is None else head.bias[rows]
        logits: torch.Tensor = torch.nn.functional.linear(hidden, head.weight[rows], bias).float()
    else:
        logits = head(hidden)[..., rows].float()
    if scale != 1:
        logits = logits * scale
    return logits if bound is None else bound * torch.tanh(logits / bound)


def parameter_count(model: Model) -> int:
    """How many parameters a base model has, by its configuration alone."""
    with torch.device("meta"):
        blank = AutoModelForCausalLM.from_config(_configuration(model), trust_remote_code=model.trust_remote_code)
        return int(blank.num_parameters())


def description(model: Model) -> str:
    """What is used, in a line: the base, its size, how it is tuned, the type of its weights, and on what device."""
    size = f"{parameter_count(model):,} parameters"
    return f"{model.base}: {size}, tuning {model.tuning}, weights in {model.dtype}, on {device()}"


def context_length(model: Model) -> int | None:
    """Tokens that a base model can read at once, where its configuration says so."""
    found = getattr(_configuration(model).get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def vocabulary_size(model: Model) -> int:
    """Rows of the output head."""
    return int(_configuration(model).get_text_config().vocab_size)


def _configuration(model: Model) -> Any:
    return _had(AutoConfig, model)


def _adapter(model: Model) -> "LoraConfig":
    from peft import LoraConfig

    return LoraConfig(
        r=model.lora.rank, lora_alpha=model.lora.alpha, lora_dropout=model.lora.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
