"""The paper's zero-shot prompts, shared by the microworld and by real data.

Where the response begins is decided here, once: a prompt ends right before the first character that the
model is taught to write.
"""

from collections.abc import Sequence

# The letter is asked for inside its bracket: there it is one token in every tokenizer seen so far.
ANSWER_LEAD = " The answer is ("

MOST_CHOICES = 26  # then the letters end

_PREAMBLE = (
    "Below is an instruction that describes a task{paired}. "
    "Write a response that appropriately completes the request.\n\n"
)
_INPUT_CLAUSE = ", paired with an input that provides further context"


def letters(count: int, upper: bool = False) -> tuple[str, ...]:
    """The letters of `count` choices: CommonsenseQA's are small, OpenBookQA's are capitals.

    >>> letters(3), letters(2, upper=True)
    (('a', 'b', 'c'), ('A', 'B'))
    """
    first = ord("A" if upper else "a")
    return tuple(chr(first + i) for i in range(count))


def multiple_choice(question: str, choices: Sequence[str], upper: bool = False) -> str:
    r"""CommonsenseQA's prompt, or with `upper` OpenBookQA's.

    >>> multiple_choice("What is red?", ["a rose", "the sea"])
    'Q: What is red?\nAnswer Choices:\n(a) a rose\n(b) the sea\nA:'
    """
    lines = [f"({label}) {text}" for label, text in zip(letters(len(choices), upper), choices, strict=True)]
    return "\n".join([f"Q: {question}", "Answer Choices:", *lines, "A:"])


def instruction(text: str, context: str = "") -> str:
    """Alpaca's two templates: with an input that gives context, and without."""
    preamble = _PREAMBLE.format(paired=_INPUT_CLAUSE if context else "")
    return preamble + _sections(text, context)


def yes_no(question: str, passage: str) -> str:
    """BoolQ's prompt: Alpaca's no-input preamble, with the passage under `### Input:` all the same."""
    text = f"Read the input passage and answer the question: {question}? Your answer should be Yes or No."
    return _PREAMBLE.format(paired="") + _sections(text, passage)


def _sections(text: str, context: str) -> str:
    middle = f"### Input:\n{context}\n\n" if context else ""
    return f"### Instruction:\n{text}\n\n{middle}### Response:\n"
