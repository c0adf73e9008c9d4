"""Base models: identified, loaded, adapted, saved."""

import json
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
)

from firstlib.models import heads, loading, places
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model


@pytest.fixture
def copy(base_folder, tmp_path):
    return Model(base=str(shutil.copytree(base_folder, tmp_path / "copy")))


def logits(model, seed=1):
    ids = torch.randint(5, 100, (2, 9), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def disturb(parameters):
    """Changes every weight a little, as training would (a fresh adapter is the identity)."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def test_a_folder_is_identified_by_its_content_not_by_its_path(base, copy):
    assert places.base_identity(copy) == places.base_identity(base)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_file_makes_another_base(base, copy, tmp_path, name):
    path = tmp_path / "copy" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    assert places.base_identity(copy) != places.base_identity(base)


def test_a_hub_model_is_identified_by_its_commit(monkeypatch):
    hub = Model(base="meta-llama/Llama-2-7b-hf")
    config = LlamaConfig()
    config._commit_hash = "0f1e"
    monkeypatch.setattr("firstlib.models.loading.AutoConfig.from_pretrained", lambda *_, **__: config)
    assert places.base_location(hub) == "meta-llama/Llama-2-7b-hf"
    assert places.base_identity(hub) == "meta-llama/Llama-2-7b-hf@0f1e"


@pytest.fixture
def with_code(copy, tmp_path):
    """A base model that comes with code, which writes a file when it is run."""
    folder, trace = tmp_path / "copy", tmp_path / "was_run"
    (folder / "own.py").write_text(
        f"from pathlib import Path\nfrom transformers import LlamaConfig\nPath({str(trace)!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    return copy, trace


def test_code_that_comes_with_a_model_is_not_run(with_code):
    model, trace = with_code
    with pytest.raises(UserError, match="trust_remote_code"):
        loading.vocabulary_size(model)
    assert not trace.exists()


def test_code_is_run_only_if_the_preset_allows_it_and_with_a_warning(with_code):
    model, trace = with_code
    trusting = model.model_copy(update={"trust_remote_code": True})
    with pytest.warns(UserWarning, match=r"trust_remote_code is set, so code .* is run on this machine"):
        assert loading.vocabulary_size(trusting) > 0
    assert trace.exists()


@pytest.mark.parametrize("name", ["data/nowhere", "/nowhere/at/all", "./nowhere", "nowhere", "~/nowhere"])
def test_a_missing_folder_is_reported(name):
    with pytest.raises(UserError, match=r"nowhere.*config\.json") as error:
        places.base_location(Model(base=name))
    assert "\n" not in str(error.value)


def test_weights_other_than_safetensors_are_refused(copy, tmp_path):
    (tmp_path / "copy" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "copy" / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        loading.load_base(copy)


def test_the_end_token_is_the_default_padding_token(copy, tmp_path):
    path = tmp_path / "copy" / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token"', '"unheard_of"'))
    tokenizer = loading.load_tokenizer(copy)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_full_tuning_trains_everything(base):
    model = loading.load_for_training(base, seed=0)
    assert len(trainable(model)) == len(list(model.parameters()))


def test_a_description_states_size_tuning_type_and_device(base):
    text = loading.description(base.model_copy(update={"tuning": "lora", "dtype": "bfloat16"}))
    size = sum(p.numel() for p in loading.load_base(base).parameters())
    assert text == f"{base.base}: {size:,} parameters, tuning lora, weights in bfloat16, on {loading.device()}"


def test_an_unavailable_base_is_reported_in_one_line(monkeypatch):
    def refuse(*_, **__):
        raise OSError("We couldn't connect\nto the hub")

    for load, loader in ((loading.load_tokenizer, "AutoTokenizer"), (loading.load_base, "AutoModelForCausalLM")):
        monkeypatch.setattr(f"firstlib.models.loading.{loader}.from_pretrained", refuse)
        with pytest.raises(UserError, match=r"base model 'meta-llama/Llama-2-7b-hf': .*\(We couldn't connect\); check"):
            load(Model(base="meta-llama/Llama-2-7b-hf"))


def test_a_student_with_other_tokens_is_refused(base, bytes_folder):
    ours, other = loading.load_tokenizer(base), loading.load_tokenizer(Model(base=str(bytes_folder)))
    loading.check_same_tokens(ours, ours)
    first = ours.convert_ids_to_tokens(0)
    with pytest.raises(UserError, match=rf"token 0 is '{first}' for the teacher .* and '<s>' for the student"):
        loading.check_same_tokens(ours, other)


def test_lora_trains_only_adapters_on_every_layer_but_the_head(base):
    model = loading.load_for_training(base.model_copy(update={"tuning": "lora"}), seed=0)
    names = trainable(model)
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert len(names) == 2 * 7 * 2  # A and B; q, k, v, o, gate, up, down; two layers
    assert not any("lm_head" in name or "embed" in name for name in names)
    torch.testing.assert_close(logits(model), logits(loading.load_base(base)))  # a fresh adapter changes nothing


def test_an_adapters_first_weights_follow_the_seed(base):
    lora = base.model_copy(update={"tuning": "lora"})
    first, again, other = (trainable(loading.load_for_training(lora, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_qlora_holds_its_base_in_doubly_quantised_nf4(base):
    model = loading.load_for_training(base.model_copy(update={"tuning": "qlora"}), seed=0)
    layers = [m for name, m in model.named_modules() if name.endswith(".base_layer") and "proj" in name]
    assert len(layers) == 14
    for layer in layers:
        assert isinstance(layer, Linear4bit)
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() == layer.in_features * layer.out_features / 2  # two weights per byte
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
    assert all(".lora_" in name for name in trainable(model))
    dense = logits(loading.load_base(base))
    error = (logits(model) - dense).norm() / dense.norm()
    assert 0.001 < error < 0.2  # four-bit weights are close to the originals, but not equal


def test_gradients_pass_through_four_bit_layers_that_were_asked_before(base, monkeypatch):
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)  # as on a processor that has bfloat16
    gradients = []
    for model in (loading.load_for_training(base.model_copy(update={"tuning": "qlora"}), 0), loading.load_base(base)):
        logits(model)  # in which bitsandbytes packs layers, unless told otherwise
        model.train()
        embedded = model.get_input_embeddings()(torch.arange(5, 12)[None]).detach().requires_grad_()
        model(inputs_embeds=embedded).logits.log_softmax(-1)[..., 5].sum().backward()
        gradients.append(embedded.grad.flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_saved_model_answers_as_before(base, tmp_path, tuning):
    spec = base.model_copy(update={"tuning": tuning})
    model = loading.load_for_training(spec, seed=0)
    disturb(trainable(model).values())
    model.save_pretrained(tmp_path)
    kept = loading.load_trained(spec, tmp_path)
    assert not kept.training
    assert torch.equal(logits(kept), logits(model))
    assert (logits(kept) - logits(loading.load_base(base))).abs().max() > 0.01
    names = {path.name for path in tmp_path.iterdir()}
    assert ("model.safetensors" if tuning == "full" else "adapter_model.safetensors") in names
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)


SMALL = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": (LlamaConfig(**SMALL), 1.0, None),
    "gemma2": (Gemma2Config(**SMALL, final_logit_softcapping=0.5), 1.0, 0.5),
    "cohere": (CohereConfig(**SMALL, logit_scale=3.0), 3.0, None),
    "granite": (GraniteConfig(**SMALL, logits_scaling=8.0), 0.125, None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_models_own_in_every_family(family):
    config, scale, softcap = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    disturb(model.parameters())
    ids = torch.randint(3, 40, (2, 7))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        body, _ = heads.body_and_head(model)
        hidden = body(input_ids=ids).last_hidden_state
        torch.testing.assert_close(heads.logits_of(model, hidden), expected)
        torch.testing.assert_close(heads.logits_of(model, hidden, 5, 9), expected[..., 5:9])
    assert heads.logit_form(model) == (scale, softcap)


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_of_a_head_in_half_precision_are_not_rounded_to_it(device, dtype, monkeypatch):
    monkeypatch.setattr(heads, "HEAD_BLOCK", 11)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"][0]).to(device, dtype).eval()
    head = heads.body_and_head(model)[1]
    torch.nn.init.normal_(head.weight, std=3.0)
    hidden = torch.randn(2, 5, head.in_features, device=device).to(dtype)
    exact = hidden.double() @ head.weight.double().T
    with torch.no_grad():
        for found, rows in (
            (heads.logits_of(model, hidden), slice(None)),
            (heads.logits_of(model, hidden, 5, 30), slice(5, 30)),
        ):
            torch.testing.assert_close(found, exact[..., rows].float(), rtol=1e-5, atol=1e-5)
        with torch.autocast(device, torch.bfloat16):
            torch.testing.assert_close(heads.logits_of(model, hidden), exact.float(), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(head(hidden).double(), exact, rtol=1e-4)


def test_sizes_are_read_from_the_configuration(base):
    model = loading.load_base(base)
    assert loading.parameter_count(base) == sum(p.numel() for p in model.parameters())
    assert loading.vocabulary_size(base) == model.lm_head.weight.shape[0]


def test_a_base_with_missing_weights_is_refused(copy, tmp_path):
    path = tmp_path / "copy" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_hidden_layers": config["num_hidden_layers"] + 1}))
    with pytest.raises(UserError, match=r"of its weights are missing from its files, first model\.layers\.2"):
        loading.load_base(copy)


def test_weights_of_another_shape_are_reported_in_one_line(copy, tmp_path):
    path = tmp_path / "copy" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"intermediate_size": 7}))
    with pytest.raises(UserError, match="cannot be loaded") as error:
        loading.load_base(copy)
    assert "\n" not in str(error.value)
