"""The command line `first`, and the notebooks that it runs."""

from firstlib.cli.commands import main

__all__ = ["main"]
