"""Questions answered in the words of a choice instead of its letter."""

from dataclasses import replace

from firstlib.tasks.prompts import ANSWER_LEAD, listed_choices
from firstlib.tasks.question import Item, Question


def in_words(item: Item) -> Item:
    r"""Returns a lettered question without its list of choices: each candidate is a choice's text after `A:`.

    Models too small to learn letters can still tell which words fit. Other items are returned unchanged.

    >>> from firstlib.tasks.prompts import multiple_choice
    >>> rose = ("a rose", "the sea")
    >>> asked = Question("q", multiple_choice("What is red?", rose), ANSWER_LEAD, ("a", "b"), ").", 0, rose)
    >>> in_words(asked).prompt, in_words(asked).candidates
    ('Q: What is red?\nA:', (' a rose', ' the sea'))
    """
    if not isinstance(item, Question) or item.lead != ANSWER_LEAD:
        return item
    for upper in (False, True):
        listed = listed_choices(item.choices, upper)
        if item.prompt.endswith(listed):
            prompt, choices = f"{item.prompt.removesuffix(listed)}\nA:", tuple(map(str.strip, item.choices))
            words = tuple(f" {choice}" for choice in choices)
            return replace(item, prompt=prompt, lead="", candidates=words, closing="", choices=choices)
    return item
