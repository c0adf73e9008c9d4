"""Every preset's models, built without weights from the configurations that their authors publish."""

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from firstlib.models import loading
from firstlib.planning.anatomy import anatomy_of
from firstlib.planning.machines import find_machines
from firstlib.planning.plan import fits, make_scene, stages
from firstlib.settings.loading import load_preset, preset_names


def llama(**values):
    return LlamaConfig(**{"vocab_size": 32_000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, **values})


def smol(**values):
    return llama(vocab_size=49_152, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True, **values)


LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32,
}  # fmt: skip
LLAMA_13B = {
    "hidden_size": 5120, "intermediate_size": 13_824, "num_hidden_layers": 40, "num_attention_heads": 40,
    "num_key_value_heads": 40,
}  # fmt: skip
SECOND = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5}

# Each model's config.json on the hub, and the number of parameters on its page.
PUBLISHED = {
    "huggyllama/llama-30b": (
        llama(hidden_size=6656, intermediate_size=17_920, num_hidden_layers=60, num_attention_heads=52,
              num_key_value_heads=52),
        32_528_943_616,
    ),
    "huggyllama/llama-7b": (llama(**LLAMA_7B), 6_738_415_616),
    "meta-llama/Llama-2-13b-hf": (llama(**LLAMA_13B, **SECOND), 13_015_864_320),
    "meta-llama/Llama-2-7b-hf": (llama(**LLAMA_7B, **SECOND), 6_738_415_616),
    "openlm-research/open_llama_13b": (llama(**LLAMA_13B), 13_015_864_320),
    "openlm-research/open_llama_7b": (llama(**LLAMA_7B), 6_738_415_616),
    "HuggingFaceTB/SmolLM2-1.7B": (
        smol(hidden_size=2048, intermediate_size=8192, num_hidden_layers=24, num_attention_heads=32,
             num_key_value_heads=32, rope_theta=130_000),
        1_711_376_384,
    ),
    "HuggingFaceTB/SmolLM2-360M": (
        smol(hidden_size=960, intermediate_size=2560, num_hidden_layers=32, num_attention_heads=15,
             num_key_value_heads=5, rope_theta=100_000),
        361_821_120,
    ),
    "HuggingFaceTB/SmolLM2-135M": (
        smol(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
             num_key_value_heads=3, rope_theta=100_000),
        134_515_008,
    ),
    "Qwen/Qwen2.5-7B": (
        Qwen2Config(vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28,
                    num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=131_072,
                    rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=False),
        7_615_616_512,
    ),
    "Qwen/Qwen2.5-0.5B": (
        Qwen2Config(vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                    num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32_768,
                    rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True),
        494_032_768,
    ),
}  # fmt: skip
TOKENS = {
    "huggyllama": 32_000,
    "meta-llama": 32_000,
    "openlm-research": 32_000,
    "HuggingFaceTB": 49_152,
    "Qwen": 151_665,
}

PAPERS = ["llama1-33b-7b", "llama2-13b-7b", "openllama-13b-7b"]
ONE_GPU = ["smollm2-1.7b-360m", "qwen2.5-7b-0.5b"]
LAPTOP = "smollm2-360m-135m-laptop"
PRESETS = [*PAPERS, *ONE_GPU, LAPTOP]
ROLES = [(preset, role) for preset in PRESETS for role in ("teacher", "student")]


def built(model):
    """Builds a model on the meta device, with shapes but no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(PUBLISHED[model.base][0])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_found_and_described(preset):
    settings = load_preset(preset)
    assert preset in preset_names()
    assert settings.description.endswith(".")
    assert settings.data.source == "hub"
    assert {settings.teacher.base, settings.student.base} <= PUBLISHED.keys()
    assert [(column.setting, column.train, column.test) for column in settings.columns] == [
        ("in-domain", "csqa", ("csqa",)),
        ("in-domain", "boolq", ("boolq",)),
        ("out-of-domain", "alpaca", ("csqa", "obqa")),
    ]


@pytest.mark.parametrize(("preset", "role"), ROLES)
def test_the_plan_counts_a_models_parameters_exactly(preset, role):
    spec = getattr(load_preset(preset), role)
    model, published = built(spec), PUBLISHED[spec.base][1]
    counted = anatomy_of(spec)
    assert counted.parameters == model.num_parameters() == published
    head, embedded = model.get_output_embeddings(), model.get_input_embeddings()
    assert counted.vocabulary == head.out_features
    assert counted.width == head.in_features
    others = [p for n, p in model.named_parameters() if p.ndim == 1]  # norms and biases
    outside = {id(head.weight): head.weight, id(embedded.weight): embedded.weight}.values()
    assert counted.linear == published - sum(p.numel() for p in [*others, *outside])


@pytest.mark.parametrize(("preset", "role"), ROLES)
def test_an_adapter_covers_every_matrix_of_every_block_and_nothing_else(preset, role):
    spec = getattr(load_preset(preset), role)
    adapted = get_peft_model(built(spec), loading._lora_config(spec), low_cpu_mem_usage=True)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    counted = anatomy_of(spec)
    assert sum(p.numel() for p in trained.values()) == counted.adapter(spec.lora.rank)
    targets = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained}
    assert targets == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(trained) == 2 * 7 * counted.layers


@pytest.mark.parametrize("preset", PRESETS)
def test_both_heads_have_a_row_for_each_token_of_the_shared_tokenizer(preset):
    settings = load_preset(preset)
    owners = {model.base.split("/")[0] for model in (settings.teacher, settings.student)}
    assert len(owners) == 1
    tokens = TOKENS[owners.pop()]
    heads = [anatomy_of(model).vocabulary for model in (settings.teacher, settings.student)]
    assert min(heads) >= tokens > settings.knowledge.k
    assert (heads[0] == heads[1]) != preset.startswith("qwen")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_models_context_covers_the_longest_data(preset):
    settings = load_preset(preset)
    for model in (settings.teacher, settings.student):
        assert PUBLISHED[model.base][0].max_position_embeddings >= settings.data.max_length


@pytest.mark.parametrize("preset", PAPERS)
def test_hyperparameters_are_the_papers(preset):
    settings = load_preset(preset)
    training = settings.training
    assert (training.adam_beta1, training.adam_beta2, training.adam_epsilon) == (0.9, 0.999, 1e-6)
    assert (training.epochs, training.lr_warmup_fraction) == (3, 0.03)
    assert (training.teacher_learning_rate, training.student_learning_rate) == (2e-5, 2e-5)
    assert settings.knowledge.k == 5
    at_once, times = training.batch_sizes(8)
    assert at_once * times == 32  # examples per device
    assert (settings.teacher.tuning, settings.student.tuning) == ("full", "full")
    assert (settings.sizes.train, settings.sizes.test) == (None, None)


def planned(preset, devices=1):
    settings = load_preset(preset)
    return stages(settings, make_scene(settings), devices)


@pytest.mark.parametrize("preset", PAPERS)
def test_the_papers_systems_fit_on_eight_devices_of_80_gb_and_not_on_one(preset):
    (machine,) = find_machines("A100")
    assert fits(planned(preset, 8), machine)
    assert not fits(planned(preset), machine)


@pytest.mark.parametrize("preset", ONE_GPU)
def test_the_small_systems_fit_on_one_gpu_of_24_gb_in_a_day(preset):
    (machine,) = find_machines("4090")
    found = planned(preset)
    assert fits(found, machine)
    assert sum(machine.hours(stage.flops, stage.half) for stage in found) < 24
    training = load_preset(preset).training
    assert training.global_batch_size == 256  # a step sees as many examples as the paper's
    assert training.batch_sizes(1)[1] > 1


def test_the_laptops_system_fits_in_16_gb_and_one_night():
    (machine,) = find_machines("laptop")
    found = planned(LAPTOP)
    assert fits(found, machine)
    assert 5 < sum(machine.hours(stage.flops, stage.half) for stage in found) < 10
