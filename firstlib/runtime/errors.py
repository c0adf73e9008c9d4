"""Mistakes that a user can mend: shown as one line, never as a traceback."""


class UserError(Exception):
    """Something the user gave is wrong; the message says what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    r"""What a library said, in its first line; where it said nothing, the error's kind.

    >>> first_line(OSError("no such host\ntry again")), first_line(KeyError())
    ('no such host', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class StoreError(UserError, ValueError):
    """A knowledge store that is not whole, or not the one expected; the message names both sides and the remedy."""
