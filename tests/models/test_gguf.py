"""GGUF files: imported exactly, or refused in one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import first_here
from transformers import AutoModelForCausalLM, AutoTokenizer
from write_gguf_model import HEADS, INNER, KEYS, LAYERS, WIDTH, write

from firstlib.models import gguf, gguf_file, gguf_tokens, loading, places
from firstlib.models.gguf_file import contents
from firstlib.models.gguf_tokens import PROBE, SPLITS, check_tokenizer, load_tokenizer, own_tokens
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import content_hash
from firstlib.settings.schema import Model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rotated_back(weight, heads):
    """GGUF holds llama's queries and keys with neighbouring rows as pairs; transformers pairs the halves of a head."""
    return weight.reshape(heads, -1, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_1", "Q5_0", "Q4_K"])
def test_weights_are_exactly_what_the_blocks_hold(tmp_path, kind):
    held = write(tmp_path / "m.gguf", kind)
    folder = gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], held["token_embd.weight"])
    np.testing.assert_array_equal(weights["model.layers.1.mlp.down_proj.weight"], held["blk.1.ffn_down.weight"])
    np.testing.assert_array_equal(weights["model.layers.1.input_layernorm.weight"], held["blk.1.attn_norm.weight"])
    for ours, theirs, heads in (("q_proj", "attn_q", HEADS), ("k_proj", "attn_k", KEYS)):
        expected = rotated_back(held[f"blk.0.{theirs}.weight"], heads)
        np.testing.assert_array_equal(weights[f"model.layers.0.self_attn.{ours}.weight"], expected)


def test_an_imported_model_can_be_trained_and_saved(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    model = loading.load_for_training(Model(base=str(tmp_path / "m.gguf")), seed=0)
    ids = torch.tensor([[1, 2, 3]])
    model(input_ids=ids, labels=ids).loss.backward()
    model.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").is_file()


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_tied_where_the_file_has_none(tmp_path, tied):
    held = write(tmp_path / "m.gguf", tied=tied)
    model = loading.load_base(Model(base=str(tmp_path / "m.gguf")))
    head = model.get_output_embeddings().weight.detach()
    np.testing.assert_array_equal(head, held["token_embd.weight" if tied else "output.weight"])
    assert model.config.tie_word_embeddings is tied


def test_the_manifest_tells_licence_and_quantisation(tmp_path):
    write(tmp_path / "m.gguf", "Q4_1")
    folder = gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")
    inputs = json.loads((folder / "manifest.json").read_text())["inputs"]
    assert inputs["licence"] == "apache-2.0"
    assert places.licence(Model(base=str(folder))) == "apache-2.0"
    assert places.licence(Model(base=str(tmp_path / "m.gguf"))) == "apache-2.0"
    assert inputs["quantisation"] == places.quantisation(Model(base=str(folder))) == {"Q4_1": 15, "F32": 5}
    assert inputs["head"] == "tied"


# -- tokenizers --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*does not say how its model splits text")
@pytest.mark.parametrize("pre", ["smollm", "default", "gpt-2", "qwen2", "llama-bpe", "falcon"])
def test_text_is_split_by_the_files_rule(tmp_path, pre):
    write(tmp_path / "m.gguf", pre=pre)
    folder = gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(PROBE).input_ids == own_tokens(contents(tmp_path / "m.gguf"), PROBE)


def test_qwens_accents_are_composed_before_splitting(tmp_path):
    """Its own tokenizer normalises text (NFC); a GGUF file does not say so, and llama.cpp does not do it."""
    sizes = {"attn_q": WIDTH, "attn_k": KEYS * WIDTH // HEADS, "attn_v": KEYS * WIDTH // HEADS}
    biases = {f"blk.{layer}.{name}.bias": np.ones(sizes[name], np.float32) for layer in range(LAYERS) for name in sizes}
    write(tmp_path / "m.gguf", architecture="qwen2", pre="qwen2", extra=biases)
    tokenizer = AutoTokenizer.from_pretrained(gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out"))
    assert tokenizer.tokenize("e\u0301") == tokenizer.tokenize("\u00e9")


def test_a_rule_that_splits_digits_keeps_them_apart(tmp_path):
    """`smollm` splits before merging: with GPT-2's rule, to which transformers falls back, 1999 would be one token."""
    tokens = {}
    for pre in ("smollm", "gpt-2"):
        write(tmp_path / f"{pre}.gguf", pre=pre)
        tokens[pre] = load_tokenizer(contents(tmp_path / f"{pre}.gguf")).tokenize("in 1999")
    assert tokens == {"smollm": ["in", "\u0120", "1", "9", "9", "9"], "gpt-2": ["in", "\u01201999"]}


def test_a_file_that_does_not_name_its_rule_is_read_as_llama_cpp_does_with_a_warning(tmp_path):
    write(tmp_path / "m.gguf", pre=None)
    with pytest.warns(UserWarning, match="does not say how its model splits text"):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")


@pytest.mark.parametrize("prefix", [True, False])
def test_a_vocabulary_with_scores_is_merged_by_them(tmp_path, prefix):
    write(tmp_path / "m.gguf", tokenizer="llama", pre="default", tokenizer_keys={"add_space_prefix": prefix})
    tokenizer = AutoTokenizer.from_pretrained(gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out"))
    start = ["<s>", "\u2581the"] if prefix else ["<s>", "the"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("the answer")["input_ids"])[:2] == start


def test_an_unknown_rule_is_refused(tmp_path):
    assert "invented" not in SPLITS
    write(tmp_path / "m.gguf", pre="invented")
    with pytest.raises(UserError, match="splits text by the rule 'invented'"):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")


def test_a_tokenizer_that_reads_otherwise_than_the_file_is_refused(tmp_path, monkeypatch):
    write(tmp_path / "m.gguf", pre="smollm")
    monkeypatch.setattr(
        gguf_tokens, "load_tokenizer", lambda found: AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    )
    with pytest.raises(UserError, match=r"token \d+ of a probe text is"):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")


# -- parts -------------------------------------------------------------------------------------------------------


def cut(path, count):
    raw = path.read_bytes()
    size = -(-len(raw) // count)
    parts = [path.with_name(f"part-{i + 1:02d}.bin") for i in range(count)]
    for i, part in enumerate(parts):
        part.write_bytes(raw[i * size : (i + 1) * size])
    return parts


def test_cut_files_are_joined(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    whole = gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "a")
    joined = gguf.import_gguf(cut(tmp_path / "m.gguf", 3), tmp_path / "b")
    assert (joined / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("chosen", "told"),
    [([0, 1], "a part is missing"), ([0, 2], "part 2 is missing"), ([0, 2, 1], "not in order"), ([1, 2], "begins with"),
     ([0, 1, 2, 2], "given twice")],
)  # fmt: skip
def test_parts_that_are_not_one_model_are_refused(tmp_path, chosen, told):
    write(tmp_path / "m.gguf", "Q8_0")
    parts = cut(tmp_path / "m.gguf", 3)
    with pytest.raises(UserError, match=told):
        gguf.import_gguf([parts[i] for i in chosen], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def split(path, folder):
    """Splits as gguf-split does: each part a file of its own, the metadata in the first."""
    from gguf import GGUFReader, GGUFWriter

    reader = GGUFReader(path)
    half = len(reader.tensors) // 2
    parts = []
    for number, tensors in enumerate((reader.tensors[:half], reader.tensors[half:])):
        parts.append(folder / f"m-{number + 1:05d}-of-00002.gguf")
        writer = GGUFWriter(parts[-1], "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                inner = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts


def test_parts_of_gguf_split_are_found_beside_the_first(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    whole = gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "a")
    parts = split(tmp_path / "m.gguf", tmp_path)
    joined = gguf.import_gguf(parts[:1], tmp_path / "b")
    assert (joined / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    parts[1].unlink()
    with pytest.raises(UserError, match=r"m-00002-of-00002\.gguf is not beside it"):
        gguf.import_gguf(parts[:1], tmp_path / "c")
    alone = parts[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(UserError, match="one of 2 parts"):
        gguf.import_gguf([alone], tmp_path / "c")


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architecture": "olmo2"}, "reads no GGUF of the architecture 'olmo2'"),
        ({"extra": {"rope_freqs.weight": np.ones(32, np.float32)}}, "scales positions by its tensor rope_freqs.weight"),
        ({"keys": {"rope.scaling.type": "yarn"}}, "llama.rope.scaling.type = yarn"),
        (
            {"keys": {"rope.scaling.factor": 4.0}},
            "llama.rope.scaling.factor = 4, and transformers would compute with 1",
        ),
        (
            {"extra": {"blk.0.attn_q.bias": np.ones(WIDTH, np.float32)}},
            r"lost in transformers, first blk\.0\.attn_q\.bias",
        ),
        ({"extra": {"blk.0.ffn_down.weight": np.full((WIDTH, INNER), np.nan, np.float32)}}, "are not finite"),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path, changes, told):
    write(tmp_path / "m.gguf", **changes)
    with pytest.raises(UserError, match=told):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")


@pytest.mark.parametrize("keep", [3, 40, 4000, -1000])
def test_a_file_that_was_cut_off_is_refused(tmp_path, keep):
    write(tmp_path / "m.gguf", "Q8_0")
    (tmp_path / "m.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:keep])
    with pytest.raises(UserError, match=r"get the file again|cut off|begins with"):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    write(tmp_path / "m.gguf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than an earlier result"):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_earlier_import_is_replaced_unless_something_would_be_lost(tmp_path):
    write(tmp_path / "m.gguf")
    gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")
    gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")
    (tmp_path / "out" / "config.json").unlink()
    gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")  # repairs it
    source = shutil.copy(tmp_path / "m.gguf", tmp_path / "out" / "new.gguf")
    with pytest.raises(UserError, match=r"new\.gguf does not belong there, and would be lost"):
        gguf.import_gguf([source], tmp_path / "out")
    assert Path(source).is_file()


def test_a_download_that_was_preallocated_and_interrupted_is_refused(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(UserError, match="matrices hold zeros alone, as after an interrupted download"):
        gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out")


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (["aa", "ac", "ab", "ad"], "are not in order"),
        (["aa", "ab", "ad"], r"a part before m\.gguf\.ad is missing"),
        (["aa", "ab", "again", "ac", "ad"], r"again: is the same as m\.gguf\.ab"),
    ],
)
def test_parts_that_are_named_as_split_names_them_are_checked(tmp_path, order, told):
    write(tmp_path / "m.gguf")
    for part, end in zip(cut(tmp_path / "m.gguf", 4), ("aa", "ab", "ac", "ad"), strict=True):
        part.rename(tmp_path / f"m.gguf.{end}")
    shutil.copy(tmp_path / "m.gguf.ab", tmp_path / "m.gguf.again")
    with pytest.raises(UserError, match=told):
        gguf.import_gguf([tmp_path / f"m.gguf.{end}" for end in order], tmp_path / "out")


def test_an_error_names_the_parts_not_the_file_that_they_were_joined_into(tmp_path):
    write(tmp_path / "m.gguf", keys={"rope.scaling.factor": 4.0})
    parts = cut(tmp_path / "m.gguf", 3)
    with pytest.raises(UserError, match=f"^{parts[0]}, joined with 2 more: has llama.rope.scaling.factor"):
        gguf.import_gguf(parts, tmp_path / "out")


def test_an_error_names_the_first_of_gguf_splits_parts_also_as_a_base(tmp_path):
    write(tmp_path / "m.gguf", keys={"rope.scaling.factor": 4.0})
    first = split(tmp_path / "m.gguf", tmp_path)[0]
    for make in (lambda: gguf.import_gguf([first], tmp_path / "out"), lambda: places.imported(first)):
        with pytest.raises(UserError, match=f"^{first}, joined with 1 more: has llama.rope.scaling.factor"):
            make()


def test_a_tokenizer_that_needs_no_change_keeps_its_file(tmp_path):
    write(tmp_path / "m.gguf", tokenizer="llama", pre=None)
    found = contents(tmp_path / "m.gguf")
    gguf_tokens.save_tokenizer(found, tmp_path / "saved")
    load_tokenizer(found).save_pretrained(tmp_path / "plain")
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == (tmp_path / "plain" / "tokenizer.json").read_bytes()


def test_a_token_that_the_file_lacks_gets_no_id_behind_its_vocabulary(tmp_path):
    write(tmp_path / "m.gguf")
    tokenizer = AutoTokenizer.from_pretrained(gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / "out"))
    count = len(contents(tmp_path / "m.gguf").metadata["tokenizer.ggml.tokens"])
    assert len(tokenizer) == count
    assert max(tokenizer("What is <|endoftext|> for?")["input_ids"]) < count


def test_a_vocabulary_without_a_start_token_is_refused_in_one_line(tmp_path, monkeypatch):
    write(tmp_path / "m.gguf", pre="llama-bpe")
    found = contents(tmp_path / "m.gguf")
    tokenizer = load_tokenizer(found)
    lacking = {key: value for key, value in found.metadata.items() if not key.endswith("bos_token_id")}
    monkeypatch.setattr(type(tokenizer), "__len__", lambda self: 0)
    with pytest.raises(UserError, match="its vocabulary lacks what a text needs"):
        check_tokenizer(tokenizer, replace(found, metadata=lacking))


# -- as a base model ---------------------------------------------------------------------------------------------


def test_a_base_model_may_be_a_file_and_is_imported_once(tmp_path, monkeypatch):
    write(tmp_path / "m.gguf", "Q8_0")
    model = Model(base=str(tmp_path / "m.gguf"))
    place = Path(places.base_location(model))
    assert place.parent == tmp_path / "cache" / "firstlib"
    places._imported.cache_clear()
    monkeypatch.setattr(gguf, "convert", None)  # a second import would fail
    assert Path(places.base_location(model)) == place
    assert places.base_identity(model) == places.base_identity(Model(base=str(place)))


def test_a_split_base_model_is_joined_and_imported_once(tmp_path, monkeypatch):
    write(tmp_path / "m.gguf", "Q8_0")
    model = Model(base=str(split(tmp_path / "m.gguf", tmp_path)[0]))
    place = Path(places.base_location(model))
    assert places.base_identity(model) == places.base_identity(Model(base=str(tmp_path / "m.gguf")))
    assert places.licence(model) == "apache-2.0"
    places._imported.cache_clear()
    monkeypatch.setattr(gguf_file, "joined", None)  # a second copy would fail
    assert Path(places.base_location(model)) == place


def test_a_split_base_model_is_joined_again_where_its_import_was_removed(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    model = Model(base=str(split(tmp_path / "m.gguf", tmp_path)[0]))
    place = Path(places.base_location(model))
    shutil.rmtree(place)
    places._imported.cache_clear()
    assert Path(places.base_location(model)) == place
    assert (place / "model.safetensors").is_file()


def test_a_change_of_any_part_is_seen(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    parts = split(tmp_path / "m.gguf", tmp_path)
    model = Model(base=str(parts[0]))
    place = places.base_location(model)
    write(tmp_path / "m.gguf", "Q8_0", seed=1)
    (tmp_path / "other").mkdir()
    split(tmp_path / "m.gguf", tmp_path / "other")[1].replace(parts[1])
    assert places.base_location(model) != place


def test_the_import_of_a_whole_file_is_found_by_what_it_always_was(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    found = contents(tmp_path / "m.gguf").provenance()
    key = content_hash({"format": places.IMPORT, **found})
    assert Path(places.base_location(Model(base=str(tmp_path / "m.gguf")))).name == f"gguf-{key}"


def test_two_imports_of_one_file_are_one_base(tmp_path):
    write(tmp_path / "m.gguf", "Q8_0")
    folders = [gguf.import_gguf([tmp_path / "m.gguf"], tmp_path / name) for name in "ab"]
    assert len({places.base_identity(Model(base=str(folder))) for folder in folders}) == 1


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserError, match="there is no such file"):
        places.base_location(Model(base="/nowhere/m.gguf"))


def test_the_verb_imports_or_says_in_one_line_why_not(tmp_path):
    write(tmp_path / "m.gguf")
    done = first_here("import-gguf", tmp_path / "m.gguf", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()
    refused = first_here("import-gguf", tmp_path / "none.gguf", "--to", tmp_path / "out2")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
