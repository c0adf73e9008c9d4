"""The text of each token, for every kind of tokenizer."""

import pytest
from small_tokenizers import ALL, PROMPT, RESPONSE, byte_level, sentence_piece, word_level

from firstlib.knowledge.servers import spelling
from firstlib.knowledge.servers.spelling import byte_level as read_byte_level
from firstlib.knowledge.servers.spelling import literal, metaspace, pieces_of, readings

TEXTS = [PROMPT + RESPONSE, "The cats are unbelievable, the cat is not.", "answers 😀"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_are_the_text(kind, text):
    tokenizer = ALL[kind]()
    pieces = pieces_of(tokenizer)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    written = b"".join(pieces.texts[i] for i in ids).decode()
    before = " " if kind == "sentence-piece" else ""  # it puts a space before every text
    assert written == before + text
    assert len(ids) > 1


@pytest.mark.parametrize("kind", ALL)
def test_every_text_maps_back_to_its_token(kind):
    pieces = pieces_of(ALL[kind]())
    assert pieces.ids
    assert all(pieces.texts[i] == text for text, i in pieces.ids.items())


def test_parts_of_a_character_are_their_bytes():
    tokenizer = byte_level()
    ids = tokenizer("answers 😀").input_ids
    pieces = pieces_of(tokenizer)
    assert "😀".encode() in b"".join(pieces.texts[i] for i in ids)
    assert any(text == b"\xf0" for text in pieces.texts)


def test_a_word_token_precedes_the_byte_token_with_the_same_text():
    tokenizer = sentence_piece()
    pieces, names = pieces_of(tokenizer), tokenizer.get_vocab()
    assert pieces.texts[names["<0x61>"]] == pieces.texts[names["a"]] == b"a"
    assert pieces.ids[b"a"] == names["a"]
    assert pieces.ids[b"\n"] == names["<0x0A>"]


def test_the_vocabulary_may_be_shorter():
    tokenizer = word_level()
    pieces = pieces_of(tokenizer, 10)
    assert len(pieces.texts) == 10
    assert max(pieces.ids.values()) == 9


@pytest.mark.parametrize("vocabulary", [None, 10_000])
def test_the_vocabulary_ends_with_the_tokenizer(vocabulary):
    assert len(pieces_of(word_level(), vocabulary).texts) == len(word_level())


@pytest.mark.parametrize("kind", ALL)
def test_a_vocabulary_of_special_tokens_alone_is_their_names(kind):
    names = ALL[kind]().convert_ids_to_tokens([0, 1])
    assert pieces_of(ALL[kind](), 2).texts == tuple(name.encode() for name in names)


@pytest.mark.parametrize(
    ("name", "text", "plain"),
    [("▁the", " the", True), ("<s>", "", False), ("Ã", "\ufffd", False), ("<0x41>", "A", False)],
)
def test_a_plain_token_is_neither_special_nor_a_byte_nor_part_of_a_character(name, text, plain):
    assert spelling._is_plain(name, text) == plain


def test_an_id_that_is_no_token_has_no_text():
    tokenizer = word_level()
    gap = len(tokenizer)
    pieces = pieces_of(Gapped(tokenizer))
    assert (len(pieces.texts), pieces.texts[gap]) == (gap + 1, b"")
    assert b"" not in pieces.ids
    assert pieces.texts[:gap] == pieces_of(tokenizer).texts


class Gapped:
    """A tokenizer with one more id, which is no token."""

    def __init__(self, tokenizer):
        self.tokenizer, self.backend_tokenizer = tokenizer, tokenizer.backend_tokenizer
        self.bos_token_id, self.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id

    def __len__(self):
        return len(self.tokenizer) + 1

    def convert_ids_to_tokens(self, ids):
        return self.tokenizer.convert_ids_to_tokens(ids)


def test_special_tokens_are_named():
    assert pieces_of(word_level()).texts[:3] == (b"<unk>", b"<s>", b"</s>")
    assert (pieces_of(word_level()).begin, pieces_of(word_level()).end) == (1, 2)
    assert pieces_of(byte_level()).begin is None


@pytest.mark.parametrize(
    ("read", "text", "means"),
    [
        (literal, "naïve", "naïve".encode()),
        (literal, r"bytes:\xf0\x9f", b"\xf0\x9f"),
        (literal, r"bytes: \xe2\x80", b" \xe2\x80"),
        (literal, "bytes: 12", b"bytes: 12"),
        (literal, r"bytes:a\xf0b\x9fc", b"a\xf0b\x9fc"),
        (literal, r"the bytes:\xf0", rb"the bytes:\xf0"),
        (literal, r"bytes:\xF0", rb"bytes:\xF0"),
        (literal, "\ud800", b"\xed\xa0\x80"),
        (literal, "bytes:\ud800\\xf0", b"\xed\xa0\x80\xf0"),
        (read_byte_level, "Ċ", b"\n"),
        (read_byte_level, "Ġ▁", "Ġ▁".encode()),
        (read_byte_level, r"bytes: \xe2", b" \xe2"),
        (read_byte_level, "", b""),
        (metaspace, "▁naïve", " naïve".encode()),
        (metaspace, "a<0xC3>", b"a<0xC3>"),
        (read_byte_level, "Ã¯", "ï".encode()),
        (read_byte_level, "▁x", "▁x".encode()),
        (metaspace, "▁▁x", b"  x"),
        (metaspace, "<0xC3>", b"\xc3"),
        (metaspace, "<0xc3>", b"<0xc3>"),
    ],
)
def test_readings(read, text, means):
    assert read(text) == means


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["a", " b"], ()),
        (["a", "Ġb"], (read_byte_level,)),
        (["Ċ"], (read_byte_level,)),
        (["b▁"], (metaspace,)),
        (["a", "<0x0A>"], (metaspace,)),
        (["<0x0A>", "Ġb", "a"], (read_byte_level, metaspace)),
        ([], ()),
    ],
)
def test_a_reading_is_tried_if_its_marks_occur(texts, found):
    assert readings(texts) == (literal, *found)
