"""Small tokenizers of the common kinds, trained on a few sentences."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from firstlib.tasks.microworld.vocabulary import build_tokenizer

PROMPT = "Q: Is a naïve cat red?\n(a) yes\n(b) no\nA:"
RESPONSE = " The answer is (b)."
SENTENCES = [
    PROMPT + RESPONSE,
    "The cats are unbelievable, the cat is not.",
    "yes or no",
    "answers 😀",
    "(a) or (b)",
] * 4


@cache
def byte_level():
    """Like those of GPT-2, Llama 3 and Qwen: a space is written Ġ, and a character may take several tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(SENTENCES, _trainer(330, ["<|end|>"], alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>")


@cache
def sentence_piece():
    """Like Llama 2's: a space is written ▁, every text gets a leading space, unknown characters become bytes."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    core.train_from_iterator(
        SENTENCES[1:4], _trainer(420, ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))])
    )
    core.pre_tokenizer = None
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@cache
def word_level():
    """Like the microworld's: each token is a word with its leading space."""
    return build_tokenizer([*SENTENCES, " yes no"])


def _trainer(size, special, alphabet=()):
    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False
    )


ALL = {"byte-level": byte_level, "sentence-piece": sentence_piece, "word-level": word_level}
