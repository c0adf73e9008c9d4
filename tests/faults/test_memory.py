"""Memory stays flat: four times the data, written and trained from, takes no more of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ALLOWANCE = 48  # MB: a row group on its way, a batch, and what the codecs hold
SPREAD = 12  # MB between two runs of the same work, and the places of the examples


def peaks(base_folder, folder, size):
    script = Path(__file__).with_name("flat.py")
    command = [sys.executable, str(script), str(base_folder), str(folder), str(size)]
    folder.mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process's own memory")
def test_four_times_the_data_takes_no_more_memory(base_folder, tmp_path):
    small, large = (peaks(base_folder, tmp_path / str(size), size) for size in (0.5, 2))
    assert large["data"] == pytest.approx(4 * small["data"], rel=0.01)
    for work in ("writing", "training"):
        assert large[work] < ALLOWANCE < large["data"] / 3
        assert large[work] - small[work] < SPREAD < (large["data"] - small["data"]) / 10
