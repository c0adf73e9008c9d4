"""The microworld's tokenizer: one token a word, with its leading space, as in the big models' vocabularies."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

# A choice's letter with its closing bracket, "a)", is one token, the same before the choice and in the answer;
# so is a word, a sign, or a newline.
PIECES = r"[a-zA-Z]\)| ?[A-Za-z]+| ?#+| ?[^\sA-Za-z#]|\n| "
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows every piece of `texts`; decoding gives the text back exactly.

    >>> tokenizer = build_tokenizer(["A: The answer is (a)."])
    >>> tokenizer.tokenize("A: The answer is (a).")
    ['A', ':', ' The', ' answer', ' is', ' (', 'a)', '.']
    """
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
