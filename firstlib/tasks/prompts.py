"""The paper's zero-shot prompts (arXiv 2408.12168), shared by the microworld and by real data.

A prompt ends right before the first character of the response that the model is trained on.
"""

from collections.abc import Sequence

# The letter follows an opening bracket: there it is one token in every tokenizer seen so far.
ANSWER_LEAD = " The answer is ("

MAX_CHOICES = 26  # the letters of the alphabet

_PREAMBLE = (
    "Below is an instruction that describes a task{paired}. "
    "Write a response that appropriately completes the request.\n\n"
)
_INPUT_CLAUSE = ", paired with an input that provides further context"


def letters(count: int, upper: bool = False) -> tuple[str, ...]:
    """Returns the letters of `count` choices: lower case as in CommonsenseQA, or upper case as in OpenBookQA.

    >>> letters(3), letters(2, upper=True)
    (('a', 'b', 'c'), ('A', 'B'))
    """
    first = ord("A" if upper else "a")
    return tuple(chr(first + i) for i in range(count))


def multiple_choice(question: str, choices: Sequence[str], upper: bool = False) -> str:
    r"""Returns CommonsenseQA's prompt, or with `upper` OpenBookQA's.

    >>> multiple_choice("What is red?", ["a rose", "the sea"])
    'Q: What is red?\nAnswer Choices:\n(a) a rose\n(b) the sea\nA:'
    """
    return f"Q: {question}{listed_choices(choices, upper)}"


def listed_choices(choices: Sequence[str], upper: bool = False) -> str:
    """Returns the end of a multiple-choice prompt: every choice with its letter, and where the answer begins."""
    lines = [f"({label}) {text}" for label, text in zip(letters(len(choices), upper), choices, strict=True)]
    return "\n".join(["", "Answer Choices:", *lines, "A:"])


def instruction(text: str, context: str = "") -> str:
    """Returns Alpaca's prompt: the template with an input if there is a context, else the one without."""
    preamble = _PREAMBLE.format(paired=_INPUT_CLAUSE if context else "")
    return preamble + _sections(text, context)


def yes_no(question: str, passage: str) -> str:
    """Returns BoolQ's prompt: Alpaca's preamble for no input, but with the passage under `### Input:`."""
    text = f"Read the input passage and answer the question: {question}? Your answer should be Yes or No."
    return _PREAMBLE.format(paired="") + _sections(text, passage)


def _sections(text: str, context: str) -> str:
    middle = f"### Input:\n{context}\n\n" if context else ""
    return f"### Instruction:\n{text}\n\n{middle}### Response:\n"
