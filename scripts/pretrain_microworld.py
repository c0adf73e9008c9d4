"""Pretrains the microworld's two base models: `make base-models` (about 15 minutes on 2 cores).

All numbers were fixed before any methods were compared, and for realism only: a base model knows the town, is
calibrated, and knows the paper's prompt formats little, which leaves room for fine-tuning.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from firstlib.tasks.encoding import IGNORE_INDEX
from firstlib.tasks.microworld import corpus
from firstlib.tasks.microworld.vocabulary import build_tokenizer
from firstlib.tasks.microworld.world import make_world

MIX = {
    "facts": 0.184,
    "reports": 0.115,
    "binding": 0.26,
    "letter quiz": 0.24,
    "word quiz": 0.06,
    "yes-no quiz": 0.001,
    "instructions": 0.14,
}
EncodedPage = dict[str, list[int]]
BLOCK = 160  # tokens
BATCH = 20  # blocks: about 64 pages


@dataclass(frozen=True)
class Shape:
    """A base model's size and curriculum: first pages that bind letters only, then pages of every sort."""

    width: int
    layers: int
    heads: int
    first_pages: int
    pages: int
    learning_rate: float


SHAPES = {
    "teacher": Shape(width=192, layers=3, heads=6, first_pages=30_000, pages=125_000, learning_rate=2.5e-3),
    "student": Shape(width=128, layers=3, heads=4, first_pages=30_000, pages=120_000, learning_rate=3e-3),
}


def blank_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Returns an untrained Llama of that shape."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=shape.width, intermediate_size=2 * shape.width,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.06,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def encoder(tokenizer: PreTrainedTokenizerFast) -> Callable[[corpus.Page], EncodedPage]:
    """Returns a function from a page to its token ids, including begin and end, and marks of answer tokens."""

    @lru_cache(maxsize=100_000)  # pages share many pieces
    def piece(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode(page: corpus.Page) -> EncodedPage:
        ids, answer = [tokenizer.bos_token_id], [0]
        for span in page:
            ids += piece(span.text)
            answer += [int(span.answer)] * len(piece(span.text))
        return {"input_ids": [*ids, tokenizer.eos_token_id], "answer": [*answer, 0]}

    return encode


class PageLoss:
    """Gives answers and all other words equal weight in total: answers are few, but carry the town's facts."""

    def __call__(self, outputs: Any, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        """Returns the mean over answers plus the mean over other words; `labels` `(B, T, 2)`: ids and answer marks."""
        ids, answer = labels[:, 1:, 0], labels[:, 1:, 1].bool()
        logits = outputs.logits[:, :-1].transpose(1, 2)
        losses = F.cross_entropy(logits, ids, ignore_index=IGNORE_INDEX, reduction="none")
        return losses[answer].mean() + losses[~answer & (ids != IGNORE_INDEX)].mean()


def pack(pages: Iterable[EncodedPage], length: int = BLOCK) -> list[list[EncodedPage]]:
    """Groups pages, in order, into blocks of at most `length` tokens."""
    blocks: list[list[EncodedPage]] = [[]]
    for page in pages:
        if sum(len(other["input_ids"]) for other in blocks[-1]) + len(page["input_ids"]) > length:
            blocks.append([])
        blocks[-1].append(page)
    return blocks


def collate(blocks: Sequence[Sequence[EncodedPage]], length: int = BLOCK) -> dict[str, torch.Tensor]:
    """Returns one batch of blocks. Positions restart with each page, so that pages do not see each other."""
    ids = torch.zeros(len(blocks), length, dtype=torch.long)
    positions = torch.arange(length).repeat(len(blocks), 1)
    labels = torch.full((len(blocks), length, 2), IGNORE_INDEX)
    labels[..., 1] = 0
    for row, block in enumerate(blocks):
        end = 0
        for page in block:
            start, end = end, end + len(page["input_ids"])
            ids[row, start:end] = torch.tensor(page["input_ids"])
            positions[row, start:] -= positions[row, start].item()
            labels[row, start + 1 : end, 0] = ids[row, start + 1 : end]  # a page's first token is not predicted
            labels[row, start:end, 1] = torch.tensor(page["answer"])
        positions[row, end:] -= positions[row, end].item() if end < length else 0
    return {"input_ids": ids, "position_ids": positions, "labels": labels}


def pretrain(role: str, folder: Path, seed: int = 1) -> None:
    """Trains one base model from scratch and saves it as a transformers folder in float16."""
    shape = SHAPES[role]
    world = make_world()
    tokenizer = build_tokenizer(corpus.text_of(page) for page in corpus.pages(world, 20_000, seed, MIX))
    model = blank_model(shape, tokenizer, seed)
    print(f"{role}: {model.num_parameters():,} parameters, {len(tokenizer)} tokens, {shape.pages:,} pages")
    phases = ((shape.first_pages, seed + 2, {"binding": 1.0}), (shape.pages, seed + 1, MIX))
    encode = encoder(tokenizer)
    data = [block for phase in phases for block in pack(map(encode, corpus.pages(world, *phase)))[:-1]]
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"), per_device_train_batch_size=BATCH, num_train_epochs=1,
        learning_rate=shape.learning_rate, lr_scheduler_type="cosine", warmup_steps=100, adam_beta2=0.98,
        weight_decay=0.01, train_sampling_strategy="sequential", remove_unused_columns=False,
        save_strategy="no", report_to="none", logging_steps=100, use_cpu=True, seed=seed, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=arguments, train_dataset=data, compute_loss_func=PageLoss(),
        data_collator=collate,
    )  # fmt: skip
    trainer.train()
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Rebuilds `data/microworld/teacher` and `data/microworld/student`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--folder", type=Path, default=Path("data/microworld"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # one core per model: faster than sharing, and results do not depend on the machine
    for role in options.roles:
        pretrain(role, options.folder / role)


if __name__ == "__main__":
    main()
