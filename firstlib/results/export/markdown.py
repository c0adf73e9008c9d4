"""Markdown, written so that text from data sets is shown and never obeyed."""

import re
from collections.abc import Sequence


def escaped(text: str) -> str:
    r"""Text as one line that Markdown and HTML show as it is, in a table's cell too.

    >>> escaped("a | <b>\n*c*")
    'a &#124; &#60;b&#62; &#42;c&#42;'
    >>> escaped("www.example.org")  # which GitHub would make a link of
    'www&#46;example.org'
    """
    return re.sub(r"[\\`*_\[\]<>&|~!$#:@]|(?<=www)\.", lambda sign: f"&#{ord(sign[0])};", " ".join(text.split()))


def fenced(text: str, language: str = "") -> str:
    """A block of code that its own text cannot end.

    >>> fenced("a ``` b").splitlines()
    ['````', 'a ``` b', '````']
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def percent(fraction: float) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * fraction:.1f}"


def counted(number: int, thing: str) -> str:
    """So many things.

    >>> counted(1, "epoch"), counted(2000, "question")
    ('1 epoch', '2,000 questions')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are escaped already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
