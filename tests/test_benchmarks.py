"""The benchmarks' parity checks (those that need only the test dependencies) and their results table."""

import ast
import importlib
import itertools
import json
import subprocess
import sys

import pytest

from benchmarks import cold, gpu, growth
from benchmarks.__main__ import MODULES, Row, table
from benchmarks.measure import measured
from firstlib.runtime.paths import PROJECT


@pytest.mark.parametrize("name", MODULES)
def test_every_row_compares_two_variants_that_exist(name):
    module = importlib.import_module(f"benchmarks.{name}")
    for row in (Row(*fields) for fields in module.ROWS):
        assert {row.ours, row.theirs} <= set(module.VARIANTS)
        assert row.ours != row.theirs


@pytest.mark.parametrize("name", ["calibration", "audit", "reading", "step"])
def test_parity_holds(name):
    """Runs in a subprocess, because the peers set the number of threads."""
    command = [sys.executable, "-m", "benchmarks.measure", name, "parity"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_peak_memory_and_time_are_measured():
    work = "from benchmarks.measure import measured; print(measured(lambda: {'size': len(bytearray(64 * 2**20))}))"
    alone = subprocess.run([sys.executable, "-c", work], cwd=PROJECT, capture_output=True, text=True, check=True)
    report = ast.literal_eval(alone.stdout)  # a process that has freed memory would use it again
    assert report["size"] == 64 * 2**20
    assert 60 < report["MiB"] < 80
    assert 0 < report["seconds"] < 10


def test_a_reported_time_overrides_the_measured_one():
    assert measured(lambda: {"seconds": 7.0})["seconds"] == 7


def test_the_table_has_one_line_per_row():
    line = {
        "name": "loss: peak", "unit": "MiB", "ours": 1.0, "theirs": 4.0, "ratio": 0.25, "peer": "plain", "goal": "less",
    }  # fmt: skip
    assert table([line]).splitlines()[-1] == "| loss: peak | MiB | 1 | 4 | 0.25 | plain | less |"


def test_what_a_gpu_would_measure_runs_small_without_one(monkeypatch):
    monkeypatch.setattr(gpu, "run_lines", lambda preset: iter(()))
    names = [one["name"] for one in gpu.lines(gpu.SMALL)]
    assert {"loss: time", "full step: throughput", "QLoRA step: memory", "extraction: time"} <= set(names)


def test_no_peer_stands_for_our_loss_where_ours_fails(monkeypatch):
    monkeypatch.setattr(gpu, "top_k_kl", None)
    assert list(gpu.loss_lines(gpu.SMALL)) == []


def test_without_a_card_the_table_says_so():
    assert gpu.table(gpu.kept()) in gpu.README.read_text(encoding="utf-8")
    found = {"H200": [gpu.line("loss: time", 1.5, "ms", 3.0, "plain PyTorch")]}
    assert gpu.table(found).splitlines()[-1] == "| H200 | loss: time | ms | 1.5 | 3 | plain PyTorch |"


@pytest.mark.parametrize("stage", ["extraction", "store", "training", "audit"])
def test_growth_is_measured_on_any_amount_of_data(stage):
    assert growth.STAGES[stage](20)()["done"] > 0


def test_the_index_is_measured_after_it_is_built():
    assert 100 < growth.index_bytes(2_000) < 300  # opening alone takes less than 30


def test_growth_is_shown_by_stage():
    by_times = {"1": {"seconds": 1, "MiB": 5}, "10": {"seconds": 2, "MiB": 6}, "100": {"seconds": 20, "MiB": 7}}
    found = {"stages": {"store": by_times}, "processes": {"extraction": {"1": 9.0, "2": 5.0}}}
    assert "| store | 2,000 examples | 1 | 2 | 20 | 1.00 | 5 | 6 | 7 |" in growth.table(found)
    assert "extraction 9 s and 5 s" in growth.table(found)


def test_accelerate_knows_the_options_that_start_several_processes():
    from accelerate.commands.launch import launch_command_parser

    arguments = [*growth.LAUNCH, "--num_processes", "2", "-m", "firstlib.cli", "stage", "knowledge"]
    assert launch_command_parser().parse_args(arguments).num_processes == 2


def test_a_cold_run_is_measured_from_what_it_leaves(tmp_path, monkeypatch):
    """Of a run of six seconds, two stages of two seconds each overlap by one."""
    folder = tmp_path / "smoke" / "seed-0"
    for name, finished in (("teacher", 103.0), ("student", 104.0)):
        (folder / f"{name}-0f").mkdir(parents=True)
        content = {"stage": name, "seconds": 2.0, "finished": finished}
        (folder / f"{name}-0f" / "manifest.json").write_text(json.dumps(content))
    cost = {"seconds": {"01": 2.0, "02": 4.0}, "peak_memory_bytes": 2e9}
    (folder / "cost.json").write_text(json.dumps(cost))
    seconds = iter([7.0, 1.5])
    monkeypatch.setattr(cold, "_seconds", lambda *_: next(seconds))
    monkeypatch.setattr(cold, "commands", lambda *_: json.loads(cold.KEPT.read_text())["commands"])
    found = cold.measure(str(tmp_path), "smoke")
    assert "| stages alone on 2 cores, never waiting, s | 2 |" in cold.table(found)
    assert found.pop("commands")
    assert found == {"run": 7.0, "again": 1.5, "notebooks": 6.0, "in stages": 0.5, "stages": 4.0, "peak": 2e9}


def test_the_fastest_of_a_few_counts_and_a_command_that_fails_is_told(monkeypatch, tmp_path):
    calls, seconds = [], itertools.cycle([5.0, 3.0, 4.0])
    monkeypatch.setattr(cold, "_timed", lambda *command: calls.append(command) or next(seconds))
    found = cold.commands(str(tmp_path), "smoke")
    assert 0 < found.pop("import firstlib") < 5
    assert set(found.values()) == {3.0}
    assert sum("table" in call for call in calls) == cold.TIMES
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="there is no results"):
        cold.commands(str(tmp_path), "smoke")


def test_the_cold_run_in_the_page_is_the_kept_one():
    assert cold.table(json.loads(cold.KEPT.read_text())) in cold.README.read_text(encoding="utf-8")
