"""A full disk: the error takes one line, nothing incomplete is left, and the next run succeeds."""

import errno
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from firstlib import Experiment
from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store
from firstlib.runtime import artefacts
from firstlib.runtime.artefacts import Artefacts
from firstlib.runtime.errors import UserError
from firstlib.runtime.sequences import on_disk


@pytest.fixture
def small_disk(tmp_path):
    """A one-megabyte disk."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("this machine does not let the tests mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(path):
    """Writes until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


@pytest.mark.parametrize("stage", ["teacher", "knowledge"])
def test_a_full_disk_is_reported_in_one_line_and_the_stage_can_be_made_later(small_disk, stage, tiny_preset_file):
    experiment = Experiment(str(tiny_preset_file), run_folder=str(small_disk))
    if stage == "knowledge":
        experiment.teacher("csqa")
    filling = small_disk / "filling"
    fill(filling)
    with pytest.raises(UserError, match=r"no space left on the disk of .*free some space and run again"):
        experiment.stage(stage, "csqa")
    filling.unlink()
    artefacts.check(experiment.stage(stage, "csqa"))


NO_SPACE = "no space left for temporary files in .*TMPDIR"


def test_no_space_for_temporary_rows_is_reported_in_one_line(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(UserError, match=NO_SPACE):
        on_disk(("x" * 1000 for _ in range(2000)), str, str)
    assert list(on_disk("abc", str, str)) == ["a", "b", "c"]


def test_no_space_to_unpack_a_store_is_reported_in_one_line(small_disk, tmp_path, monkeypatch):
    origin, rows = Origin(teacher="t", tokenizer="t", data="d", k=5), 40_000
    columns = (np.arange(rows), np.ones((rows, 5)), np.full((rows, 5), 0.2), np.zeros(rows), np.zeros((rows, 0)))
    write_store(tmp_path / "store", [TopK("example", *columns)], origin)
    assert KnowledgeStore(tmp_path / "store").positions == rows
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(UserError, match=NO_SPACE):
        KnowledgeStore(tmp_path / "store").all_probabilities()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed: No space left on device"),
    ],
)
def test_every_librarys_disk_error_is_recognised(tmp_path, error):
    def make(folder: Path) -> None:
        (folder / "half").write_text("h")
        raise error

    with pytest.raises(UserError, match="no space left"):
        Artefacts(tmp_path).get("stage", {}, make)
    assert not list(tmp_path.glob("stage-*"))
