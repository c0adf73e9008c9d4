"""How many CPU threads torch computes with: sums depend on their number."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Runs torch with so many CPU threads; None: no change."""
    import torch  # not at the top: importing this module must not import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
