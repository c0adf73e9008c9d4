"""Pretrains small Llamas on real text, to test real data sets without the hub: `make real-base-models`.

The text is BoolQ's passages and Alpaca's instructions and answers, from the folder in `FIRST_REAL_DATA`. The models
never see choice letters, nor questions of CommonsenseQA or OpenBookQA, so they can only guess there; the experiment
shows what each method does to a model that guesses. The models are not shipped.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from firstlib.runtime.errors import UserError

VOCABULARY = 8192
BLOCK = 256  # tokens
BATCH = 16  # blocks
TOKENS = 800_000  # tokens to train on: half of the text, half an hour on two cores
SPECIAL = ["<s>", "</s>", "<pad>"]


@dataclass(frozen=True)
class Shape:
    """A base model's size and number of epochs."""

    width: int
    layers: int
    heads: int
    epochs: int
    learning_rate: float


SHAPES = {
    "teacher": Shape(width=256, layers=6, heads=8, epochs=1, learning_rate=1.5e-3),
    "student": Shape(width=256, layers=4, heads=8, epochs=1, learning_rate=1.5e-3),
}


def texts(folder: Path) -> Iterator[str]:
    """Yields every document: a passage, or an instruction with its input and answer.

    Raises:
        UserError: A file is missing; raised by the call itself.
    """
    files = [folder / name for name in ("boolq/train_2000.jsonl", "boolq/dev.jsonl", "alpaca/alpaca_9k.json")]
    for file in files:
        if not file.is_file():
            raise UserError(f"FIRST_REAL_DATA: there is no {file}; set it to the folder with boolq/ and alpaca/")
    return _documents(files)


def _documents(files: Sequence[Path]) -> Iterator[str]:
    for file in files:
        for row in datasets.load_dataset("json", data_files=str(file), split="train"):
            parts = [row.get(field) for field in ("title", "passage", "instruction", "input", "output")]
            yield "\n".join(part for part in parts if part)


def build_tokenizer(documents: Sequence[str], size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Builds a byte-level BPE tokenizer: it encodes any text, and every single letter is a token."""
    backend = Tokenizer(BPE())
    # Brackets are split off, so that the letter in "(a)" is one token.
    backend.pre_tokenizer = Steps([Split("(", "isolated"), Split(")", "isolated"), ByteLevel(add_prefix_space=False)])
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(documents, trainer)
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def blank_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Returns an untrained Llama of that shape."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=shape.width, intermediate_size=8 * shape.width // 3,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def blocks(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str], length: int = BLOCK) -> torch.Tensor:
    """Concatenates all documents, each with begin and end token, and cuts them into rows `(N, length)`."""
    ids = [i for row in tokenizer(list(documents))["input_ids"] for i in (*row, tokenizer.eos_token_id)]
    return torch.tensor(ids[: len(ids) // length * length]).view(-1, length)


def pretrain(role: str, documents: Sequence[str], folder: Path, seed: int = 1) -> None:
    """Trains one base model and saves it as a transformers folder."""
    shape, tokenizer = SHAPES[role], build_tokenizer(documents)
    model, rows = blank_model(shape, tokenizer, seed), blocks(tokenizer, documents)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[: TOKENS // BLOCK]]
    print(f"{role}: {model.num_parameters():,} parameters, {rows.numel():,} tokens, {shape.epochs} times")
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"), per_device_train_batch_size=BATCH, num_train_epochs=shape.epochs,
        learning_rate=shape.learning_rate, lr_scheduler_type="cosine", warmup_steps=50, adam_beta2=0.95,
        weight_decay=0.1, save_strategy="no", report_to="none", logging_steps=50, seed=seed,
        dataloader_pin_memory=False,
    )  # fmt: skip
    Trainer(
        model=model, args=arguments, train_dataset=[{"input_ids": row, "labels": row} for row in rows]
    ).train()  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Builds `data/real/teacher` and `data/real/student`, which git ignores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--folder", type=Path, default=Path("data/real"))
    options = parser.parse_args()
    documents = list(texts(Path(os.environ.get("FIRST_REAL_DATA", "no folder: set FIRST_REAL_DATA"))))
    torch.set_num_threads(1)  # one core per model, as for the microworld's base models
    for role in options.roles:
        pretrain(role, documents, options.folder / role)


if __name__ == "__main__":
    main()
