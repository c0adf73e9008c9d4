"""Errors that a user can fix: shown as one line, without a traceback."""


class UserError(Exception):
    """The input or the environment is wrong; the message says what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Returns what IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    r"""Returns the first line of an error's message, or the name of its class if the message is empty.

    >>> first_line(OSError("no such host\ntry again")), first_line(KeyError())
    ('no such host', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def on_one_line(text: str) -> str:
    r"""Escapes whatever would break the line, or that a terminal would obey.

    >>> print(on_one_line("a\nb"))
    a\nb
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class MissingStageError(UserError):
    """A stage that a sealed experiment needs is not there."""


class StoreError(UserError, ValueError):
    """A knowledge store is incomplete, or not the expected one; the message says what was found and what to do."""
