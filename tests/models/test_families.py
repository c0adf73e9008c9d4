"""Tiny random models of many families: logits computed from hidden states are the model's own forward pass."""

import json
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers import logging as transformers_logging

from firstlib.models import heads, loading
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Lora, Model

transformers_logging.set_verbosity_error()

WIDE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}  # fmt: skip
OLD = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
MOE = {**WIDE, "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
FAMILIES = {
    "llama": WIDE,
    "llama-scaled": {**WIDE, "model_type": "llama", "attention_bias": True, "tie_word_embeddings": True},
    "mistral": WIDE,
    "mixtral": MOE,
    "qwen2": WIDE,
    "qwen3": WIDE,
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 16},
    "qwen3_moe": MOE,
    "gemma": WIDE,
    "gemma2": {**WIDE, "final_logit_softcapping": 0.5},
    "gemma3_text": {**WIDE, "final_logit_softcapping": 0.5},
    "cohere": {**WIDE, "logit_scale": 3.0},
    "cohere2": {**WIDE, "logit_scale": 0.25},
    "granite": {**WIDE, "logits_scaling": 8.0},
    "granitemoe": {**MOE, "logits_scaling": 4.0},
    "hyperclovax": {**WIDE, "logits_scaling": 0.125},
    "falcon": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "multi_query": False},
    "falcon_h1": {**WIDE, "lm_head_multiplier": 0.0195, "mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8,
                  "mamba_d_state": 8},
    "recurrent_gemma": {**WIDE, "num_hidden_layers": 3, "lru_width": 16, "logits_soft_cap": 0.5,
                        "block_types": ["recurrent", "recurrent", "attention"]},
    "mamba": {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "pad_token_id": 0},
    "mamba2": {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "head_dim": 8, "num_heads": 4,
               "n_groups": 1, "pad_token_id": 0, "chunk_size": 8},
    "gpt2": OLD,
    "gpt_neo": {**WIDE, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": WIDE,
    "gptj": {**OLD, "rotary_dim": 4},
    "gpt_bigcode": OLD,
    "opt": {**WIDE, "ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 64},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "phi": WIDE,
    "phi3": WIDE,
    "stablelm": WIDE,
    "starcoder2": WIDE,
    "olmo": WIDE,
    "olmo2": WIDE,
    "smollm3": WIDE,
    "glm": WIDE,
    "nemotron": WIDE,
    "persimmon": WIDE,
}  # fmt: skip


def built(name):
    """A random model of a family, with weights far enough from 0 that bounds and factors show."""
    settings = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, **FAMILIES[name]}
    config = AutoConfig.for_model(settings.pop("model_type", name), **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        heads.body_and_head(model)[1].weight.add_(torch.randn(40, 16, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_the_logits_of_hidden_states_are_the_models_own(name):
    model = built(name)
    ids = torch.randint(3, 40, (2, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits.float()
        body, _ = heads.body_and_head(model)
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(heads.logits_of(model, hidden), own, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(heads.logits_of(model, hidden, 5, 9), own[..., 5:9], rtol=1e-4, atol=1e-5)
    heads.check_own_logits(model, name)


def test_a_family_that_does_something_unknown_to_its_logits_is_refused(monkeypatch):
    for name, field in (("falcon_h1", "_FACTORS"), ("recurrent_gemma", "_CAPS"), ("hyperclovax", "_MULTIPLIED")):
        with monkeypatch.context() as patch:
            patch.setattr(heads, field, ())
            with pytest.raises(UserError, match=rf"the family '{name}' changes logits in an unknown way") as error:
                heads.check_own_logits(built(name), "nobody/model")
        assert len(str(error.value)) < 500


def test_the_check_leaves_the_mode_and_half_precision_alone():
    model = built("llama").to(torch.bfloat16).train()
    heads.check_own_logits(model, "llama")
    assert model.training


def saved(name, folder, tokenizer_from):
    model = built(name)
    model.save_pretrained(folder)
    for file in tokenizer_from.iterdir():
        if "token" in file.name:
            shutil.copy(file, folder)
    return Model(base=str(folder), tuning="lora")


@pytest.mark.parametrize("name", ["mamba", "falcon_h1"])
def test_adapters_leave_out_what_state_space_models_fuse(name, tmp_path, base_folder):
    model = loading.load_for_training(saved(name, tmp_path, base_folder), seed=0)
    layers = {n.split(".lora_")[0].rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert "in_proj" in layers
    assert not layers & {"out_proj", "conv1d", "lm_head"}


def test_an_adapters_layers_can_be_named(base):
    lora = base.model_copy(update={"tuning": "lora", "lora": Lora(targets=("q_proj", "v_proj"))})
    model = loading.load_for_training(lora, seed=0)
    layers = {n.split(".lora_")[0].rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert layers == {"q_proj", "v_proj"}
    wrong = lora.model_copy(update={"lora": Lora(targets=("nothing",))})
    with pytest.raises(UserError, match=r"^lora\.targets: .*nothing") as error:
        loading.load_for_training(wrong, seed=0)
    assert "\n" not in str(error.value)


# -- tokenizers and files as they are ------------------------------------------------------------------------------


def changed(folder, to, **changes):
    shutil.copytree(folder, to)
    path = to / "tokenizer_config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return Model(base=str(to))


def test_a_tokenizer_without_an_end_token_is_refused(base_folder, tmp_path):
    model = changed(base_folder, tmp_path / "m", eos_token=None)
    with pytest.raises(UserError, match=r"names no end token.*set eos_token in its tokenizer_config\.json"):
        loading.load_tokenizer(model)


def test_a_tokenizer_without_a_fast_version_is_refused(base_folder, tmp_path):
    from transformers import ByT5Tokenizer

    shutil.copy(base_folder / "config.json", tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no fast version, and only those tell where a response begins"):
        loading.load_tokenizer(Model(base=str(tmp_path)))


def test_weights_that_are_only_a_pickle_are_refused_with_the_remedy(base_folder, tmp_path):
    model = changed(base_folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"are a pickle \(pytorch_model\.bin\).*save_pretrained.*writes safetensors"):
        loading.load_base(model)


def test_one_added_token_more_is_allowed_with_a_warning(base_folder):
    ours, other = (loading.load_tokenizer(Model(base=str(base_folder))) for _ in range(2))
    other.add_tokens(["[PAD]"], special_tokens=True)
    for pair in ((ours, other), (other, ours)):
        with pytest.warns(UserWarning, match=r"1 tokens only one of them has .*'\[PAD\]'"):
            loading.check_same_tokens(*pair)


def test_added_tokens_may_be_renamed_but_none_with_a_role(base_folder):
    ours, other, third = (loading.load_tokenizer(Model(base=str(base_folder))) for _ in range(3))
    ours.add_tokens(["<one>"], special_tokens=True)
    other.add_tokens(["<two>"], special_tokens=True)
    with pytest.warns(UserWarning, match="1 added tokens are renamed"):
        loading.check_same_tokens(ours, other)
    third.add_tokens(["word"], special_tokens=True)
    third.eos_token = "word"
    with pytest.raises(UserError, match="choose a pair with one vocabulary"):
        loading.check_same_tokens(ours, third)
