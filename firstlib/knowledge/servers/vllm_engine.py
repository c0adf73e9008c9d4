"""Optional extraction with vLLM: the same top-k as `extract_top_k`, faster on a large GPU.

Follows the API reference of vLLM 0.30 (docs.vllm.ai, `api/vllm/`); untested with vLLM itself.
`LLM.generate(prompts, sampling_params, *, use_tqdm, lora_request)` returns a `RequestOutput` for each prompt, in order,
with `prompt_token_ids` and `prompt_logprobs`. The latter has, for each token of the prompt, a dict from token id to
`Logprob(logprob, rank, decoded_token)`, None or empty for the first (`logprobs`; `FlatLogprobs` acts as such a list).
`SamplingParams(prompt_logprobs=k)` returns the k most probable tokens and the prompt's own, k or k + 1 in all
(`sampling_params`). `LLM(max_logprobs=...)` defaults to 20, and a larger k is rejected (`config/model`).

vLLM returns neither the mass of the tokens outside the k (the residual is 1 minus the sum, exact to about 1e-6), nor
log normalisers, nor a softmax without the vocabulary's padding.
"""

import importlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstlib.knowledge.top_k import TopK
from firstlib.models.places import base_location
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import steps
from firstlib.runtime.sequences import select
from firstlib.settings.schema import Model
from firstlib.tasks.encoding import Encoded, longest_first

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # valid values of `max_lora_rank` (`config/lora`)
DEFAULT_LOGPROBS = 20  # vLLM's default of `max_logprobs`
PADDING_MARGIN = 5  # tokens requested beyond k if some may be padding of the vocabulary
MIN_MASS = 1e-6  # lower bound for the mass outside the padding, to divide by
# Tokens per forward pass: vLLM does not account for the memory of prompt_logprobs' logits (issues 5907, 5550).
MAX_BATCHED_TOKENS = 2048


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
    """Yields a trained model's top-k at every response position under teacher forcing, longest examples first.

    The engine and its accelerator memory are released when the iterator is exhausted.

    Args:
        model: The teacher's settings: base (if `folder` holds an adapter), dtype, and NF4 for QLoRA.
        folder: A trained model's folder: a whole model or an adapter.
        encoded: The examples; only positions of their responses are extracted.
        k: Tokens to keep per position.
        batch: Examples passed to vLLM at a time; vLLM forms its own batches from them.
        temperatures: Must be empty: vLLM returns no log normalisers.
        vocabulary: Number of ids that are tokens (default: all); padding after them gets no mass.
        known: Ids of examples that an earlier attempt extracted; they are omitted.
        options: Options of `vllm.LLM`, for example `tensor_parallel_size`; they override ours.

    Raises:
        UserError: `temperatures` is not empty, or vLLM is not installed (raised by the call itself); or vLLM's output
            is not usable, see `top_k_of_output` (raised during iteration).
    """
    if temperatures:
        raise UserError(
            f"knowledge.temperatures: vLLM returns no log normalisers at {list(temperatures)}; leave it empty, or set "
            "knowledge.engine=transformers"
        )
    encoded = select(encoded, [index for index, example in enumerate(encoded) if example.id not in known])
    if not encoded:
        return iter(())
    requested = k if vocabulary is None else k + PADDING_MARGIN
    longest = max(len(example.token_ids) for example in encoded)
    generate = _start_engine({**engine_options(model, folder, requested, longest), **options}, requested, folder)
    return _extract(generate, select(encoded, longest_first(encoded)), k, batch, vocabulary)


def _start_engine(options: dict[str, Any], requested: int, folder: Path) -> Callable[..., Sequence[Any]]:
    """Starts vLLM and returns a function from prompts to one `RequestOutput` per prompt."""
    vllm = _module("vllm")
    engine = vllm.LLM(**options)
    parameters = vllm.SamplingParams(
        prompt_logprobs=requested, max_tokens=1, temperature=0.0, detokenize=False, flat_logprobs=True
    )
    request = {"use_tqdm": False, "lora_request": _adapter(folder)}
    return lambda prompts: engine.generate(prompts, parameters, **request)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"knowledge.engine: vLLM cannot be imported ({error}); pip install firstlib[vllm], or set "
            "knowledge.engine=transformers"
        ) from error


def engine_options(model: Model, folder: Path, requested: int, longest: int) -> dict[str, Any]:
    """Returns the arguments of `vllm.LLM` that differ from its defaults, or must not change with them.

    Args:
        model: The teacher's settings.
        folder: The folder of its weights or its adapter.
        requested: Log-probabilities per position.
        longest: Tokens of the longest example; one more is generated, because vLLM must generate at least one.
    """
    rank = _rank(folder)
    options: dict[str, Any] = {
        "model": str(folder) if rank is None else base_location(model),
        "dtype": model.dtype,
        "skip_tokenizer_init": True,  # prompts are token ids, and the folder holds no tokenizer
        "max_model_len": longest + 1,
        "max_num_batched_tokens": MAX_BATCHED_TOKENS,
        "max_logprobs": max(requested, DEFAULT_LOGPROBS),
        "logprobs_mode": "raw_logprobs",  # before any sampling setting applies
        "enable_prefix_caching": False,  # incompatible with prompt_logprobs
    }
    if rank is not None:
        options |= {"enable_lora": True, "max_lora_rank": next((r for r in LORA_RANKS if r >= rank), rank)}
    if model.tuning == "qlora":
        options["quantization"] = "bitsandbytes"  # quantises to NF4 while loading
    return options


def _rank(folder: Path) -> int | None:
    """Returns the rank of the adapter in a folder, or None if the folder holds no adapter."""
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
    """Returns the knowledge in one `RequestOutput`.

    Raises:
        UserError: The output is for another prompt, has fewer than k tokens at a position, or contains NaN.
    """
    logprobs, ids = output.prompt_logprobs, list(example.token_ids)
    if list(output.prompt_token_ids) != ids or logprobs is None or len(logprobs) != len(ids):
        raise UserError(f"example {example.id}: vLLM returned other positions; set knowledge.engine=transformers")
    positions = range(example.start, len(ids))
    rows = [_top_k(logprobs[at], k, vocabulary, f"example {example.id}, position {at}") for at in positions]
    probabilities = np.array([row[1] for row in rows])
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1)  # float32 sums may exceed 1 slightly
    residual = np.maximum(1 - probabilities.sum(axis=1), 0)
    token_ids, no_normalisers = np.array([row[0] for row in rows]), np.zeros((len(rows), 0))
    return TopK(example.id, np.array(positions), token_ids, probabilities, residual, no_normalisers)


def _top_k(logprobs: Mapping[int, Any], k: int, vocabulary: int | None, where: str) -> tuple[list[int], list[float]]:
    """Ids and probabilities of the k most probable tokens; vLLM adds the prompt's own token, whatever its rank."""
    if any(math.isnan(entry.logprob) for entry in logprobs.values()):
        raise UserError(f"{where}: vLLM returned NaN; load the teacher with another dtype")
    ordered = sorted(logprobs, key=lambda i: (-logprobs[i].logprob, logprobs[i].rank or 0))
    kept = [i for i in ordered if vocabulary is None or i < vocabulary][:k]
    if len(kept) < k:
        raise UserError(
            f"{where}: vLLM returned {len(kept)} tokens of the vocabulary, not {k}; set a smaller knowledge.k"
        )
    padding = math.fsum(math.exp(logprobs[i].logprob) for i in logprobs if vocabulary is not None and i >= vocabulary)
    return kept, [math.exp(logprobs[i].logprob) / max(1 - padding, MIN_MASS) for i in kept]
