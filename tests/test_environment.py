"""The project's own files agree with each other."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from firstlib.runtime.paths import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_conda_installs_what_pip_installs():
    dependencies = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    assert f"python{PYPROJECT['project']['requires-python']}" in dependencies
    assert dependencies[-1] == {"pip": ["-e ."]}, "whatever pyproject.toml pins, and nothing else"


def test_every_dependency_is_pinned_and_has_its_reason():
    text = (PROJECT / "pyproject.toml").read_text()
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PYPROJECT["project"]["dependencies"], *(r for extra in extras for r in extra)]:
        assert "==" in requirement or requirement.startswith(("firstlib[", "numpy"))
        assert re.search(rf'"{re.escape(requirement)}", *# \w+', text), f"{requirement} has no reason"


def test_the_constraints_agree_with_the_pins():
    installed = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines())
    installed = {name.lower().replace("_", "-"): version for name, version in installed.items()}
    for requirement in PYPROJECT["project"]["dependencies"]:
        name, _, version = requirement.partition("==")
        assert installed[name] == version if version else installed["numpy"] == "2.4.6"


def test_make_help_lists_the_targets():
    output = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "lab", "plan", "bench", "base-models"):
        assert f"make {target} " in output


def test_the_base_models_are_small_and_safe():
    folder = PROJECT / "data" / "microworld"
    weights = list(folder.glob("*/*.safetensors"))
    assert len(weights) == 2
    assert sum(path.stat().st_size for path in weights) <= 10_000_000
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".npy")]


def test_no_machine_specific_path_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        path = Path(PROJECT, name)
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".json", ".cff", "") and path.is_file():
            assert not re.search(r"/(root|home|work)/\w", path.read_text(encoding="utf-8")), name
