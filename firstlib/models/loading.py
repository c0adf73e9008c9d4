"""Loads causal language models from a folder or the hub, for full tuning, LoRA or QLoRA. Safetensors only."""

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

if TYPE_CHECKING:  # imported at run time only for adapters: it takes three seconds
    from peft import LoraConfig, PeftModel

LanguageModel: TypeAlias = "PreTrainedModel | PeftModel"

logging.disable_progress_bar()  # a bar per file would hide ours


def device() -> torch.device:
    """Returns this process's accelerator if there is one, else the CPU."""
    return PartialState().device


def _is_sharded() -> bool:
    """Returns whether accelerate shards a model over devices for training (FSDP or DeepSpeed)."""
    return any(os.environ.get(name) == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))


def base_location(model: Model) -> str:
    """Returns the base model's folder if it exists, else its hub name.

    Raises:
        UserError: The name is a path, but the folder does not exist.
    """
    folder = project_path(model.base)
    if (folder / "config.json").is_file():
        return str(folder)
    if model.base.count("/") != 1 or model.base.startswith((".", "/", "~", "data/")):
        raise UserError(f"base model {model.base!r}: no folder {folder} with a config.json; check the preset's `base`")
    return model.base


def base_identity(model: Model) -> str:
    """Returns a string that identifies the base model: a hash of its folder, or its hub name and commit."""
    location = Path(base_location(model))
    if location.is_dir():
        return files_hash(p for p in location.iterdir() if p.suffix in (".json", ".safetensors", ".model"))
    commit = getattr(_configuration(model), "_commit_hash", None) or model.revision
    return f"{model.base}@{commit}"


def _from_pretrained(loader: Any, model: Model, **options: Any) -> Any:
    """Loads part of the base model with a class of transformers; reports failures in one line."""
    location, trusted = base_location(model), _trust_remote_code(model)
    try:
        return loader.from_pretrained(location, revision=model.revision, trust_remote_code=trusted, **options)
    except Exception as error:  # transformers, safetensors and the hub raise many types
        reason = first_line(error)
        if "custom code" in reason:
            raise UserError(
                f"base model {model.base!r}: contains custom code, which is not run; review it, and if you trust it, "
                "set trust_remote_code and, for a hub model, set revision to a commit"
            ) from error
        raise UserError(
            f"base model {model.base!r}: cannot be loaded ({reason}); check its name, the connection and whether the "
            "hub requires a login, or give a local folder"
        ) from error


def _trust_remote_code(model: Model) -> bool:
    if model.trust_remote_code:
        message = f"base model {model.base!r}: trust_remote_code is set, so code from the model is run on this machine"
        warnings.warn(message, stacklevel=2)
    return model.trust_remote_code


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Loads the base model's tokenizer; if it has no padding token, the end token is used for padding."""
    tokenizer = _from_pretrained(AutoTokenizer, model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_same_tokens(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
    """Checks that teacher and student have the same tokens; only the padding of their heads may differ.

    Raises:
        UserError: A token differs; the message names the first.
    """
    of_teacher, of_student = ({i: token for token, i in each.get_vocab().items()} for each in (teacher, student))
    for i in sorted(of_teacher.keys() | of_student.keys()):
        if of_teacher.get(i) != of_student.get(i):
            raise UserError(
                f"teacher and student: token {i} is {of_teacher.get(i)!r} for the teacher ({teacher.name_or_path}) and "
                f"{of_student.get(i)!r} for the student ({student.name_or_path}); choose a pair with one vocabulary"
            )


def load_base(model: Model, place: bool = True) -> PreTrainedModel:
    """Loads the base model; for QLoRA, its weights are quantised to 4-bit NF4 with double quantisation.

    Args:
        model: The model's settings.
        place: Whether to place it on this process's device; otherwise accelerate does.

    Raises:
        UserError: The model cannot be loaded, or some of its weights are missing.
    """
    dtype = getattr(torch, model.dtype)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    base, info = _from_pretrained(
        AutoModelForCausalLM,
        model,
        dtype=dtype,
        use_safetensors=True,
        quantization_config=four_bit if model.tuning == "qlora" else None,
        device_map={"": device()} if place else None,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"base model {model.base!r}: {len(missing)} of its weights are missing from its files, first "
            f"{missing[0]}; check that it is a causal language model and that config.json belongs to it"
        )
    return base


def load_for_training(model: Model, seed: int) -> LanguageModel:
    """Loads the base model for tuning, with a new adapter for LoRA and QLoRA."""
    base = load_base(model, place=not _is_sharded())
    if model.tuning == "full":
        return base
    from peft import get_peft_model, prepare_model_for_kbit_training

    if model.tuning == "qlora":
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)  # the Trainer sets it
    torch.manual_seed(seed)  # the adapter's initial weights are random
    return get_peft_model(base, _lora_config(model))


def load_trained(model: Model, folder: Path) -> LanguageModel:
    """Loads a tuned model, or the base model with its tuned adapter, for inference."""
    if not (folder / "adapter_config.json").is_file():
        dtype = getattr(torch, model.dtype)
        trusted = _trust_remote_code(model)
        tuned = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, device_map={"": device()}, trust_remote_code=trusted
        )
        return tuned.eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(model), folder).eval()


def causal_model(model: LanguageModel) -> Any:
    """Returns the model without a surrounding adapter."""
    inner: Any = model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def body_and_head(model: LanguageModel) -> tuple[torch.nn.Module, torch.nn.Linear]:
    """Returns the decoder, which computes hidden states, and the output head over the vocabulary."""
    inner = causal_model(model)
    return inner.get_decoder(), inner.get_output_embeddings()


def logit_form(model: LanguageModel) -> tuple[float, float | None]:
    """Returns the factor (Cohere, Granite) and then the soft cap (Gemma 2, else None) applied to the head's output."""
    config: Any = model.config.get_text_config()
    divisor = getattr(config, "logits_scaling", None) or 1.0
    scale = getattr(config, "logit_scale", None) or 1.0
    return scale / divisor, getattr(config, "final_logit_softcapping", None)


def head_has_rows(model: LanguageModel) -> bool:
    """Returns whether the output head is a plain matrix in this process, so that some of its rows can be applied."""
    head = body_and_head(model)[1]
    return type(head) is torch.nn.Linear and not hasattr(head, "_hf_hook")


def logits_of(model: LanguageModel, hidden: torch.Tensor, first: int = 0, end: int | None = None) -> torch.Tensor:
    """Returns float32 logits `(N, V)` of last hidden states `(N, D)`, for all tokens or for `first` up to `end`."""
    scale, cap = logit_form(model)
    head, rows = body_and_head(model)[1], slice(first, end)
    if (first or end) and head_has_rows(model):
        bias = None if head.bias is None else head.bias[rows]
        logits: torch.Tensor = torch.nn.functional.linear(hidden, head.weight[rows], bias).float()
    else:
        logits = head(hidden)[..., rows].float()
    if scale != 1:
        logits = logits * scale
    return logits if cap is None else cap * torch.tanh(logits / cap)


def parameter_count(model: Model) -> int:
    """Returns a base model's number of parameters, from its configuration alone."""
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(_configuration(model), trust_remote_code=model.trust_remote_code)
        return int(built.num_parameters())


def description(model: Model) -> str:
    """Describes a model in one line: base, size, tuning, type of the weights, and device."""
    size = f"{parameter_count(model):,} parameters"
    return f"{model.base}: {size}, tuning {model.tuning}, weights in {model.dtype}, on {device()}"


def context_length(model: Model) -> int | None:
    """Returns a base model's maximum number of tokens, or None if its configuration does not say."""
    found = getattr(_configuration(model).get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None


def vocabulary_size(model: Model) -> int:
    """Returns the number of rows of the output head."""
    return int(_configuration(model).get_text_config().vocab_size)


def _configuration(model: Model) -> Any:
    return _from_pretrained(AutoConfig, model)


def _lora_config(model: Model) -> "LoraConfig":
    from peft import LoraConfig

    return LoraConfig(
        r=model.lora.rank, lora_alpha=model.lora.alpha, lora_dropout=model.lora.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
