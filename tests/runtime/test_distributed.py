"""Two processes under accelerate give the same store as one, and nearly the same student."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from firstlib.knowledge import KnowledgeStore
from firstlib.runtime import distributed

# Without GPUs, accelerate's `--multi_gpu` starts processes on the CPU only if this variable is set.
ON_CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
QUIET = ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")


def first(preset, runs, *launch, stage="first"):
    command = [sys.executable, *launch, "-m", "firstlib.cli", "stage", stage, "csqa"]
    environment = {**os.environ, **ON_CPU}
    done = subprocess.run(
        [*command, "--preset", str(preset), "--runs", str(runs)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def both(tiny_preset_file, tmp_path_factory):
    """The run folders of a run in one process and of a run in two."""
    home = tmp_path_factory.mktemp("processes")
    for name, launch in (("one", ()), ("two", (*LAUNCH, *QUIET))):
        first(tiny_preset_file, home / name, *launch)
    return [home / name / "tiny" / "seed-0" for name in ("one", "two")]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def only(folder: Path, pattern: str) -> Path:
    [found] = folder.glob(pattern)
    return found


def test_two_processes_write_two_parts_of_the_same_store(both):
    one, two = (KnowledgeStore(only(folder, "knowledge-csqa-train-top5-*")) for folder in both)
    assert (len(one.paths), len(two.paths)) == (1, 2)
    assert {item.example_id for item in one} == {item.example_id for item in two}
    for item in one:
        other = two[item.example_id]
        np.testing.assert_array_equal(item.position, other.position)
        np.testing.assert_allclose(item.probabilities, other.probabilities, atol=2e-3)


def test_two_processes_train_the_same_models(both):
    """Sums run in another order and Adam's first steps amplify the difference, so weights agree to about one step."""
    for stage in ("teacher-csqa-*", "student-temperature-csqa-*"):
        one, two = (load_file(only(folder, stage) / "model.safetensors") for folder in both)
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_allclose(one[name], two[name], atol=2e-4, err_msg=name)


def test_a_model_sharded_by_fsdp_trains_to_the_same_weights(both, tiny_preset_file, tmp_path):
    sharded = (
        "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
        "--fsdp_transformer_layer_cls_to_wrap", "LlamaDecoderLayer", "--fsdp_state_dict_type", "FULL_STATE_DICT",
    )  # fmt: skip
    first(
        tiny_preset_file,
        tmp_path,
        *(word for word in LAUNCH if word != "--multi_gpu"),
        *QUIET,
        *sharded,
        stage="teacher",
    )
    whole, joined = (
        load_file(only(folder, "teacher-csqa-*") / "model.safetensors")
        for folder in (both[0], tmp_path / "tiny" / "seed-0")
    )
    assert whole.keys() == joined.keys()
    for name in whole:
        np.testing.assert_allclose(joined[name], whole[name], atol=2e-4, err_msg=name)


def test_a_notebook_can_start_processes_too(both, tiny_preset_file, tmp_path):
    """As accelerate requires, the processes import the library, and the notebook does not."""
    script = f"""
from accelerate import notebook_launcher

def train():
    from firstlib.experiment import Experiment
    Experiment({str(tiny_preset_file)!r}, run_folder={str(tmp_path)!r}).stage("knowledge", "csqa")

if __name__ == "__main__":
    notebook_launcher(train, num_processes=2, use_port="{free_port()}")
"""
    environment = {**os.environ, **ON_CPU}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        KnowledgeStore(only(folder, "knowledge-csqa-train-top5-*"))
        for folder in (both[1], tmp_path / "tiny" / "seed-0")
    )
    assert len(two.paths) == 2
    np.testing.assert_array_equal(one.all_probabilities(), two.all_probabilities())


def test_two_processes_leave_one_complete_run(both):
    kinds = [sorted(path.name.rsplit("-", 1)[0] for path in folder.glob("*-*")) for folder in both]
    assert kinds[0] == kinds[1]
    assert all((path / "manifest.json").is_file() for path in both[1].glob("*-*"))
    assert not list(both[1].glob(".*making"))


def test_a_single_process_needs_no_communication():
    assert (distributed.world_size(), distributed.rank(), distributed.broadcast("value")) == (1, 0, "value")
    distributed.barrier()
