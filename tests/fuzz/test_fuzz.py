"""A short, seeded run of each fuzz target; `make fuzz` runs them longer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 10


@pytest.mark.parametrize("target", ["responses", "presets"])
def test_only_user_errors_are_raised(target, tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine or Python")
    options = [f"-max_total_time={SECONDS}", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), target, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs", done.stderr + done.stdout)
    assert runs, done.stderr[-1000:]
    assert int(runs[1]) > 200
