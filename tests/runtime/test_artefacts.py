"""A stage is complete or absent, and is made only once."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from firstlib.runtime import artefacts
from firstlib.runtime.artefacts import Artefacts
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import content_hash, files_hash
from firstlib.runtime.paths import run_folder


def test_a_stage_is_made_once(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "result").write_text("42")

    first = Artefacts(tmp_path).get("stage", {"a": 1}, make)
    second = Artefacts(tmp_path).get("stage", {"a": 1}, make)
    assert first == second
    assert len(made) == 1
    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest["inputs"] == {"a": 1}
    assert list(manifest["files"]) == ["result"]
    assert manifest["bytes"] == 2
    assert manifest["threads"] == torch.get_num_threads()
    assert manifest["code"] == files_hash(Path(artefacts.__file__).parents[1].rglob("*.py"))
    assert manifest["versions"]["torch"] == torch.__version__


def test_other_inputs_give_another_stage(tmp_path):
    stages = {Artefacts(tmp_path).get("stage", {"a": a}, lambda folder: None) for a in (1, 2)}
    assert len(stages) == 2


def test_a_failed_stage_leaves_nothing_that_looks_finished(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        Artefacts(tmp_path).get("stage", {}, fail)
    assert Artefacts(tmp_path).manifests() == []
    assert Artefacts(tmp_path).get("stage", {}, lambda folder: None).is_dir()


def test_a_second_request_waits_for_the_first_ones_result(tmp_path):
    started, made = threading.Event(), []

    def make(folder):
        made.append(folder)
        started.set()
        time.sleep(0.3)
        (folder / "by").write_text("the first")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(lambda: Artefacts(tmp_path).get("stage", {}, make))
        started.wait()
        second = pool.submit(lambda: Artefacts(tmp_path).get("stage", {}, make))
        assert first.result() == second.result()
    assert len(made) == 1
    assert (first.result() / "by").read_text() == "the first"


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    left = tmp_path / f".stage-{content_hash({})}.making"
    left.mkdir()
    (left / "half").write_text("")
    finished = Artefacts(tmp_path).get("stage", {}, lambda folder: (folder / "whole").write_text(""))
    assert sorted(path.name for path in finished.iterdir()) == ["manifest.json", "whole"]
    assert not left.exists()


def test_a_key_does_not_depend_on_the_order_of_names():
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_overridden_settings_get_their_own_run_folder(tmp_path):
    plain, changed = (
        run_folder(str(tmp_path), "smoke", 0),
        run_folder(str(tmp_path), "smoke", 0, ["training.epochs=1"]),
    )
    assert plain.relative_to(tmp_path).as_posix() == "smoke/seed-0"
    assert changed.parent.name.startswith("smoke-")


def test_an_impossible_path_is_refused():
    with pytest.raises(UserError, match="cannot contain a null character"):
        run_folder("runs\0", "smoke", 0)


def test_a_file_in_place_of_the_run_folder_is_reported(tmp_path):
    (tmp_path / "smoke").write_text("")
    with pytest.raises(UserError, match="is a file"):
        run_folder(str(tmp_path), "smoke", 0)
