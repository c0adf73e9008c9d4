"""A real browser, a finished run of small models, and JupyterLab on a copy of notebook 04.

The tests are skipped if Playwright or Chromium is missing, unless FIRST_REQUIRE_BROWSER=1. FIRST_SCREENSHOTS names a
folder for their screenshots.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser.shown import WIDTHS
from firstlib.experiment.experiment import Experiment
from firstlib.results.report import write_report
from firstlib.runtime.hashing import content_hash, files_hash, library_hash
from firstlib.runtime.paths import PROJECT

TOKEN = "token-of-the-tests"
PRESET = """
columns:
  - {setting: in-domain, train: csqa, test: [csqa]}
  - {setting: out-of-domain, train: alpaca, test: [csqa]}
sizes: {train: 32, validation: 48, test: 48}
teacher: {base: data/microworld/teacher}
student: {base: data/microworld/student}
threads: 1
training: {epochs: 1, teacher_learning_rate: 1.0e-3, student_learning_rate: 1.0e-3}
"""
OWN_HOSTS = {"127.0.0.1", "localhost", ""}  # a file URL has no host


def chromium_path():
    named = os.environ.get("BROWSER_PATH")
    found = (named, *map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return next((path for path in found if path and Path(path).is_file()), None)


def missing(reason):
    if os.environ.get("FIRST_REQUIRE_BROWSER") == "1":
        pytest.fail(f"FIRST_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: pip install -e .[test]")
    if chromium_path() is None:
        missing("Chromium was not found: apt-get install chromium, or set BROWSER_PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = Path(os.environ.get("FIRST_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Watched:
    """A page with its errors and the hosts it contacted."""

    def __init__(self, page):
        self.page, self.errors, self.hosts = page, [], set()
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def check(self):
        assert self.errors == []
        assert self.hosts <= OWN_HOSTS


@pytest.fixture
def watched(browser):
    """Opens pages of a given width, and finally checks the errors and contacted hosts of each."""
    opened = []

    def open_page(width=WIDTHS["wide"], **options):
        context = browser.new_context(viewport={"width": width, "height": 1000}, **options)
        opened.append((context, Watched(context.new_page())))
        return opened[-1][1].page

    yield open_page
    for context, one in opened:
        one.check()
        context.close()


@pytest.fixture(scope="session")
def experiment(browser, made_once, tmp_path_factory):
    """A small run with the microworld's own models, because random models do not react to the slider."""
    preset, runs = tmp_path_factory.mktemp("presets") / "small.yaml", tmp_path_factory.mktemp("copy") / "runs"
    preset.write_text(PRESET)

    def make(folder):
        return str(write_report(Experiment(str(preset), 0, str(folder))))

    models = files_hash((PROJECT / "data" / "microworld").rglob("*.safetensors"))
    made, _ = made_once("browser", content_hash([library_hash(), PRESET, models]), make)
    shutil.copytree(made, runs)
    return Experiment(str(preset), 0, str(runs))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on a folder with only copies of notebook 04; gives the address of an experiment's copy."""
    root = tmp_path_factory.mktemp("lab")
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--notebook-dir={root}"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--IdentityProvider.token={TOKEN}"]
    with served(command, _lab_settings(root), root / "lab.log") as server:

        def address(experiment, name):
            copy_notebook(experiment, root / name)
            return f"{server}/lab/tree/{name}?token={TOKEN}&reset"

        yield address


def _lab_settings(root):
    """Gives Jupyter its own folders, with announcements disabled and every cell kept in the page."""
    config, settings = root / "config" / "labconfig", root / "settings" / "@jupyterlab" / "notebook-extension"
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    whole = {"windowingMode": "none"}  # off-screen cells stay in the page, so that tests find them
    for path, content in ((config / "page_config.json", quiet), (settings / "tracker.jupyterlab-settings", whole)):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return {
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
    }


@contextmanager
def served(command, environment, log):
    """Runs a web server on a free port until the test ends; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with log.open("w") as said:
        process = subprocess.Popen([*command, f"--port={port}"], stdout=said, stderr=said, env=own, cwd=PROJECT)
        try:
            _wait_for(port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def copy_notebook(experiment, to):
    """Copies notebook 04 for an experiment, as if it had never run."""
    book = json.loads((PROJECT / "notebooks" / "04_temperature.ipynb").read_text(encoding="utf-8"))
    parameters = {"preset": experiment.preset, "seed": 0, "run_folder": str(experiment.folder.parents[1])}
    for cell in book["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = [f"{name} = {value!r}\n" for name, value in parameters.items()] + ["overrides = []"]
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    to.write_text(json.dumps(book), encoding="utf-8")


def _wait_for(port, log, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the server did not start:\n{log.read_text()[-2000:]}")
