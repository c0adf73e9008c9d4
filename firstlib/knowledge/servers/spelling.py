"""Texts of tokens, in bytes: those of a tokenizer, and the ways in which servers spell a teacher's tokens.

A token's text is what it adds in the middle of a text, including its leading space. Texts are bytes, because a token
may be part of a character.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase


UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # replaces bytes that do not form a character
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")

# GPT-2's alphabet: printable characters represent their own byte; the other bytes are mapped to 256 and up.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_ALPHABET = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}

Reading = Callable[[str], bytes]


def literal(text: str) -> bytes:
    r"""Reads a token literally; OpenAI's older completions write part of a character as `bytes:\xf0\x9f`.

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
    """Reads a token as spelled in a byte-level vocabulary.

    >>> byte_level("Ġthe")
    b' the'
    """
    known = all(character in _ALPHABET for character in text)
    return bytes(_ALPHABET[character] for character in text) if known else literal(text)


def metaspace(text: str) -> bytes:
    r"""Reads a token as spelled in a SentencePiece vocabulary, including byte tokens.

    >>> metaspace("▁the"), metaspace("<0x0A>")
    (b' the', b'\n')
    """
    byte = _BYTE.fullmatch(text)
    return bytes.fromhex(byte[1]) if byte else literal(text.replace("▁", " "))


READINGS: tuple[Reading, ...] = (literal, byte_level, metaspace)


def readings(texts: Iterable[str]) -> tuple[Reading, ...]:
    """Returns the possible readings of a response's tokens, likeliest first: literal, or by a vocabulary's spelling.

    >>> readings([" the"]) == (literal,), readings(["Ġthe"]) == (literal, byte_level)
    (True, True)
    """
    markers = {"Ġ": byte_level, "Ċ": byte_level, "▁": metaspace, "<0x": metaspace}
    seen = {reading for text in texts for marker, reading in markers.items() if marker in text}
    return tuple(reading for reading in READINGS if reading is literal or reading in seen)


@dataclass(frozen=True)
class Pieces:
    """The texts of a tokenizer's tokens.

    Attributes:
        texts: By token id; empty if an id is not a token.
        ids: Token ids by text.
        begin: Id of the token that begins every text, if any.
        end: Id of the end token.
    """

    texts: tuple[bytes, ...]
    ids: dict[bytes, int]
    begin: int | None
    end: int


def pieces_of(tokenizer: "PreTrainedTokenizerBase", vocabulary: int | None = None) -> Pieces:
    """Determines token texts by decoding each token after another token.

    If several tokens have the same text, `ids` holds the first that is not a byte token, or else the first.

    Args:
        tokenizer: A tokenizer with a fast backend.
        vocabulary: Number of ids that are tokens (default: all of the tokenizer's).
    """
    size = min(len(tokenizer), len(tokenizer) if vocabulary is None else vocabulary)
    names = [name or "" for name in tokenizer.convert_ids_to_tokens(list(range(size)))]
    texts = _decoded(tokenizer, names)
    ids: dict[bytes, int] = {}
    for index in sorted(range(size), key=lambda index: _BYTE.fullmatch(names[index]) is not None):
        if texts[index]:
            ids.setdefault(texts[index], index)
    return Pieces(tuple(texts), ids, tokenizer.bos_token_id, tokenizer.eos_token_id)


def _decoded(tokenizer: "PreTrainedTokenizerBase", names: list[str]) -> list[bytes]:
    backend = tokenizer.backend_tokenizer
    before = next((i for i, name in enumerate(names) if _is_plain(name, backend.decode([i]))), 0)
    start = backend.decode([before], skip_special_tokens=False)
    pairs = backend.decode_batch([[before, i] for i in range(len(names))], skip_special_tokens=False)
    return [
        _raw(name) if UNKNOWN in pair else pair.removeprefix(start).encode()
        for name, pair in zip(names, pairs, strict=True)
    ]


def _is_plain(name: str, text: str) -> bool:
    """Returns whether a token is neither special, nor a byte token, nor part of a character."""
    return text != "" and UNKNOWN not in text and not _BYTE.fullmatch(name)


def _raw(name: str) -> bytes:
    return metaspace(name) if _BYTE.fullmatch(name) else byte_level(name)
