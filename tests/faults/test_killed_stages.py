"""A stage killed at any moment resumes from its last row group or checkpoint, and gives the same bytes."""

import json
import random
import shutil
from collections import Counter

import pytest
import work

KILLS = 8  # random moments of each stage
FOLDERS = {"distill": "student-top-k"}  # folders of students, by method
PRESET = """
columns: [{{setting: in-domain, train: csqa, test: [csqa]}}]
sizes: {{train: 120, validation: 20, test: 16}}
teacher: {{base: {base}}}
student: {{base: {base}}}
threads: 1
knowledge: {{batch_size: 4}}
training: {{epochs: 1, global_batch_size: 8, checkpoint_minutes: 1.0e-6}}
"""


class Stage:
    """A stage whose inputs exist, and its result without a fault."""

    def __init__(self, name, needs, preset, home):
        self.name, self.preset, self.before = name, preset, home / "before"
        work.finish(needs, preset, str(self.before), str(home / "needs.log"))
        work.finish(*self.arguments(self.copy(home / "warm")))
        folder = self.copy(home / "undisturbed")
        self.seconds = work.finish(*self.arguments(folder))
        self.files, self.log = self.made(folder), self.noted(folder)

    def copy(self, folder):
        shutil.copytree(self.before, folder / "runs")
        return folder

    def arguments(self, folder):
        return self.name, self.preset, str(folder / "runs"), str(folder / "log")

    def made(self, folder):
        (manifest,) = folder.glob(f"runs/*/seed-0/{FOLDERS.get(self.name, self.name)}-csqa-*/manifest.json")
        return json.loads(manifest.read_text())["files"]

    def noted(self, folder):
        path = folder / "log"
        return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.fixture(scope="module")
def preset(base_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "faults.yaml"
    path.write_text(PRESET.format(base=base_folder))
    return str(path)


@pytest.fixture(scope="module")
def extraction(preset, tmp_path_factory):
    return Stage("knowledge", "teacher", preset, tmp_path_factory.mktemp("extraction"))


@pytest.fixture(scope="module")
def training(preset, tmp_path_factory):
    return Stage("distill", "knowledge", preset, tmp_path_factory.mktemp("training"))


def killed_and_resumed(stage, seed, folder):
    """Kills a stage, resumes it, and counts how often each example or step was done."""
    stage.copy(folder)
    work.kill_after(random.Random(seed).uniform(0.05, stage.seconds), *stage.arguments(folder))
    work.finish(*stage.arguments(folder))
    assert stage.made(folder) == stage.files, "the bytes differ from those without the fault"
    assert not list(folder.glob("runs/*/seed-0/.*making")), "leftovers of the killed try"
    assert not list(folder.glob("runs/*/seed-0/.*unfinished")), "leftovers of the killed try"
    return stage.noted(folder)


@pytest.mark.parametrize("seed", range(KILLS))
def test_extraction_resumes_from_its_last_row_group(extraction, seed, tmp_path):
    found = killed_and_resumed(extraction, seed, tmp_path)
    assert set(found) == set(extraction.log)
    positions = 2  # per response: a letter and the end token
    again = positions * (found - extraction.log).total()
    assert again <= work.ROWS + 2 * 4 * positions, "repeated more than a row group and the batches at its ends"


@pytest.mark.parametrize("seed", range(KILLS))
def test_training_resumes_from_its_last_checkpoint(training, seed, tmp_path):
    found = killed_and_resumed(training, seed, tmp_path)
    assert set(found) == set(training.log)
    assert (found - training.log).total() <= 1, "repeated more than the interrupted step"


def test_a_stage_killed_repeatedly_finishes(training, tmp_path):
    training.copy(tmp_path)
    for _ in range(6):
        work.kill_after(0.6 * training.seconds, *training.arguments(tmp_path))
    work.finish(*training.arguments(tmp_path))
    assert training.made(tmp_path) == training.files
