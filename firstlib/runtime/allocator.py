"""How a process that computes with models reuses memory."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt, see malloc.h
_ALWAYS_HEAP, _NEVER_TRIM = 2**30, 2**31 - 1  # bytes


def reuse_freed_memory() -> bool:
    """Lets glibc keep the memory of freed tensors for the next ones; returns whether it does.

    By default, glibc returns each large block to the system, which clears every page of the next one: some 4 % of the
    microworld's training time. With this, the process's memory stays at its peak until the process ends. Other C
    libraries manage memory their own way, and a user's own settings (`MALLOC_...`, `GLIBC_TUNABLES`) stay.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is None:
        return False
    return bool(set_option(_MMAP_THRESHOLD, _ALWAYS_HEAP) and set_option(_TRIM_THRESHOLD, _NEVER_TRIM))
