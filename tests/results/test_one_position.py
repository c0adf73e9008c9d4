"""One position by hand: the student's logits are the model's own, whatever its family does to them."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPTJConfig, GraniteConfig

from firstlib import Experiment
from firstlib.experiment import stages, students
from firstlib.results.one_position import one_position, student_at

SHAPE = {"vocab_size": 600, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SHAPE, **HEADS, final_logit_softcapping=0.5),
        GraniteConfig(**SHAPE, num_attention_heads=2, num_key_value_heads=2, logits_scaling=4.0),
        GPTJConfig(vocab_size=600, n_embd=16, n_layer=2, n_head=2, rotary_dim=4),
    ],
    ids=["soft cap", "factor", "bias"],
)
def test_logits_are_the_models_own(tiny_preset, tmp_path, monkeypatch, config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    monkeypatch.setattr(stages, "load", lambda *_: model)
    monkeypatch.setattr(students, "student", lambda *_: tmp_path)
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    position = one_position(experiment)
    own = model(torch.tensor([position.before])).logits[:, -1]
    logits = student_at(experiment, "first", position).logits
    torch.testing.assert_close(logits, own)
    assert not logits.requires_grad  # notebooks read it as an array


def test_a_student_that_is_missing_is_trained_first(tiny_preset, tmp_path):
    experiment = Experiment(str(tiny_preset), run_folder=str(tmp_path))
    found = student_at(experiment, "distill", one_position(experiment))
    assert list(experiment.folder.glob("student-top-k-*/manifest.json"))
    assert found.logits.shape[0] == 1
