"""A run that was changed, by one bit or one number, is detected."""

import json
import random
import shutil
from contextlib import suppress

import pytest

from firstlib import Experiment
from firstlib.results.verify import verify
from firstlib.runtime import artefacts
from firstlib.runtime.errors import UserError


@pytest.fixture(scope="module")
def finished(tiny_preset_file, tmp_path_factory):
    home = tmp_path_factory.mktemp("verified")
    Experiment(str(tiny_preset_file), run_folder=str(home)).results()
    return home


@pytest.fixture
def run(finished, tmp_path, tiny_preset_file):
    """Opens a copy of the finished run, which the test may damage."""
    shutil.copytree(finished, tmp_path / "copy")
    artefacts.check.cache_clear()  # as in a new process
    yield lambda: Experiment(str(tiny_preset_file), run_folder=str(tmp_path / "copy"))
    artefacts.check.cache_clear()


def test_an_unchanged_run_agrees_in_every_value(run):
    leaves = json.loads((run().folder / "results.json").read_text())
    assert verify(run()) > 10 * len(leaves)


def test_a_changed_number_in_the_results_is_reported(run):
    file = run().folder / "results.json"
    content = json.loads(file.read_text())
    content["rows"][3]["ece"] += 1e-6
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results.json: rows/3/ece is .*, but the kept answers give"):
        verify(run())


def test_a_missing_artefact_is_not_made_again(run):
    shutil.rmtree(next(run().folder.glob("predictions-student-temperature-*")))
    with pytest.raises(UserError, match=r"predictions-student-temperature-.* is missing; run again"):
        verify(run())


def test_without_results_there_is_nothing_to_verify(run):
    (run().folder / "results.json").unlink()
    with pytest.raises(UserError, match="run it first"):
        verify(run())


@pytest.mark.parametrize("seed", range(100))
def test_one_flipped_bit_anywhere_is_found_or_harmless(run, seed):
    """In a manifest, only the list of files matters; a flipped bit elsewhere is harmless if the file is still JSON."""
    rng = random.Random(seed)
    files = sorted(path for path in run().folder.glob("*-*/**/*") if path.is_file() and path.stat().st_size)
    path = rng.choice(files)
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    if path.name == artefacts.MANIFEST:
        with suppress(UserError):
            verify(run())
    else:
        with pytest.raises(UserError, match=rf"{path.parent.name}/.*{path.name} was changed after it was made"):
            verify(run())


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "was changed"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "was changed"),
        (lambda folder: (folder / "other.safetensors").write_bytes(b"more"), "does not belong there"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": [1]}'), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "is damaged"),
    ],
)
def test_a_damaged_teacher_is_refused_when_it_is_needed(run, harm, complaint):
    experiment = run()
    folder = experiment.teacher("csqa")
    artefacts.check.cache_clear()
    harm(folder)
    with pytest.raises(UserError, match=f"{complaint}.*remove .*{folder.name} and run again"):
        run().teacher("csqa")
