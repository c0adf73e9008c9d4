"""The text of each token, for every kind of tokenizer."""

import pytest
from small_tokenizers import ALL, PROMPT, RESPONSE, byte_level, sentence_piece, word_level

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
        (read_byte_level, "Ċ", b"\n"),
        (read_byte_level, "Ã¯", "ï".encode()),
        (read_byte_level, "▁x", "▁x".encode()),
        (metaspace, "▁▁x", b"  x"),
        (metaspace, "<0xC3>", b"\xc3"),
        (metaspace, "<0xc3>", b"<0xc3>"),
    ],
)
def test_readings(read, text, means):
    assert read(text) == means


def test_a_reading_is_tried_if_its_marks_occur():
    assert readings(["a", " b"]) == (literal,)
    assert readings(["a", "Ġb", "<0x0A>"]) == (literal, read_byte_level, metaspace)
