"""vLLM as an engine for extraction: the same top-k as `extract_top_k`, sooner on a large GPU. Optional.

Written against vLLM 0.30, whose names are used as its reference gives them (docs.vllm.ai, `api/vllm/`):
`LLM.generate(prompts, sampling_params, *, use_tqdm, lora_request)` gives a `RequestOutput` for each prompt, in order,
with `prompt_token_ids` and `prompt_logprobs`; the latter holds for each token of the prompt a dict from token id to
`Logprob(logprob, rank, decoded_token)`, None or empty for the first (`logprobs`; `FlatLogprobs` acts as such a list).
`SamplingParams(prompt_logprobs=k)` gives the k most probable tokens and the prompt's own, k or k + 1 in all
(`sampling_params`). `LLM(max_logprobs=...)` is 20 if not set, and a larger k is refused (`config/model`).

What vLLM cannot give is the mass of the tokens outside the k (so the residual is 1 minus the sum, exact to about 1e-6),
a normaliser at any temperature, and a softmax without the padding of the vocabulary.
"""

import importlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstlib.knowledge.top_k import TopK
from firstlib.models.loading import base_location
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps
from firstlib.runtime.sequences import select
from firstlib.settings.schema import Model
from firstlib.tasks.encoding import Encoded, longest_first

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what `max_lora_rank` may be (`config/lora`)
DEFAULT_LOGPROBS = 20  # `max_logprobs`, where it is not set
SPARE = 5  # more than k are asked for where some may be padding of the vocabulary
ROUNDING = 1e-6
TOKENS = 2048  # forwarded at once: vLLM does not reckon with the logits that prompt_logprobs takes (issues 5907, 5550)


def extract_with_vllm(
    model: Model,
    folder: Path,
    encoded: Sequence[Encoded],
    k: int,
    batch: int = 512,
    *,
    temperatures: Sequence[float] = (),
    vocabulary: int | None = None,
    known: Collection[str] = (),
    **options: Any,
) -> Iterator[TopK]:
    """A trained model's top-k at every response position, teacher-forced, longest examples first: `extract_top_k`'s.

    The engine is let go when the last item is taken, and the accelerator's memory with it.

    Args:
        model: How the teacher was tuned: its base where `folder` holds an adapter, its dtype, and NF4 for QLoRA.
        folder: What `models.save` wrote: a whole model, or an adapter.
        encoded: Examples; only the positions of their responses are kept.
        k: Tokens to keep at a position.
        batch: Examples handed to vLLM at a time; it forms its own batches of them.
        temperatures: Must be empty: vLLM gives no normalisers.
        vocabulary: Ids that are tokens (default: all); the padding after them gets no mass.
        known: Ids of examples that an earlier try has done.
        options: Of `vllm.LLM`, for example `tensor_parallel_size`; they override ours.

    Raises:
        UserError: vLLM is not installed; temperatures are asked for; a logarithm is no number.
    """
    if temperatures:
        raise UserError(
            f"knowledge.temperatures: vLLM gives no normalisers at {list(temperatures)}; leave it empty, or set "
            "knowledge.engine=transformers"
        )
    encoded = select(encoded, [place for place, example in enumerate(encoded) if example.id not in known])
    if not encoded:
        return iter(())
    vllm = _module("vllm")
    asked = k if vocabulary is None else k + SPARE
    longest = max(len(example.token_ids) for example in encoded)
    engine = vllm.LLM(**{**engine_options(model, folder, asked, longest), **options})
    parameters = vllm.SamplingParams(
        prompt_logprobs=asked, max_tokens=1, temperature=0.0, detokenize=False, flat_logprobs=True
    )
    request = {"use_tqdm": False, "lora_request": _adapter(folder)}
    ordered = select(encoded, longest_first(encoded))
    return _extract(lambda prompts: engine.generate(prompts, parameters, **request), ordered, k, batch, vocabulary)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"knowledge.engine: vLLM cannot be imported ({error}); pip install firstlib[vllm], or set "
            "knowledge.engine=transformers"
        ) from error


def engine_options(model: Model, folder: Path, asked: int, longest: int) -> dict[str, Any]:
    """The arguments of `vllm.LLM`; only what differs from its defaults, or must not follow them.

    Args:
        model: The teacher's settings.
        folder: Its weights: whole, or an adapter's.
        asked: Log-probabilities a position.
        longest: Tokens of the longest example; one more is generated, because vLLM cannot generate none.
    """
    rank = _rank(folder)
    options: dict[str, Any] = {
        "model": str(folder) if rank is None else base_location(model),
        "dtype": model.dtype,
        "skip_tokenizer_init": True,  # prompts are token ids, and the folder holds no tokenizer
        "max_model_len": longest + 1,
        "max_num_batched_tokens": TOKENS,
        "max_logprobs": max(asked, DEFAULT_LOGPROBS),
        "logprobs_mode": "raw_logprobs",  # the model's own, before any sampling setting
        "enable_prefix_caching": False,  # prompt_logprobs cannot use it
    }
    if rank is not None:
        options |= {"enable_lora": True, "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank)}
    if model.tuning == "qlora":
        options["quantization"] = "bitsandbytes"  # quantises to NF4 while loading
    return options


def _rank(folder: Path) -> int | None:
    """The rank of the adapter in a folder, None where there is none."""
    file = folder / "adapter_config.json"
    return int(json.loads(file.read_text(encoding="utf-8"))["r"]) if file.is_file() else None


def _adapter(folder: Path) -> Any:
    if _rank(folder) is None:
        return None
    return _module("vllm.lora.request").LoRARequest("teacher", 1, str(folder))


def _extract(
    generate: Callable[[list[dict[str, list[int]]]], Sequence[Any]],
    encoded: Sequence[Encoded],
    k: int,
    batch: int,
    vocabulary: int | None,
) -> Iterator[TopK]:
    with steps("extracting with vLLM", len(encoded)) as at:
        for first in range(0, len(encoded), batch):
            examples = encoded[first : first + batch]
            outputs = generate([{"prompt_token_ids": list(example.token_ids)} for example in examples])
            for output, example in zip(outputs, examples, strict=True):
                yield top_k_of_output(output, example, k, vocabulary)
            at(first + len(examples))


def top_k_of_output(output: Any, example: Encoded, k: int, vocabulary: int | None = None) -> TopK:
    """The knowledge in one `RequestOutput`.

    Raises:
        UserError: It is on another prompt, it holds fewer than k tokens at a position, or a logarithm is no number.
    """
    told = output.prompt_logprobs
    if list(output.prompt_token_ids) != list(example.token_ids) or told is None or len(told) != len(example.token_ids):
        raise UserError(f"example {example.id}: vLLM answered with other positions; set knowledge.engine=transformers")
    positions = range(example.start, len(example.token_ids))
    rows = [_row(told[at], k, vocabulary, f"example {example.id}, position {at}") for at in positions]
    probabilities = np.array([row[1] for row in rows])
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1)  # float32 may pass 1 a little
    residual = np.clip(1 - probabilities.sum(axis=1), 0, 1)
    nothing = np.zeros((len(rows), 0))
    return TopK(example.id, np.array(positions), np.array([row[0] for row in rows]), probabilities, residual, nothing)


def _row(told: Mapping[int, Any], k: int, vocabulary: int | None, where: str) -> tuple[list[int], list[float]]:
    """Ids and probabilities of the k most probable tokens; the prompt's own is told too, whatever its rank."""
    if any(math.isnan(entry.logprob) for entry in told.values()):
        raise UserError(f"{where}: vLLM gives NaN; load the teacher with another dtype")
    ordered = sorted(told, key=lambda i: (-told[i].logprob, told[i].rank or 0))
    kept = [i for i in ordered if vocabulary is None or i < vocabulary][:k]
    if len(kept) < k:
        raise UserError(f"{where}: vLLM tells {len(kept)} tokens of the vocabulary, not {k}; set a smaller knowledge.k")
    padding = math.fsum(math.exp(told[i].logprob) for i in told if vocabulary is not None and i >= vocabulary)
    return kept, [math.exp(told[i].logprob) / max(1 - padding, ROUNDING) for i in kept]
