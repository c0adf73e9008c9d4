"""The microworld's tokenizer: one token per word, including its leading space, as in large models."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# A choice's letter with its closing bracket, "a)", is one token, the same before the choice and in the answer.
# Words, signs and newlines are one token each.
PIECES = r"[a-zA-Z]\)| ?[A-Za-z]+| ?#+| ?[^\sA-Za-z#]|\n| "
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")


def build_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """Builds a word-level tokenizer with every piece of `texts` in its vocabulary; decoding restores the exact text.

    >>> tokenizer = build_tokenizer(["A: The answer is (a)."])
    >>> tokenizer.tokenize("A: The answer is (a).")
    ['A', ':', ' The', ' answer', ' is', ' (', 'a)', '.']
    """
    from transformers import PreTrainedTokenizerFast  # here: it takes seconds to import

    cut = pre_tokenizers.Split(Regex(PIECES), "isolated")
    pieces = sorted({piece for text in set(texts) for piece, _ in cut.pre_tokenize_str(text)})
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *pieces))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = cut
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        padding_side="right", clean_up_tokenization_spaces=False,
    )  # fmt: skip
