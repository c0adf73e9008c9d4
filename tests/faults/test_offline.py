"""With HF_HUB_OFFLINE set, nothing is requested: local inputs work, and others are refused in one line."""

import os
import subprocess
import sys

SCRIPT = """
import socket, sys
asked = []
def refuse(*arguments, **named):
    asked.append(arguments)
    raise OSError("no network in this test")
socket.getaddrinfo = socket.socket.connect = refuse
from firstlib import Experiment
from firstlib.models import loading, places
from firstlib.runtime.errors import UserError
from firstlib.settings.schema import Model
Experiment(sys.argv[1], run_folder=sys.argv[2]).predictions("first", "csqa", "csqa")
hub = {"data__source": "hub", "columns": [{"setting": "in-domain", "train": "csqa", "test": ["csqa"]}]}
for load in (
    lambda: loading.load_base(Model(base="meta-llama/Llama-2-7b-hf")),
    lambda: places.base_identity(Model(base="meta-llama/Llama-2-7b-hf")),
    lambda: Experiment(sys.argv[1], run_folder=sys.argv[2]).change(**hub).questions("csqa"),
):
    try:
        load()
    except UserError as error:
        print("told:", error)
print("asked:", len(asked))
"""


def test_nothing_is_requested_offline(tiny_preset_file, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_preset_file), str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line for line in done.stdout.splitlines() if line.startswith("told:")]
    assert [("base model" in line, "data set" in line) for line in told] == [(True, False)] * 2 + [(False, True)]
    assert "asked: 0" in done.stdout
