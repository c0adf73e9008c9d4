"""Questions in a model's own chat format, as its template renders it: the same every day, asked after its thoughts."""

import datetime
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jinja2

from firstlib.runtime.errors import UserError, first_line
from firstlib.tasks.question import Item, Question

if TYPE_CHECKING:  # transformers takes seconds to import, and a finished run needs none of it
    from transformers import PreTrainedTokenizerBase

# Templates that write today's date would make another prompt, and other keys, every day. This is Llama 3's own default.
DATE = datetime.datetime(2024, 7, 26)
_TODAY = re.compile(r"""strftime_now\s*\(\s*(["'])(.*?)\1\s*\)""")

# Templates whose models think first ask this switch; `data.chat_variables` can set it, and any other.
_VARIABLES: dict[str, Any] = {"enable_thinking": False}

# How families open and close their thoughts. A prompt that ends in open thoughts is asked after them: they stay empty.
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("\N{WHITE LEFT-POINTING TRIANGLE}think\N{WHITE RIGHT-POINTING TRIANGLE}",
     "\N{WHITE LEFT-POINTING TRIANGLE}/think\N{WHITE RIGHT-POINTING TRIANGLE}"),
)  # fmt: skip
_CHANNELS = ("<|start|>assistant", "<|channel|>final<|message|>")  # gpt-oss: an answer begins in its own channel


def in_chat(tokenizer: "PreTrainedTokenizerBase", item: Item, variables: Mapping[str, Any] | None = None) -> Item:
    """Returns the item in the model's chat format: the prompt is the user's turn, the response the assistant's.

    Args:
        tokenizer: Its template is rendered.
        item: The question or example.
        variables: Of the template, for example `enable_thinking`.

    Raises:
        UserError: The tokenizer has no chat template, or the template refuses a lone user turn.
    """
    prompt = answered_at_once(_rendered(tokenizer, item, {**_VARIABLES, **(variables or {})}), item.prompt)
    if tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] and tokenizer.bos_token:
        prompt = prompt.removeprefix(str(tokenizer.bos_token))  # tokenisation adds it again
    if isinstance(item, Question):
        candidates = item.candidates if item.lead else tuple(text.lstrip() for text in item.candidates)
        return replace(item, prompt=prompt, lead=item.lead.lstrip(), candidates=candidates)
    return replace(item, prompt=prompt, response=item.response.lstrip())


def _rendered(tokenizer: "PreTrainedTokenizerBase", item: Item, variables: Mapping[str, Any]) -> str:
    if tokenizer.chat_template is None:
        raise UserError(
            f"data.chat_template: the tokenizer of {tokenizer.name_or_path} has no chat template; set it to false"
        )
    turn = [{"role": "user", "content": item.prompt}]
    try:
        template = on_one_day(tokenizer.get_chat_template())
        return str(
            tokenizer.apply_chat_template(
                turn, chat_template=template, tokenize=False, add_generation_prompt=True, **variables
            )
        )
    except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"data.chat_template: the template of {tokenizer.name_or_path} refuses a lone user turn "
            f"({first_line(error)[:200]}); set data.chat_template to false, or what it asks for in data.chat_variables"
        ) from error


def on_one_day(template: str) -> str:
    """Returns a template that writes one fixed date wherever it wrote today's.

    >>> on_one_day("Today: {{ strftime_now('%d %b %Y') }}")
    "Today: {{ '26 Jul 2024' }}"

    Raises:
        ValueError: It computes the form of the date.
    """
    fixed = _TODAY.sub(lambda call: repr(DATE.strftime(call[2])), template)
    if re.search(r"strftime_now\s*\(", fixed):
        raise ValueError("it writes today's date in a form that it computes")
    return fixed


def answered_at_once(prompt: str, asked: str = "") -> str:
    r"""Closes the thoughts that a rendered prompt leaves open, so that the next token belongs to the answer.

    Args:
        prompt: As the template renders it.
        asked: The user's text in it; only what follows it counts, because a question may speak of thoughts, too.

    >>> answered_at_once("<|user|>Hi<|assistant|><think>\n", "Hi")
    '<|user|>Hi<|assistant|><think>\n\n</think>\n\n'
    >>> answered_at_once("<|user|>What is <think>?<|assistant|>", "What is <think>?")
    '<|user|>What is <think>?<|assistant|>'
    """
    turn = prompt[prompt.rfind(asked.strip()) + len(asked.strip()) :] if asked.strip() in prompt else prompt
    for opening, closing in _THOUGHTS:
        if turn.rfind(opening) > turn.rfind(closing):
            return f"{prompt.rstrip()}\n\n{closing}\n\n"
    before, final = _CHANNELS
    return prompt + final if turn.rstrip().endswith(before) else prompt
