"""GGUF files, as llama.cpp, Ollama and LM Studio keep models: imported as plain transformers folders, or refused.

What transformers would lose without a word is refused here: tensors that it does not use, keys that it does not read, a
tokenizer that splits text in another way.
"""

import shutil
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedConfig, PreTrainedModel
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf.utils import is_gguf_arch_supported
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from firstlib.models.gguf_file import STAGE, Contents, all_of, contents, joined, naming
from firstlib.models.gguf_keys import check_keys, name_in_transformers
from firstlib.models.gguf_tokens import check_tokenizer, is_guessed, save_tokenizer
from firstlib.runtime.artefacts import check_replaceable, write_manifest
from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.hashing import content_hash

_SHOWN = 8  # names in a message
_EXPERTS = "_exps."  # tensors of several experts, which transformers unpacks under other names


def import_gguf(files: Sequence[str | Path], to: str | Path) -> Path:
    """Writes a model from GGUF as a plain folder: float32 safetensors, configuration, tokenizer and manifest.

    Args:
        files: One file, or the parts of one in order.
        to: A new or empty folder, or that of an earlier import.

    Raises:
        UserError: The files are not a whole model, or transformers cannot read it without loss.
    """
    to = Path(to).expanduser().resolve()
    check_replaceable(to, STAGE)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as place:
        parts, made = all_of([Path(file).expanduser() for file in files]), Path(place) / "made"
        whole = joined(parts, Path(place))
        with naming(parts, whole):
            found = contents(whole)
            convert(found, made)
        inputs = found.provenance()
        write_manifest(made, stage=STAGE, key=content_hash(inputs), inputs=inputs, seconds=0)
        shutil.rmtree(to, ignore_errors=True)
        made.rename(to)
    return to


def convert(found: Contents, to: Path) -> None:
    """Writes model and tokenizer of a file to a folder.

    Raises:
        UserError: Part of it would be lost.
    """
    check_architecture(found)
    check_factors(found)
    check_keys(found, _configuration(found))
    if is_guessed(found):
        warnings.warn(
            f"{found.path.name}: does not say how its model splits text; llama.cpp's default rule is used, "
            "as llama.cpp does, and the model may be worse for it",
            stacklevel=2,
        )
    save_tokenizer(found, to)
    model = _load(found)
    model.save_pretrained(to)
    check_tokenizer(AutoTokenizer.from_pretrained(to), found)  # as it will be used: loaded beside the configuration


def check_architecture(found: Contents) -> None:
    """Checks that transformers reads the file's architecture.

    Raises:
        UserError: It does not.
    """
    family = found.architecture
    known = {name.replace("_", "-") for name in GGUF_CONFIG_MAPPING} - {"general", "tokenizer"}
    if name_in_transformers(family).replace("_", "-") not in known and not is_gguf_arch_supported(family):
        raise UserError(
            f"{found.path}: transformers reads no GGUF of the architecture {family[:60]!r}; use the model's original "
            f"folder (it reads {', '.join(sorted(known)[:_SHOWN])} and {max(0, len(known) - _SHOWN)} others)"
        )


def check_factors(found: Contents) -> None:
    """Checks that no tensor scales positions: transformers reads none.

    Raises:
        UserError: One does.
    """
    for name in found.types:
        if name.startswith(("rope_freqs", "rope_factors")):
            raise UserError(
                f"{found.path}: scales positions by its tensor {name}, as Llama 3.1 does, which transformers would "
                "lose; use the model's original folder"
            )


def _configuration(found: Contents) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(found.path.parent, gguf_file=found.path.name)
    except Exception as error:  # as below
        raise _unreadable(found, error) from error
    return config


def _load(found: Contents) -> PreTrainedModel:
    file = found.path
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,  # exact for every type of block
            quantization_config=GgufConfig(dequantize=True),  # otherwise it can be neither trained nor saved
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    except Exception as error:  # transformers and gguf raise many types
        raise _unreadable(found, error) from error
    model, info = loaded
    _refuse(file, [str(each[0]) for each in info["mismatched_keys"]], "weights have another shape than its keys say")
    _refuse(file, info["missing_keys"], "weights are not in the file")
    _refuse(file, {*info["unexpected_keys"], *unused_tensors(found, model)}, "tensors would be lost in transformers")
    weights = dict(model.named_parameters())
    broken = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    _refuse(file, broken, "weights are not finite, so the file is damaged or its parts are in another order")
    empty = [name for name, weight in weights.items() if weight.ndim > 1 and not bool(weight.any())]
    _refuse(file, empty, "matrices hold zeros alone, as after an interrupted download")
    return model


def _unreadable(found: Contents, error: Exception) -> UserError:
    told = first_line(error)[:200]
    return UserError(
        f"{found.path}: transformers cannot read it ({told}); get it again, or use the model's original folder"
    )


def unused_tensors(found: Contents, model: PreTrainedModel) -> list[str]:
    """Returns the names of the tensors that transformers leaves out without a word, such as unexpected biases."""
    if is_gguf_arch_supported(found.architecture):
        return []  # that loader reports them itself
    config: dict[str, Any] = model.config.to_dict()
    processor = TENSOR_PROCESSORS.get(found.architecture, TensorProcessor)(config=config)
    used = get_gguf_hf_weights_map(model, processor)
    return [name for name in found.types if name not in used and _EXPERTS not in name]


def _refuse(file: Path, names: Iterable[str], what: str) -> None:
    if found := sorted(names):
        raise UserError(
            f"{file}: {len(found)} {what}, first {found[0]}; use another file, or the model's original folder"
        )
