"""Memory stays flat: extraction and training process a hundred times the data that may be in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ALLOWANCE = 4  # MiB above what the same work takes on very little data
# glibc returns memory immediately, and no threads hold heaps and stacks, so that memory held is memory in use.
PLAIN = {
    "OMP_NUM_THREADS": "1",
    "ARROW_IO_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "TOKENIZERS_PARALLELISM": "false",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits a process's own memory")
def test_extraction_and_training_process_a_hundred_times_the_memory(base_folder, tmp_path):
    script = Path(__file__).with_name("flat.py")
    command = [sys.executable, str(script), str(base_folder), str(tmp_path), str(ALLOWANCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **PLAIN})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["positions"] == found["of"]
    assert 0 < found["asked"] - found["questions"] <= 16  # some are for validation and test
    assert found["more"] < ALLOWANCE
