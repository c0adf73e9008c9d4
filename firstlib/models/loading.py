"""Loads causal language models from a folder, a GGUF file or the hub, for full tuning, LoRA or QLoRA.

Weights are safetensors only; a GGUF file is imported into a folder of them first.
"""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

from firstlib.models.heads import LanguageModel, check_own_logits
from firstlib.models.places import base_location, trusts_remote_code
from firstlib.runtime.errors import UserError, first_line
from firstlib.settings.schema import Model

if TYPE_CHECKING:  # imported at run time only for adapters: it takes three seconds
    from peft import LoraConfig

logging.disable_progress_bar()  # a bar per file would hide ours


def device() -> torch.device:
    """Returns this process's accelerator if there is one, else the CPU."""
    return PartialState().device


def _is_sharded() -> bool:
    """Returns whether accelerate shards a model over devices for training (FSDP or DeepSpeed)."""
    return any(os.environ.get(name) == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))


def _from_pretrained(loader: Any, model: Model, **options: Any) -> Any:
    """Loads part of the base model with a class of transformers; reports failures in one line."""
    location, trusted = base_location(model), trusts_remote_code(model)
    try:
        return loader.from_pretrained(location, revision=model.revision, trust_remote_code=trusted, **options)
    except Exception as error:  # transformers, safetensors and the hub raise many types
        reason = first_line(error)
        if "custom code" in reason:
            raise UserError(
                f"base model {model.base!r}: contains custom code, which is not run; review it, and if you trust it, "
                "set trust_remote_code and, for a hub model, set revision to a commit"
            ) from error
        if _only_pickled(location, reason):
            raise UserError(
                f"base model {model.base!r}: cannot be loaded ({reason[:160]}): its weights are a pickle "
                "(pytorch_model.bin), which may run code and is not read; if you trust it, load it once with "
                "transformers and save_pretrained it, which writes safetensors, or take a hub revision that has them"
            ) from error
        if Path(location).is_dir():
            raise UserError(
                f"base model {model.base!r}: cannot be loaded ({reason}); check the files of {location}"
            ) from error
        raise UserError(
            f"base model {model.base!r}: cannot be loaded ({reason}); check its name, the connection and whether the "
            "hub requires a login, or give a local folder"
        ) from error


def _only_pickled(location: str, reason: str) -> bool:
    """Returns whether loading failed because the weights are not safetensors."""
    if Path(location).is_dir():
        names = {path.suffix for path in Path(location).iterdir()}
        return ".bin" in names and ".safetensors" not in names
    return "safetensors" in reason and "does not appear to have a file" in reason


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Loads the base model's tokenizer; if it has no padding token, the end token is used for padding.

    Raises:
        UserError: It cannot be loaded, has no fast version, or names no end token.
    """
    tokenizer = _from_pretrained(AutoTokenizer, model)
    if not tokenizer.is_fast:
        raise UserError(
            f"base model {model.base!r}: its tokenizer ({type(tokenizer).__name__}) has no fast version, and only "
            "those tell where a response begins; add a tokenizer.json, or choose another model"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"base model {model.base!r}: its tokenizer names no end token, with which every response ends; set "
            "eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_same_tokens(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
    """Checks that every token that both have is the same one; padding of the heads may differ.

    Tokens that only one side has beyond the other's (a padding token, markers of a chat) and added tokens that were
    renamed are allowed with a warning: no text that both encode alike contains them.

    Raises:
        UserError: A token differs; the message names the first.
    """
    of_teacher, of_student = ({i: token for token, i in each.get_vocab().items()} for each in (teacher, student))
    shared = min(max(of_teacher), max(of_student)) + 1
    renamed = []
    for i in range(shared):
        if of_teacher.get(i) == of_student.get(i):
            continue
        if all(i in each.added_tokens_decoder and i not in _roles(each) for each in (teacher, student)):
            renamed.append(i)
            continue
        raise UserError(
            f"teacher and student: token {i} is {of_teacher.get(i)!r} for the teacher ({teacher.name_or_path}) and "
            f"{of_student.get(i)!r} for the student ({student.name_or_path}); choose a pair with one vocabulary"
        )
    beyond = sorted(i for i in of_teacher.keys() | of_student.keys() if i >= shared)
    if beyond or renamed:
        first = (beyond or renamed)[0]
        told = of_teacher.get(first) or of_student.get(first)
        warnings.warn(
            f"teacher and student: {len(beyond)} tokens only one of them has and {len(renamed)} added tokens are "
            f"renamed, first {first} ({told!r}); the others are shared, and these carry no knowledge",
            stacklevel=2,
        )


def _roles(tokenizer: PreTrainedTokenizerBase) -> set[int | None]:
    """Returns the ids of the tokens that stand in every text: none of them may be renamed."""
    return {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}


def load_base(model: Model, place: bool = True) -> PreTrainedModel:
    """Loads the base model; for QLoRA, its weights are quantised to 4-bit NF4 with double quantisation.

    Args:
        model: The model's settings.
        place: Whether to place it on this process's device; otherwise accelerate does.

    Raises:
        UserError: The model cannot be loaded, some of its weights are missing, or its logits cannot be computed from
            its decoder and its output head.
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
    if model.tuning == "qlora":
        _keep_differentiable(base)
    if place:  # a model that accelerate shards cannot be asked yet
        check_own_logits(base, model.base)
    return base


def _keep_differentiable(base: PreTrainedModel) -> None:
    """Keeps bitsandbytes from packing four-bit layers for a processor with instructions for bfloat16.

    It packs them the first time that they are asked, and from then on no gradient passes through them, in training too.
    """
    layers: Iterable[Any] = base.modules()
    for layer in layers:
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def load_for_training(model: Model, seed: int) -> LanguageModel:
    """Loads the base model for tuning, with a new adapter for LoRA and QLoRA."""
    base = load_base(model, place=not _is_sharded())
    if model.tuning == "full":
        return base
    from peft import get_peft_model, prepare_model_for_kbit_training

    if model.tuning == "qlora":
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)  # the Trainer sets it
    torch.manual_seed(seed)  # the adapter's initial weights are random
    try:
        return get_peft_model(base, _lora_config(model, base.config.model_type))
    except ValueError as error:  # a name that no layer has, or a layer that cannot have an adapter
        raise UserError(
            f"lora.targets: {first_line(error)[:200]}; name layers of {model.base!r}, or leave lora.targets out"
        ) from error


def load_trained(model: Model, folder: Path) -> LanguageModel:
    """Loads a tuned model, or the base model with its tuned adapter, for inference."""
    if not (folder / "adapter_config.json").is_file():
        dtype = getattr(torch, model.dtype)
        trusted = trusts_remote_code(model)
        tuned = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, device_map={"": device()}, trust_remote_code=trusted
        )
        return tuned.eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(model), folder).eval()


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


def commit(model: Model) -> str:
    """Returns the commit of a model on the hub, or the revision that the settings name."""
    return getattr(_configuration(model), "_commit_hash", None) or model.revision


def _configuration(model: Model) -> Any:
    return _from_pretrained(AutoConfig, model)


# Peft refuses adapters on these layers: fused kernels of state-space models read their weights past the adapter.
_FUSED = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}
_FUSED_LAYERS = ["out_proj", "conv1d"]


def _lora_config(model: Model, family: str = "") -> "LoraConfig":
    from peft import LoraConfig

    targets = list(model.lora.targets)
    return LoraConfig(
        r=model.lora.rank, lora_alpha=model.lora.alpha, lora_dropout=model.lora.dropout, task_type="CAUSAL_LM",
        target_modules=targets or "all-linear",
        exclude_modules=_FUSED_LAYERS if family in _FUSED and not targets else None,
    )  # fmt: skip
