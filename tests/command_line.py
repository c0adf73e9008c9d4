"""Runs the `first` command: as a user would, or in this process, which has its libraries imported already."""

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from firstlib.cli import main


def first(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "firstlib.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def first_here(*arguments):
    """Returns what `first` does. A process of its own takes ten seconds more where a command needs transformers."""
    told, complained, status = StringIO(), StringIO(), 0
    command = ["first", *map(str, arguments)]
    with patch.object(sys, "argv", command), redirect_stdout(told), redirect_stderr(complained):
        try:
            main()
        except SystemExit as error:
            status = error.code
    return subprocess.CompletedProcess(command, status, told.getvalue(), complained.getvalue())
