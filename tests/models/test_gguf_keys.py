"""Keys of GGUF files: read by transformers, in agreement with what it makes of them, or refused."""

from pathlib import Path

import pytest
import transformers

from firstlib.models.gguf_file import Contents
from firstlib.models.gguf_keys import check_keys
from firstlib.runtime.errors import UserError

SIZES = {"block_count": 2, "embedding_length": 64, "attention.layer_norm_rms_epsilon": 1e-6}

NORM = {"attention__layer_norm_epsilon": 1e-5}


def contents(architecture, **keys):
    sizes = SIZES if "attention__layer_norm_epsilon" not in keys else {"block_count": 2, "embedding_length": 64}
    own = {f"{architecture}.{key.replace('__', '.')}": value for key, value in {**sizes, **keys}.items()}
    return Contents(Path("m.gguf"), {"general.architecture": architecture, **own}, {})


def config(name, **settings):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
    return getattr(transformers, f"{name}Config")(**{**sizes, **settings})


@pytest.mark.parametrize(
    ("architecture", "name", "keys"),
    [
        ("llama", "Llama", {"attention__key_length": 16, "rope__scaling__type": "none", "rope__scaling__factor": 0.0}),
        ("starcoder2", "Starcoder2", {"rope__freq_base": 10000.0, "attention__layer_norm_epsilon": 1e-5}),
        (
            "stablelm",
            "StableLm",
            {"rope__dimension_count": 4, "use_parallel_residual": True, **NORM},
        ),
        ("phi3", "Phi3", {"attention__sliding_window": 128, "rope__dimension_count": 16, "pad_token_id": 0}),
        ("phi3", "Phi3", {"attention__sliding_window": 262144, "rope__scaling__original_context_length": 128}),
        ("mamba", "Mamba", {"ssm__dt_b_c_rms": False, "attention__head_count": 4}),
    ],
)
def test_keys_that_transformers_leaves_out_may_say_what_it_computes(architecture, name, keys):
    settings = {"pad_token_id": keys.pop("pad_token_id")} if "pad_token_id" in keys else {}
    check_keys(contents(architecture, **keys), config(name, **settings))


@pytest.mark.parametrize(
    ("architecture", "name", "keys", "told"),
    [
        ("starcoder2", "Starcoder2", {"rope__freq_base": 1e6, **NORM}, "rope.freq_base = 1000000.* compute with 10000"),
        ("stablelm", "StableLm", {"rope__dimension_count": 8, **NORM}, "rope.dimension_count = 8.* compute with 4"),
        ("phi3", "Phi3", {"attention__sliding_window": 4}, "sliding_window = 4.* compute with 128"),
        ("gemma2", "Gemma2", {"final_logit_softcapping": 5.0}, "final_logit_softcapping = 5.* compute with 30"),
        ("gemma2", "Gemma2", {"attention__key_length": 16}, "heads are 16 wide.* as for 256"),
        ("qwen3", "Qwen3", {"attention__key_length": 64}, "attention.key_length = 64.* compute with 128"),
        ("falcon", "Falcon", {"attention__layer_norm_epsilon": 1e-3}, "epsilon = 0.001.* compute with 1e-05"),
        ("mamba", "Mamba", {"ssm__dt_b_c_rms": True}, "ssm.dt_b_c_rms = True, and transformers does not read it"),
        ("llama", "Llama", {"rope__scaling__type": "yarn"}, "rope.scaling.type = yarn.* compute with none"),
        ("llama", "Llama", {"attention__scale": 0.5}, "attention.scale = 0.5, and transformers does not read it"),
        ("llama", "Llama", {"a_key_of_tomorrow": 1}, "a_key_of_tomorrow = 1, and transformers does not read it"),
    ],
)
def test_a_key_that_would_be_lost_is_refused(architecture, name, keys, told):
    with pytest.raises(UserError, match=told):
        check_keys(contents(architecture, **keys), config(name))


def test_a_window_for_each_layer_is_compared_with_the_one_there_is():
    with pytest.raises(UserError, match=r"sliding_window = \[1, 2\].* compute with 128"):
        check_keys(contents("llama", attention__sliding_window=[1, 2]), config("Llama"))
    check_keys(contents("llama", attention__sliding_window=[128, 4096]), config("Llama"))


def test_a_missing_base_of_positions_means_llama_cpps():
    with pytest.raises(UserError, match=r"rope\.freq_base = 10000.* compute with 1000000"):
        check_keys(contents("qwen2"), config("Qwen2", rope_parameters={"rope_theta": 1e6, "rope_type": "default"}))


@pytest.mark.parametrize("key", ["block_count", "attention.layer_norm_rms_epsilon"])
def test_a_file_that_lacks_what_every_model_has_is_refused(key):
    found = contents("llama")
    lacking = Contents(found.path, {k: v for k, v in found.metadata.items() if not k.endswith(key)}, {})
    with pytest.raises(UserError, match=f"lacks the key llama.{key}"):
        check_keys(lacking, config("Llama"))


def test_windows_by_layer_are_compared_one_by_one():
    of_layers = ["sliding_attention", "full_attention"]
    made = config("Gemma2", layer_types=of_layers, head_dim=256)
    check_keys(contents("gemma2", attention__sliding_window_pattern=[True, False]), made)
    check_keys(contents("gemma2", attention__sliding_window_pattern=2), made)
    with pytest.raises(UserError, match=r"sliding_window_pattern = \[False, True\]"):
        check_keys(contents("gemma2", attention__sliding_window_pattern=[False, True]), made)


@pytest.mark.parametrize(("key", "lost"), [("rope__freq_base", False), ("rope__scaling__factor", True)])
def test_what_the_newer_loader_reads_is_found_by_asking_it(key, lost):
    keys = {"context_length": 128, "feed_forward_length": 96, "attention__head_count": 4, "shortconv__l_cache": 3}
    found = contents("lfm2", **keys, attention__head_count_kv=[0, 2], **{"rope__freq_base": 1e6, key: 8.0})
    found = Contents(found.path, {**found.metadata, "tokenizer.ggml.tokens": ["a"]}, {})
    made = config("Lfm2", rope_parameters={"rope_theta": 8.0 if key == "rope__freq_base" else 1e6})
    if lost:
        with pytest.raises(UserError, match=r"rope\.scaling\.factor = 8.* compute with 1"):
            check_keys(found, made)
    else:
        check_keys(found, made)
