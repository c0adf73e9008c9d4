"""Markdown in which text from data sets is shown as it is and never interpreted."""

import re
from collections.abc import Sequence


def escaped(text: str) -> str:
    r"""Returns text as one line that Markdown and HTML show as it is, also in a table's cell.

    >>> escaped("a | <b>\n*c*")
    'a &#124; &#60;b&#62; &#42;c&#42;'
    >>> escaped("www.example.org")  # GitHub would turn it into a link
    'www&#46;example.org'
    """
    return re.sub(r"[\\`*_\[\]<>&|~!$#:@]|(?<=www)\.", lambda sign: f"&#{ord(sign[0])};", " ".join(text.split()))


def fenced(text: str, language: str = "") -> str:
    """Returns a block of code whose fence is longer than any in the text.

    >>> fenced("a ``` b").splitlines()
    ['````', 'a ``` b', '````']
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def percent(fraction: float) -> str:
    """Returns a fraction in percent, without the sign."""
    return f"{100 * fraction:.1f}"


def counted(number: int, thing: str) -> str:
    """Returns a number with its noun.

    >>> counted(1, "epoch"), counted(2000, "question")
    ('1 epoch', '2,000 questions')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def bullets(lines: Sequence[str]) -> str:
    """Returns a list."""
    return "\n".join(f"- {line}" for line in lines)
