"""`first run`, stopped by Ctrl-C and then killed twenty times, gives the numbers of an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.long

KILLS = 20
LONGEST = 9.0  # seconds per try; a notebook's kernel alone takes a few to start


def hears_ctrl_c():
    """A shell lets what it starts in the background ignore SIGINT, and every process below it inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(runs):
    command = [sys.executable, "-m", "firstlib.cli", "run", "--preset", "smoke", "--runs", str(runs)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=hears_ctrl_c,
    )  # fmt: skip


def everything_below(process):
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def kill_all(process):
    """Kills the runner and its kernel, as when the machine stops."""
    for below in everything_below(process):
        below.kill()
    process.communicate()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run stopped by Ctrl-C in its first notebook: its folder, exit status and error output."""
    runs = tmp_path_factory.mktemp("killed")
    process = start(runs)
    while not list(runs.glob("smoke/seed-0/.*making")):  # the first stage has begun
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    return runs, process.returncode, stderr


def test_ctrl_c_says_how_to_resume(stopped):
    _, code, stderr = stopped
    assert code == 130
    assert "finished stages are kept, and the same command resumes" in stderr
    assert "Traceback" not in stderr


def test_a_run_killed_twenty_times_gives_the_same_numbers(stopped, smoke):
    runs, *_ = stopped
    moments = random.Random(0)
    for _ in range(KILLS):
        process = start(runs)
        try:
            process.communicate(timeout=moments.uniform(1, LONGEST))
        except subprocess.TimeoutExpired:
            kill_all(process)
    last = start(runs)
    _, stderr = last.communicate(timeout=600)
    assert last.returncode == 0, stderr

    ours, undisturbed = runs / "smoke" / "seed-0", smoke[0] / "smoke" / "seed-0"
    read = lambda folder, name: json.loads((folder / name).read_text())  # noqa: E731
    assert read(ours, "results.json") == read(undisturbed, "results.json")
    stages = {path.parent.name: read(path.parent, path.name)["files"] for path in undisturbed.glob("*/manifest.json")}
    again = {path.parent.name: read(path.parent, path.name)["files"] for path in ours.glob("*/manifest.json")}
    assert again == stages
    assert not [path.name for path in ours.glob(".*") if path.name != ".locks"]
    assert {p.name for p in (ours / "notebooks").iterdir()} == {p.name for p in (undisturbed / "notebooks").iterdir()}
