"""Freed memory is used again, rather than cleared anew by the system."""

import os
import subprocess
import sys

import pytest

from firstlib.runtime.allocator import reuse_freed_memory

FAULTS = """
import resource
import numpy as np
from firstlib.runtime.allocator import reuse_freed_memory

if {reuse}:
    assert reuse_freed_memory()
for times in range(5):
    if times == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_cleared(reuse):
    """How many pages the system clears for four blocks of 64 MiB, each freed before the next."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS.format(reuse=reuse)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=plain).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's options")
def test_a_freed_block_is_used_for_the_next():
    assert pages_cleared(reuse=True) < 0.01 * pages_cleared(reuse=False)


@pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_a_users_own_settings_stay(monkeypatch, variable):
    monkeypatch.setenv(variable, "131072")
    assert not reuse_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not reuse_freed_memory()
