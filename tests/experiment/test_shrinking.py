"""`first shrink`: the least influential layers are dropped, the rest is healed, and a killed call resumes."""

import json
import os

import pytest
import torch
from command_line import first_here
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from firstlib.experiment import shrinking, stages
from firstlib.experiment.shrinking import Shrinking, shrink
from firstlib.models.places import SHRUNK, licence, quantisation
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model
from firstlib.tasks import microworld
from firstlib.tasks.microworld import corpus


@pytest.fixture(scope="module")
def base(tmp_path_factory, base_folder):
    """A tiny model of four layers whose third changes nothing."""
    folder = tmp_path_factory.mktemp("whole")
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    ))  # fmt: skip
    for weight in (model.model.layers[2].self_attn.o_proj.weight, model.model.layers[2].mlp.down_proj.weight):
        torch.nn.init.zeros_(weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory, world):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    questions = microworld.ask(world, "csqa", "train", 60, 0)
    file.write_text(" ".join(one.prompt + one.response for one in questions))
    return file


def how(base, text, **changes):
    return Shrinking(base, **{"layers": 3, "text": text, "passage": 32, "passages": 60, **changes})


def test_the_layer_that_changes_nothing_is_dropped_first(base, text, tmp_path):
    found = shrink(how(base, text), tmp_path / "small")
    assert found.dropped == [2]
    assert found.influence[2] == pytest.approx(0, abs=1e-6)
    assert found.cut == pytest.approx(found.base, abs=1e-5) == pytest.approx(found.without[2], abs=1e-5)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "small").config.num_hidden_layers == 3
    assert len(AutoTokenizer.from_pretrained(tmp_path / "small")) == len(AutoTokenizer.from_pretrained(base))
    assert json.loads((tmp_path / "small" / SHRUNK).read_text())["healed"] == found.healed
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_healing_brings_a_trained_model_nearer_to_the_whole_one(world, tmp_path):
    file = tmp_path / "pages.txt"
    file.write_text("</s><s>".join(corpus.text_of(page) for page in corpus.pages(world, 600, 1, {"facts": 1.0})))
    given = how("data/microworld/student", file, layers=2, epochs=4, learning_rate=1e-3, passages=200)
    found = shrink(given, tmp_path / "small")
    assert found.cut - found.healed > (found.cut - found.base) / 2 > 0


def test_a_killed_call_resumes_from_its_finished_stages(base, text, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            shrink(how(base, text), tmp_path / "small")
    assert not (tmp_path / "small").exists()
    monkeypatch.setattr(shrinking, "_cut", killed)
    assert shrink(how(base, text, learning_rate=2e-4), tmp_path / "small").dropped == [2]  # the layers do not ask how


def test_what_the_whole_models_file_states_is_handed_on(base, text, tmp_path, monkeypatch):
    assert licence(Model(base=base)) is None
    assert quantisation(Model(base=base)) == {}
    monkeypatch.setattr(shrinking, "licence", lambda model: "apache-2.0")
    monkeypatch.setattr(shrinking, "quantisation", lambda model: {"Q4_K": 7})
    shrink(how(base, text, passages=20), tmp_path / "small")
    small = Model(base=str(tmp_path / "small"))
    assert (licence(small), quantisation(small)) == ("apache-2.0", {"Q4_K": 7})


def test_the_command_shows_every_layer(base, text, tmp_path):
    options = ("--layers", "3", "--passage", "32", "--passages", "20", "--to", str(tmp_path / "small"))
    base = os.path.relpath(base)  # as the user's folder has it, not the project's
    done = first_here("shrink", base, "--text", str(text), *options)
    assert done.returncode == 0, done.stderr
    assert "dropped" in done.stdout
    assert "nats a token" in done.stdout


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": 4}, "has 4 layers, so from 1 to 3 can be left"),
        ({"passage": 1000}, "passages of 1000 tokens, and 10 are needed"),
        ({"learning_rate": float("nan")}, "--rate: must be a number between 0 and 1"),
        ({"passage": 2049}, "reads 2048 tokens at most, not 2049"),
        ({"learning_rate": -1.0}, "--rate: must be a number between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(base, text, tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        shrink(how(base, text, **changes), tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_an_earlier_result_is_replaced_but_not_the_base_itself_nor_what_lies_beside_it(base, text, tmp_path):
    small = tmp_path / "small"
    for _ in range(2):
        shrink(how(base, text, passages=20), small)
    with pytest.raises(UserError, match="is the base model itself"):
        shrink(how(str(small), text, layers=2, passages=20), small)
    (small / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt does not belong there, and would be lost"):
        shrink(how(base, text, passages=20), small)


def test_passages_begin_as_the_tokenizer_begins_texts(base, text):
    tokenizer = AutoTokenizer.from_pretrained(base)
    start = tokenizer("")["input_ids"]
    measured, trained = shrinking._passages(how(base, text))
    expected = tokenizer(text.read_text(), add_special_tokens=False)["input_ids"][: 32 - len(start)]
    assert measured[0] == [*start, *expected]
    assert all(len(one.token_ids) == 32 for one in trained)


def test_a_text_that_cannot_be_read_and_a_used_folder_are_refused(base, text, tmp_path):
    with pytest.raises(UserError, match="is not a text in UTF-8 that can be read"):
        shrink(how(base, tmp_path / "none.txt"), tmp_path / "small")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.docx").touch()
    with pytest.raises(UserError, match="holds something else"):
        shrink(how(base, text), tmp_path / "other")
