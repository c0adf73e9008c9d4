"""One Jupyter kernel for all notebooks of a run: what they import, and what they keep in memory, is loaded once."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from IPython.core.getipython import get_ipython
from ipywidgets import Widget
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from firstlib.runtime.files import write_json

NAME = "python3"


@contextmanager
def one_kernel() -> Iterator[AsyncKernelManager]:
    """Yields a kernel that the first notebook starts, and that ends with the block."""
    kernel = AsyncKernelManager(kernel_name=NAME)
    with _this_python():
        try:
            yield kernel
        finally:
            if kernel.has_kernel:
                run_sync(kernel.shutdown_kernel)(now=True)


def empty(kernel: AsyncKernelManager) -> None:
    """Empties a kernel that runs, so that the next notebook finds what it would find in a kernel of its own."""
    if kernel.has_kernel:
        cell = new_code_cell(f"from {__name__} import forget; forget()")
        NotebookClient(new_notebook(cells=[cell]), km=kernel).execute()


def forget() -> None:
    """Drops all variables, outputs and widgets of the kernel that calls it; cells count from one again."""
    shell = get_ipython()
    assert shell is not None, "outside a kernel there is nothing to forget"
    Widget.close_all()
    shell.reset(new_session=True)
    gc.collect()
    if torch := sys.modules.get("torch"):  # a kernel that has computed nothing need not import it
        torch.cuda.empty_cache()  # for the helpers, and for other programs on a GPU


@contextmanager
def _this_python() -> Iterator[None]:
    """Lets the kernel `python3` be this Python: a user's Jupyter may have another one by that name."""
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory(prefix="first-jupyter-") as folder:
        spec = Path(folder) / "kernels" / NAME / "kernel.json"
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        write_json(spec, {"argv": argv, "display_name": "Python 3", "language": "python"})
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            del os.environ["JUPYTER_PATH"]
            os.environ.update({"JUPYTER_PATH": before} if before is not None else {})
