"""Lists and objects in a cell, as JSON, as Python writes them, or as NumPy does. No code is run."""

import ast
import io
import json
import tokenize
from itertools import pairwise
from typing import Any

LONGEST = 2**20  # characters; Python's parser is not made for more


def value_of(text: str) -> Any:
    """Returns the list or object that a cell holds.

    Raises:
        ValueError: It holds neither, or numbers that NumPy has rounded.

    >>> value_of("['tea', 'the sea']"), value_of('["tea"]'), value_of("{'text': array(['tea'], dtype=object)}")
    (['tea', 'the sea'], ['tea'], {'text': ['tea']})
    >>> value_of("['tea' 'the sea']")  # Python would read one text
    ['tea', 'the sea']
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _python(text)
    if not isinstance(found, list | dict):
        raise ValueError(f'not a list such as ["tea", "the sea"]: {_short(text)}')
    return found


def _python(text: str) -> Any:
    stripped = text.strip()
    if len(stripped) > LONGEST or stripped[:1] not in ("[", "{", "("):
        raise ValueError(f'not a list such as ["tea", "the sea"]: {_short(text)}')
    try:
        numpy = _numpy_texts(stripped)
        return numpy if numpy is not None else _literal(ast.parse(stripped, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f'not a list such as ["tea", "the sea"]: {_short(text)}') from error


def _numpy_texts(text: str) -> list[str] | None:
    """Returns the texts of a NumPy array, which stand side by side without commas; None: it is not one."""
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    ]
    inner = tokens[1:-1]
    side_by_side = [a.type == b.type == tokenize.STRING for a, b in pairwise(inner)]
    if not any(side_by_side):
        return None
    if tokens[0].string != "[" or not all(side_by_side):
        raise ValueError("texts side by side, some with commas")
    return [ast.literal_eval(token.string) for token in inner]


def _literal(node: ast.expr) -> Any:
    """Returns the value of a literal, in which `array([...], dtype=object)` stands for the list."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_literal(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_literal, node.values), strict=True))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "array" and node.args:
        return _literal(node.args[0])
    if isinstance(node, ast.Name) and node.id == "nan":
        return None
    return ast.literal_eval(node)


def _short(text: str) -> str:
    return repr(text if len(text) <= 24 else f"{text[:21]}...")
