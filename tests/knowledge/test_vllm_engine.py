"""vLLM's outputs converted to knowledge, with stand-ins that have only the documented attributes.

`Logprob` and `RequestOutput` have the attributes in vLLM 0.30's reference (docs.vllm.ai, `api/vllm/logprobs`
and `api/vllm/outputs`); the engine answers with the distributions of a real model.
"""

import json
import math
import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch

from firstlib.knowledge import extract_top_k
from firstlib.knowledge.servers.vllm_engine import engine_options, extract_with_vllm, top_k_of_output
from firstlib.models import loading
from firstlib.runtime.errors import UserError
from firstlib.runtime.progress import PROGRESS_FILE
from firstlib.settings.schema import Model
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode


@dataclass
class Logprob:
    """`vllm.logprobs.Logprob`."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class RequestOutput:
    """The attributes of `vllm.outputs.RequestOutput` that are read."""

    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None


EXAMPLE = Encoded("e", [1, 7, 8, 2], 2)


def output(*rows, ids=(1, 7, 8, 2)):
    """An output whose response positions hold these dicts from id to probability and rank."""
    listed = [{i: Logprob(math.log(p), rank) for i, (p, rank) in row.items()} for row in rows]
    return RequestOutput(list(ids), [None, {7: Logprob(-1.0, 1)}, *listed])


def test_the_top_k_by_rank_without_the_prompt_s_own_token():
    """Token 8 is the prompt's own; vLLM lists it first although it has rank 40."""
    found = top_k_of_output(output({8: (0.01, 40), 5: (0.6, 1), 6: (0.3, 2)}, {2: (0.25, 2), 9: (0.5, 1)}), EXAMPLE, 2)
    assert found.example_id == "e"
    assert found.position.tolist() == [2, 3]
    assert found.token_ids.tolist() == [[5, 6], [9, 2]]
    np.testing.assert_allclose(found.probabilities, [[0.6, 0.3], [0.5, 0.25]])
    np.testing.assert_allclose(found.residual, [0.1, 0.25])
    assert found.log_normalisers.shape == (2, 0)


def test_padding_of_the_vocabulary_gets_no_mass():
    """Token 11 is padding; the other tokens share its mass."""
    row = {5: (0.6, 1), 11: (0.2, 2), 6: (0.1, 3)}
    found = top_k_of_output(output(row, row), EXAMPLE, 2, vocabulary=10)
    assert found.token_ids.tolist() == [[5, 6]] * 2
    np.testing.assert_allclose(found.probabilities, [[0.75, 0.125]] * 2)
    np.testing.assert_allclose(found.residual, [0.125] * 2)


def test_rounding_never_makes_a_sum_above_one():
    row = {5: (0.6000001, 1), 6: (0.4000001, 2)}
    found = top_k_of_output(output(row, row), EXAMPLE, 2)
    assert (found.probabilities.sum(axis=1) <= 1 + 1e-12).all()
    assert (found.residual >= 0).all()


def test_the_first_id_after_the_vocabulary_is_padding():
    row = {9: (0.5, 1), 10: (0.25, 2), 8: (0.125, 3)}
    found = top_k_of_output(output(row, row), EXAMPLE, 2, vocabulary=10)
    assert found.token_ids.tolist() == [[9, 8]] * 2
    np.testing.assert_allclose(found.probabilities, [[2 / 3, 1 / 6]] * 2)


def test_padding_that_takes_all_mass_divides_by_a_millionth_at_least():
    row = {5: (4e-7, 2), 10: (1.0, 1)}
    np.testing.assert_allclose(top_k_of_output(output(row, row), EXAMPLE, 1, vocabulary=10).probabilities, 0.4)


def test_equally_probable_tokens_come_by_their_rank_and_the_unranked_first():
    row = {5: (0.25, 3), 6: (0.25, 1), 8: (0.25, None), 9: (0.3, 9)}
    found = top_k_of_output(output(row, row), EXAMPLE, 4)
    assert found.token_ids.tolist() == [[9, 8, 6, 5]] * 2


def test_a_sum_below_one_is_left_as_it_is():
    found = top_k_of_output(output({5: (0.25, 1)}, {6: (1.0, 1)}), EXAMPLE, 1)
    np.testing.assert_allclose(found.probabilities, [[0.25], [1]])
    np.testing.assert_allclose(found.residual, [0.75, 0], atol=1e-12)


GOOD = {5: (0.6, 1), 6: (0.3, 2)}


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (output(GOOD, GOOD, ids=(1, 7, 9, 2)), "example e: vLLM returned other positions"),
        (output(GOOD), "example e: vLLM returned other positions"),
        (RequestOutput([1, 7, 8, 2], None), "example e: vLLM returned other positions"),
        (output(GOOD, {5: (0.6, 1)}), "example e, position 3: vLLM returned 1 tokens of the vocabulary, not 2"),
        (output({5: (math.nan, 1), 6: (0.3, 2)}, GOOD), "example e, position 2: vLLM returned NaN"),
        (output(GOOD, {6: (0.3, 2), 5: (math.nan, 1)}), "example e, position 3: vLLM returned NaN"),
    ],
)
def test_invalid_answers_are_refused(answer, complaint):
    with pytest.raises(UserError, match=complaint):
        top_k_of_output(answer, EXAMPLE, 2)


# -- the engine --------------------------------------------------------------------------------------------------


@pytest.fixture
def spec(base_folder):
    return Model(base=str(base_folder))


@pytest.fixture
def encoded(spec, world):
    tokenizer = loading.load_tokenizer(spec)
    questions = [q for task in ("csqa", "boolq") for q in microworld.ask(world, task, "train", 3, 0)]
    return [encode(tokenizer, question.example()) for question in questions]


@pytest.fixture
def vllm(monkeypatch, spec):
    """A module that answers `LLM(...).generate(...)` like vLLM, from the model's own dense distributions."""
    module, lora = ModuleType("vllm"), ModuleType("vllm.lora.request")
    model = loading.load_base(spec).eval()

    class LLM:
        def __init__(self, **options):
            module.options = options

        def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
            module.calls.append((len(prompts), sampling_params, use_tqdm, lora_request))
            return [self.answer(prompt["prompt_token_ids"], sampling_params["prompt_logprobs"]) for prompt in prompts]

        @torch.inference_mode()
        def answer(self, ids, k):
            listed = [None]
            for logs, own in zip(
                model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1), ids[1:], strict=True
            ):
                top = logs.topk(k)
                row = {own: Logprob(logs[own].item(), int((logs >= logs[own]).sum()))}
                row |= {
                    i: Logprob(p, r) for r, (p, i) in enumerate(zip(*map(torch.Tensor.tolist, top), strict=True), 1)
                }
                listed.append(row)
            return RequestOutput(ids, listed)

    module.calls, module.LLM, module.SamplingParams = [], LLM, dict
    lora.LoRARequest = lambda *arguments: arguments
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", lora)
    return module


def test_vllm_gives_the_same_as_extraction(vllm, spec, base_folder, encoded):
    wanted = list(extract_top_k(loading.load_base(spec).eval(), encoded, 5))
    found = list(extract_with_vllm(spec, base_folder, encoded, 5, batch=4))
    assert [item.example_id for item in found] == [item.example_id for item in wanted]
    for item, other in zip(found, wanted, strict=True):
        assert item.position.tolist() == other.position.tolist()
        assert item.token_ids.tolist() == other.token_ids.tolist()
        np.testing.assert_allclose(item.probabilities, other.probabilities, rtol=1e-4)
        np.testing.assert_allclose(item.residual, other.residual, atol=1e-5)


def test_examples_go_in_batches_as_token_ids(vllm, spec, base_folder, encoded):
    list(extract_with_vllm(spec, base_folder, encoded, 5, batch=4, tensor_parallel_size=2))
    assert [call[0] for call in vllm.calls] == [4, 2]
    sampling = {"prompt_logprobs": 5, "max_tokens": 1, "temperature": 0.0, "detokenize": False, "flat_logprobs": True}
    assert all(call[1:] == (sampling, False, None) for call in vllm.calls)
    assert vllm.options["tensor_parallel_size"] == 2
    assert vllm.options["max_model_len"] == 1 + max(len(example.token_ids) for example in encoded)


def test_more_tokens_are_requested_if_some_may_be_padding(vllm, spec, base_folder, encoded):
    words = max(item.token_ids.max() for item in extract_with_vllm(spec, base_folder, encoded, 5))
    found = list(extract_with_vllm(spec, base_folder, encoded, 5, vocabulary=words))
    assert vllm.calls[-1][1]["prompt_logprobs"] == 10
    assert max(item.token_ids.max() for item in found) < words


def test_what_an_earlier_attempt_extracted_is_left_out(vllm, spec, base_folder, encoded):
    known = {encoded[0].id, encoded[2].id}
    found = [item.example_id for item in extract_with_vllm(spec, base_folder, encoded, 5, known=known)]
    assert sorted(found) == sorted({each.id for each in encoded} - known)
    assert vllm.calls[0][0] == len(encoded) - 2
    lengths = {each.id: len(each.token_ids) for each in encoded}
    assert [lengths[name] for name in found] == sorted((lengths[name] for name in found), reverse=True)


def test_a_prompt_without_an_output_is_an_error(vllm, spec, base_folder, encoded, monkeypatch):
    monkeypatch.setattr(vllm.LLM, "generate", lambda *_, **__: [])
    with pytest.raises(ValueError, match="zip"):
        list(extract_with_vllm(spec, base_folder, encoded, 5))


def test_progress_counts_examples(vllm, spec, base_folder, encoded, tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "progress"))
    items = extract_with_vllm(spec, base_folder, encoded, 5, batch=6)
    next(items)
    shown = {"label": "extracting with vLLM", "done": 0, "total": 6}
    assert json.loads((tmp_path / "progress").read_text()) == shown
    list(items)
    assert json.loads((tmp_path / "progress").read_text()) == {**shown, "done": 6}


def test_an_adapter_is_served_with_its_base(vllm, spec, base_folder, encoded, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 24}))
    next(extract_with_vllm(spec, tmp_path, encoded, 5))
    assert vllm.calls[0][3] == ("teacher", 1, str(tmp_path))
    assert vllm.options["model"] == str(base_folder)
    assert (vllm.options["enable_lora"], vllm.options["max_lora_rank"]) == (True, 32)


def test_options_of_the_engine(tmp_path):
    options = {
        "model": str(tmp_path), "dtype": "bfloat16", "skip_tokenizer_init": True, "max_model_len": 101,
        "max_num_batched_tokens": 2048, "max_logprobs": 20, "logprobs_mode": "raw_logprobs",
        "enable_prefix_caching": False,
    }  # fmt: skip
    assert engine_options(Model(base="a/b", dtype="bfloat16"), tmp_path, 5, 100) == options
    assert engine_options(Model(base="a/b"), tmp_path, 50, 100)["max_logprobs"] == 50
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16}))
    adapted = {**options, "model": "a/b", "enable_lora": True, "max_lora_rank": 16}
    assert engine_options(Model(base="a/b", dtype="bfloat16"), tmp_path, 5, 100) == adapted
    quantised = engine_options(Model(base="a/b", dtype="bfloat16", tuning="qlora"), tmp_path, 5, 100)
    assert quantised == {**adapted, "quantization": "bitsandbytes"}


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (512, 512), (600, 600)])
def test_an_adapters_rank_is_rounded_up_to_one_that_vllm_takes(tmp_path, rank, allowed):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    assert engine_options(Model(base="a/b"), tmp_path, 5, 100)["max_lora_rank"] == allowed


def test_no_examples_need_no_engine(spec, base_folder):
    assert list(extract_with_vllm(spec, base_folder, [], 5)) == []


def test_log_normalisers_are_not_available(spec, base_folder, encoded):
    with pytest.raises(UserError, match=r"knowledge\.temperatures: vLLM returns no log normalisers at \[2\.0\]"):
        extract_with_vllm(spec, base_folder, encoded, 5, temperatures=[2.0])


def test_a_missing_vllm_is_reported(monkeypatch, spec, base_folder, encoded):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"vLLM cannot be imported .*pip install firstlib\[vllm\]"):
        extract_with_vllm(spec, base_folder, encoded, 5)
