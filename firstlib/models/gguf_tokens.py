"""The tokenizer of a GGUF file: built by transformers, split as the file says, and compared with the file's own tokens.

A GGUF file holds vocabulary and merges, and of the rule that splits text before merging only a name. Where transformers
does not know the name it falls back to GPT-2's rule without a word, and every token count and probability is then a
little wrong. So the rules that it lacks stand here, as llama.cpp has them (src/llama-vocab.cpp), and the result is
compared with an independent tokenisation of one text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from firstlib.models.gguf_file import Contents
from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.files import write_json

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS = (r"\p{N}", _GPT2)
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")
DEFAULT = "default"

# The rules that transformers lacks, by the names of `tokenizer.ggml.pre`: each splits the pieces of the one before.
SPLITS: dict[str, tuple[str, ...]] = {
    **{name: (rule,) for name, rule in GGUF_PRE_TOKENIZER_SPLITS.items()},
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"), (_GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), _DIGITS),
    **dict.fromkeys(("stablelm2", "hunyuan"), (GGUF_PRE_TOKENIZER_SPLITS["qwen2"],)),
    "falcon": _FALCON,
    DEFAULT: (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
}
# Whose whole words are tokens whatever the merges say, and whose texts begin with the start token.
_WHOLE_WORDS = frozenset(
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken")
)

PROBE = (
    "Q: In 1999, what's 3.14159 * (2 + 40)?\nAnswer Choices:\n(a) twenty-one\n(b) I don't know; they'LL see\nA: The "
    "answer is (b).\n\n\n  def f(x):\n\t\treturn x**2  # 100,000 caf\u00e9s\r\n\u00dcber\u00adgr\u00f6\u00dfe \u2014 "
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u041f\u0440\u0438\u0432\u0435\u0442 \U0001f600\U0001f680 e\u0301  end   "
)


def load_tokenizer(found: Contents) -> PreTrainedTokenizerBase:
    """Builds a file's tokenizer, which splits text as llama.cpp does.

    Raises:
        UserError: Its kind or its rule of splitting is not known.
    """
    kind, path = found.metadata.get("tokenizer.ggml.model"), found.path
    if kind not in ("gpt2", "llama"):
        raise UserError(
            f"{path}: its tokenizer is of the kind {kind!r}, which cannot be checked; known are gpt2, llama"
        )
    rules = split_rules(found) if kind == "gpt2" else ()
    tokenizer: Any
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # a vocabulary that contradicts itself fails in any way
        raise UserError(f"{path}: its tokenizer cannot be built ({first_line(error)[:200]}); get it again") from error
    backend: Any = tokenizer.backend_tokenizer
    if rules:
        splits = [pre_tokenizers.Split(Regex(rule), behavior="isolated") for rule in rules]
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
        backend.model.ignore_merges = _pre(found) in _WHOLE_WORDS
    elif not _prefixed(found) and isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="never", split=False)
    tokenizer.add_bos_token = _begins(found)
    return tokenizer


def save_tokenizer(found: Contents, to: Path) -> None:
    """Writes a file's tokenizer to a folder, without the tokens that transformers adds behind its vocabulary.

    Some of its classes add `<|endoftext|>` where a file has no such token. Its id would be that of no weight.

    Raises:
        UserError: As `load_tokenizer`.
    """
    load_tokenizer(found).save_pretrained(to)
    file, count = to / "tokenizer.json", len(found.metadata["tokenizer.ggml.tokens"])
    content = json.loads(file.read_text(encoding="utf-8"))
    kept = [token for token in content["added_tokens"] if token["id"] < count]
    if kept != content["added_tokens"]:  # otherwise the file, and with it the model's identity, stays as it is
        write_json(file, {**content, "added_tokens": kept})


def split_rules(found: Contents) -> tuple[str, ...]:
    """Returns the expressions that split text before it is merged.

    Raises:
        UserError: The file names a rule that is not known.
    """
    name = _pre(found)
    if name not in SPLITS:
        raise UserError(
            f"{found.path}: it splits text by the rule {name[:60]!r}, which is not known, and any other gives other "
            "tokens; use the model's original folder"
        )
    return SPLITS[name]


def _pre(found: Contents) -> str:
    return str(found.metadata.get("tokenizer.ggml.pre") or DEFAULT)


def is_guessed(found: Contents) -> bool:
    """Whether the file does not say how its model splits text: llama.cpp then takes its own rule."""
    return found.metadata.get("tokenizer.ggml.model") == "gpt2" and _pre(found) == DEFAULT


def _prefixed(found: Contents) -> bool:
    return bool(found.metadata.get("tokenizer.ggml.add_space_prefix", True))


def _begins(found: Contents) -> bool:
    usual = found.metadata.get("tokenizer.ggml.model") == "llama" or _pre(found) in _WHOLE_WORDS
    return bool(found.metadata.get("tokenizer.ggml.add_bos_token", usual))


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, found: Contents) -> None:
    """Compares a tokenizer with the file's own vocabulary and merges on one text of many scripts.

    A file does not say whether text is normalised first. transformers composes accents for Qwen (NFC), as Qwen's own
    tokenizer does; llama.cpp does not. So the file's tokens are those of the composed text.

    Raises:
        UserError: A token differs; names the first.
    """
    tokens = found.metadata["tokenizer.ggml.tokens"]
    if (added := len(tokenizer) - len(tokens)) > 0:
        raise UserError(
            f"{found.path}: transformers adds {added} tokens behind its vocabulary, which have no weights; use the "
            "model's original folder"
        )
    backend: Any = tokenizer.backend_tokenizer
    composes = isinstance(backend.normalizer, normalizers.NFC)
    text = backend.normalizer.normalize_str(PROBE) if composes else PROBE
    try:
        ours, own = list(tokenizer(PROBE)["input_ids"]), own_tokens(found, text)
    except Exception as error:  # a byte without a token, no start token: either side fails in its own way
        what = f"{type(error).__name__}: {first_line(error)[:100]}"
        raise UserError(
            f"{found.path}: its vocabulary lacks what a text needs ({what}); use the model's original folder"
        ) from error
    if ours != own:
        raise UserError(f"{found.path}: {_difference(tokens, ours, own)}; use the model's original folder")


def _difference(tokens: Sequence[str], ours: Sequence[int], own: Sequence[int]) -> str:
    at = next(
        (i for i, pair in enumerate(zip(ours, own, strict=False)) if len(set(pair)) > 1), min(len(ours), len(own))
    )
    names = [tokens[ids[at]] if at < len(ids) else None for ids in (ours, own)]
    return (
        f"transformers would read text otherwise than its own vocabulary and merges say: token {at} of a probe text is "
        f"{names[0]!r} and should be {names[1]!r}"
    )


# -- the file's own tokens, independent of transformers ----------------------------------------------------------


def own_tokens(found: Contents, text: str) -> list[int]:
    """Returns the ids of a text by the file's own vocabulary, merged by rank or by score, as llama.cpp does."""
    start = [int(found.metadata["tokenizer.ggml.bos_token_id"])] if _begins(found) else []
    if found.metadata["tokenizer.ggml.model"] == "gpt2":
        return start + list(_by_merges(found, text))
    return start + list(_by_scores(found.metadata, text, _prefixed(found)))


def _by_merges(found: Contents, text: str) -> Iterator[int]:
    tokens = {token: i for i, token in enumerate(found.metadata["tokenizer.ggml.tokens"])}
    ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(found.metadata.get("tokenizer.ggml.merges", ()))}
    spelling, whole = bytes_to_unicode(), _pre(found) in _WHOLE_WORDS
    for piece in _pieces(text, split_rules(found)):
        word = "".join(spelling[byte] for byte in piece.encode())
        yield from [tokens[word]] if whole and word in tokens else (tokens[part] for part in _merged(list(word), ranks))


def _merged(parts: list[str], ranks: Mapping[tuple[str, ...], int]) -> list[str]:
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        parts = list(_with_pair_joined(parts, best))
    return parts


def _with_pair_joined(parts: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    at = 0
    while at < len(parts):
        joined = tuple(parts[at : at + 2]) == pair
        yield "".join(pair) if joined else parts[at]
        at += 2 if joined else 1


def _pieces(text: str, rules: Sequence[str]) -> list[str]:
    found = [text]
    for rule in rules:
        found = [part for piece in found for part in regex.split(f"({rule})", piece) if part]
    return found


def _by_scores(metadata: Mapping[str, Any], text: str, prefixed: bool) -> Iterator[int]:
    tokens = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    scores = metadata["tokenizer.ggml.scores"]
    parts = list(("\u2581" if prefixed else "") + text.replace(" ", "\u2581"))
    while True:
        joined = [tokens.get(first + second) for first, second in pairwise(parts)]
        known = [(-scores[token], place) for place, token in enumerate(joined) if token is not None]
        if not known:
            break
        place = min(known)[1]
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    for part in parts:
        yield from [tokens[part]] if part in tokens else (tokens[f"<0x{byte:02X}>"] for byte in part.encode())
