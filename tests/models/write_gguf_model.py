"""Writes tiny models as GGUF files, in several types of blocks."""

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quantize
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH, LAYERS, HEADS, KEYS, INNER = 256, 2, 4, 2, 512
MERGES = [
    "t h",
    "th e",
    "\u0120 the",
    "i n",
    "1 9",
    "9 9",
    "19 99",
    "\u0120 a",
    "( a",
    "\u0120 (",
    "' s",
    "\u0120 1999",
]
SPECIAL = ["<|end|>", "<|start|>"]
NORMAL, CONTROL, BYTE = 1, 3, 6


def bpe_tokens():
    pieces = [*bytes_to_unicode().values(), *("".join(pair.split(" ")) for pair in MERGES), *SPECIAL]
    return pieces + [f"<|unused{i}|>" for i in range(-len(pieces) % 32)]


def spm_tokens():
    words = [
        "\u2581",
        "t",
        "h",
        "e",
        "th",
        "the",
        "\u2581the",
        "a",
        "\u2581a",
        "n",
        "s",
        "w",
        "r",
        "er",
        "\u2581\u2581",
    ]
    plain = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    return plain + [f"<unused{i}>" for i in range(-len(plain) % 32)]


def weights(vocabulary, tied, rng):
    kv = WIDTH * KEYS // HEADS
    found = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    if not tied:
        found["output.weight"] = (vocabulary, WIDTH)
    for layer in range(LAYERS):
        shapes = {
            "attn_q": (WIDTH, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH), "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
            "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,),
        }  # fmt: skip
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    return {
        name: (1 + 0.1 * rng.standard_normal(shape) if len(shape) == 1 else 0.1 * rng.standard_normal(shape)).astype(
            np.float32
        )
        for name, shape in found.items()
    }


def q4_k_blocks(shape, rng):
    """Random blocks of Q4_K, which gguf can read and not write: two scales, then 6-bit scales, then 4-bit values."""
    rows, blocks = shape[0], shape[1] // 256
    scales = np.array([0.003, 0.02], np.float16).view(np.uint8)
    raw = rng.integers(0, 256, (rows, blocks, 144), dtype=np.uint8)
    raw[:, :, :4] = scales
    return raw.reshape(rows, blocks * 144)


def add_tokenizer(writer, kind, pre, **more):
    tokens = bpe_tokens() if kind == "gpt2" else spm_tokens()
    writer.add_tokenizer_model(kind)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    if kind == "gpt2":
        writer.add_token_types([CONTROL if token.startswith("<|") else NORMAL for token in tokens])
        writer.add_token_merges(MERGES)
        writer.add_eos_token_id(tokens.index("<|end|>"))
        writer.add_bos_token_id(tokens.index("<|start|>"))
    else:
        kinds = [CONTROL if i < 3 else BYTE if token.startswith("<0x") else NORMAL for i, token in enumerate(tokens)]
        writer.add_token_types(kinds)
        writer.add_token_scores([-float(i) for i in range(len(tokens))])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    for name, value in more.items():
        getattr(writer, f"add_{name}")(value)
    return len(tokens)


def write(
    path, kind="F32", *, architecture="llama", tokenizer="gpt2", pre="gpt-2", tied=True, keys=None, extra=None, seed=0,
    tokenizer_keys=None,
):  # fmt: skip
    """Writes a model, and returns each tensor as the file's blocks hold it."""
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, architecture)
    size = add_tokenizer(writer, tokenizer, pre, **(tokenizer_keys or {}))
    writer.add_string("general.license", "apache-2.0")
    for name, value in {
        "context_length": 128, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": INNER,
        "head_count": HEADS, "head_count_kv": KEYS, "layer_norm_rms_eps": 1e-5, "rope_dimension_count": WIDTH // HEADS,
        "vocab_size": size,
    }.items():  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    for name, value in (keys or {}).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_string)(f"{architecture}.{name}", value)
    held = {}
    for name, weight in {**weights(size, tied, rng), **(extra or {})}.items():
        held[name] = add(writer, name, weight, kind, rng)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def add(writer, name, weight, kind, rng):
    if weight.ndim == 1 or kind == "F32":
        writer.add_tensor(name, weight)
        return weight
    type_ = Type[kind]
    raw = q4_k_blocks(weight.shape, rng) if kind == "Q4_K" else quantize(weight, type_)
    writer.add_tensor(name, raw, raw_dtype=type_)
    return unpacked(raw, kind, weight.shape)


def unpacked(raw, kind, shape):
    """Blocks as numbers, by the formats' definitions (ggml-quants.c), independent of gguf and transformers."""
    if kind == "F16":
        return np.asarray(raw).view(np.float16).reshape(shape).astype(np.float32)
    size, count = {"Q8_0": (34, 32), "Q4_1": (20, 32), "Q5_0": (22, 32), "Q4_K": (144, 256)}[kind]
    blocks = np.asarray(raw).view(np.uint8).reshape(-1, size)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if kind == "Q8_0":
        values = scale * blocks[:, 2:].view(np.int8)
    elif kind == "Q4_1":
        least = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
        values = scale * np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1) + least
    elif kind == "Q5_0":
        fifth = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little").astype(np.int8)
        low = np.concatenate([blocks[:, 6:] & 15, blocks[:, 6:] >> 4], axis=1).astype(np.int8)
        values = scale * (low + 16 * fifth - 16)
    else:
        values = np.stack([q4_k(block) for block in blocks])
    assert values.shape[1] == count
    return values.reshape(shape).astype(np.float32)


def q4_k(block):
    scale, least = block[:4].copy().view(np.float16).astype(np.float32)
    packed, values = block[4:16], block[16:].reshape(4, 32)
    found = []
    for j in range(8):
        if j < 4:
            factor, offset = packed[j] & 63, packed[j + 4] & 63
        else:
            factor = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4)
            offset = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)
        nibbles = values[j // 2] & 15 if j % 2 == 0 else values[j // 2] >> 4
        found.append(scale * factor * nibbles.astype(np.float32) - least * offset)
    return np.concatenate(found)
