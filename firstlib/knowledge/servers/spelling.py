"""What a token writes, in bytes: a tokenizer's own tokens, and the ways in which servers spell a teacher's.

A token's text is what it adds in the middle of a text, so that its leading space belongs to it. Bytes, and not
characters, because a token may be a part of a character.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # what stands in a text where bytes are no whole character
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")

# GPT-2's alphabet: a printable character stands for its own byte, the others follow from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_ALPHABET = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}

Reading = Callable[[str], bytes]


def literal(text: str) -> bytes:
    r"""As it stands; OpenAI's older completions write a part of a character as `bytes:\xf0\x9f`.

    >>> literal(" the"), literal(r"bytes: \xf0\x9f")
    (b' the', b' \xf0\x9f')
    """
    if text.startswith("bytes:") and _ESCAPED.search(text):
        return b"".join(
            bytes.fromhex(part) if index % 2 else part.encode("utf-8", "surrogatepass")
            for index, part in enumerate(_ESCAPED.split(text.removeprefix("bytes:")))
        )
    return text.encode("utf-8", "surrogatepass")


def byte_level(text: str) -> bytes:
    """As a byte-level vocabulary writes it.

    >>> byte_level("Ġthe")
    b' the'
    """
    known = all(character in _ALPHABET for character in text)
    return bytes(_ALPHABET[character] for character in text) if known else literal(text)


def metaspace(text: str) -> bytes:
    r"""As SentencePiece writes it, bytes included.

    >>> metaspace("▁the"), metaspace("<0x0A>")
    (b' the', b'\n')
    """
    byte = _BYTE.fullmatch(text)
    return bytes.fromhex(byte[1]) if byte else literal(text.replace("▁", " "))


READINGS: tuple[Reading, ...] = (literal, byte_level, metaspace)


def readings(texts: Iterable[str]) -> tuple[Reading, ...]:
    """How a response's tokens may be meant, the likeliest first: literally, or as a vocabulary writes them.

    >>> readings([" the"]) == (literal,), readings(["Ġthe"]) == (literal, byte_level)
    (True, True)
    """
    signs = {"Ġ": byte_level, "Ċ": byte_level, "▁": metaspace, "<0x": metaspace}
    seen = {meant for text in texts for sign, meant in signs.items() if sign in text}
    return tuple(reading for reading in READINGS if reading is literal or reading in seen)


@dataclass(frozen=True)
class Pieces:
    """What each token of a tokenizer writes.

    Attributes:
        texts: By token id; empty where an id is no token.
        ids: The token that writes a text, where one does.
        begin: The token that begins every text, if one does.
        end: The end token.
    """

    texts: tuple[bytes, ...]
    ids: dict[bytes, int]
    begin: int | None
    end: int


def pieces_of(tokenizer: PreTrainedTokenizerBase, vocabulary: int | None = None) -> Pieces:
    """Asks the tokenizer itself: what decoding gives after some other token is what a token writes.

    Where two tokens write the same, the one that is no bare byte is meant, else the first.

    Args:
        tokenizer: One with a fast backend.
        vocabulary: Ids that are tokens (default: all that the tokenizer knows).
    """
    size = min(len(tokenizer), len(tokenizer) if vocabulary is None else vocabulary)
    names = [name or "" for name in tokenizer.convert_ids_to_tokens(list(range(size)))]
    texts = _decoded(tokenizer, names)
    ids: dict[bytes, int] = {}
    for index in sorted(range(size), key=lambda index: _BYTE.fullmatch(names[index]) is not None):
        if texts[index]:
            ids.setdefault(texts[index], index)
    return Pieces(tuple(texts), ids, tokenizer.bos_token_id, tokenizer.eos_token_id)


def _decoded(tokenizer: PreTrainedTokenizerBase, names: list[str]) -> list[bytes]:
    backend = tokenizer.backend_tokenizer
    before = next((i for i, name in enumerate(names) if _is_plain(name, backend.decode([i]))), 0)
    start = backend.decode([before], skip_special_tokens=False)
    pairs = backend.decode_batch([[before, i] for i in range(len(names))], skip_special_tokens=False)
    return [
        _raw(name) if UNKNOWN in pair else pair.removeprefix(start).encode()
        for name, pair in zip(names, pairs, strict=True)
    ]


def _is_plain(name: str, text: str) -> bool:
    """Whether a token is no special one, no bare byte and no part of a character."""
    return text != "" and UNKNOWN not in text and not _BYTE.fullmatch(name)


def _raw(name: str) -> bytes:
    return metaspace(name) if _BYTE.fullmatch(name) else byte_level(name)
