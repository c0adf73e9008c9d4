"""Writes a Llama folder as GGUF, with the package gguf: `python write_gguf.py FOLDER FILE`. Run by test_real_server."""

import json
import struct
import sys
from pathlib import Path

import numpy as np

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of tokens in GGUF


def tensors(file):
    raw = file.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    head.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*each["data_offsets"])], np.float32).reshape(each["shape"])
        for name, each in head.items()
    }


def interleaved(weight, heads):
    """GGUF rotates neighbouring rows, transformers the two halves of a head."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weight.shape))


def vocabulary(folder):
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    names = sorted(model["vocab"], key=model["vocab"].get)
    rank = {"".join(merge): place for place, merge in enumerate(model["merges"])}
    special = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    kinds = [special.get(name, BYTE if name.startswith("<0x") else NORMAL) for name in names]
    return names, [-1.0 - rank[name] if name in rank else -1e4 for name in names], kinds


def write(folder, file):
    from gguf import GGUFWriter

    config, found = json.loads((folder / "config.json").read_text()), tensors(folder / "model.safetensors")
    names, scores, kinds = vocabulary(folder)
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(len(names))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_tensor("token_embd.weight", found["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", found["model.norm.weight"])
    writer.add_tensor("output.weight", found["lm_head.weight"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for layer in range(config["num_hidden_layers"]):
        for ours, theirs in NAMES.items():
            weight = found[f"model.layers.{layer}.{ours}.weight"]
            weight = interleaved(weight, heads[theirs]) if theirs in heads else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
