"""Influence of decoder layers, and models without some of them, compared with transformers' own hidden states."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from firstlib.models.layers import drop_layers, influences, nll_without_each, text_nll
from firstlib.runtime.errors import UserError

TEXTS = [[1, 5, 9, 30, 7, 7], [1, 40, 3, 22]]
SHAPE = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, num_hidden_layers=4, num_key_value_heads=2)
    return LlamaForCausalLM(config).eval()


def test_influence_is_one_minus_the_cosine_of_input_and_output(model):
    states = [model.model(torch.tensor([text]), output_hidden_states=True).hidden_states for text in TEXTS]
    for at in range(3):  # the last hidden state of transformers is normalised already
        pairs = [(one[at], one[at + 1]) for one in states]
        cosines = torch.cat([torch.cosine_similarity(a, b, dim=-1)[0] for a, b in pairs])
        assert influences(model, TEXTS)[at] == pytest.approx(1 - cosines.mean().item(), abs=1e-6)


def test_a_text_costs_its_negative_log_likelihood(model):
    expected = [model(torch.tensor([text]), labels=torch.tensor([text])).loss.item() for text in TEXTS]
    mean = (5 * expected[0] + 3 * expected[1]) / 8
    assert text_nll(model, TEXTS) == pytest.approx(mean, abs=1e-5)


def test_a_layer_that_is_passed_through_costs_what_the_model_without_it_costs(model):
    costs = nll_without_each(model, TEXTS)
    whole = text_nll(model, TEXTS)
    assert text_nll(drop_layers(model, [2]), TEXTS) == pytest.approx(costs[2], abs=1e-6)
    assert not np.allclose(costs, whole)


def test_end_tokens_are_no_layers_however_many_they_are(model):
    model.config.eos_token_id = [5, 6, 7, 8]
    assert drop_layers(model, [1]).config.eos_token_id == [5, 6, 7, 8]


def test_a_model_whose_configuration_numbers_its_layers_is_refused():
    config = Qwen3MoeConfig(
        **SHAPE, num_hidden_layers=4, num_key_value_heads=2, head_dim=8, num_experts=2, num_experts_per_tok=1,
        moe_intermediate_size=8, mlp_only_layers=[3],
    )  # fmt: skip
    with pytest.raises(UserError, match="qwen3_moe: its configuration says by number which layers"):
        drop_layers(Qwen3MoeForCausalLM(config), [0])


def test_a_model_without_layers_is_saved_and_loaded(model, tmp_path):
    ids = torch.tensor([TEXTS[0]])
    cut = drop_layers(model, [1, 2])
    cut.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 2
    torch.testing.assert_close(again(ids).logits, cut(ids).logits)
    generated = [one.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0) for one in (cut, again)]
    assert torch.equal(*generated)  # the cache of keys counts the layers that are left


def test_entries_of_the_configuration_that_are_one_a_layer_lose_theirs():
    kinds = {"layer_types": ["full_attention", "sliding_attention", "full_attention"], "use_sliding_window": True}
    config = Qwen3Config(**SHAPE, num_hidden_layers=3, num_key_value_heads=2, head_dim=8, sliding_window=4, **kinds)
    cut = drop_layers(AutoModelForCausalLM.from_config(config).eval(), [1])
    assert cut.config.layer_types == ["full_attention", "full_attention"]
    assert text_nll(cut, TEXTS) > 0


def test_a_family_without_a_list_of_layers_is_refused(model):
    model.model.layers = model.model.layers[0]
    with pytest.raises(UserError, match="the family 'llama' has no list of layers"):
        influences(model, TEXTS)


def test_layers_without_attention_have_an_influence_too():
    torch.manual_seed(0)
    mamba = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4)).eval()
    assert influences(mamba, TEXTS).shape == (2,)
