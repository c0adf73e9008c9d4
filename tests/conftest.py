"""Shared fixtures (tiny random models in the hub's format, presets, a finished run) and how tests are distributed."""

import fcntl
import shutil
import time
from pathlib import Path

import pytest
import torch
from command_line import first
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from firstlib.runtime.hashing import content_hash, files_hash, library_hash
from firstlib.runtime.paths import PROJECT
from firstlib.settings.schema import Model
from firstlib.tasks import microworld
from firstlib.tasks.microworld.vocabulary import build_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world():
    return microworld.make_world()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory, world):
    folder = tmp_path_factory.mktemp("base")
    texts = [q.prompt + q.response for t in microworld.TASKS for q in microworld.ask(world, t, "train", 2000, 0)]
    tokenizer = build_tokenizer(texts)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
        bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bytes_folder(tmp_path_factory):
    """A tiny Llama whose tokenizer encodes any text, byte by byte if necessary, as tokenizers on the hub do."""
    folder = tmp_path_factory.mktemp("bytes")
    backend = Tokenizer(BPE())
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(
        ["Q: What does the baker drink? Answer Choices: (a) tea", "### Response: Yes No"], trainer
    )
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def base(base_folder):
    return Model(base=str(base_folder))


@pytest.fixture(scope="session")
def tiny_preset_file(base_folder, tmp_path_factory):
    """A preset file for the tiny model; every stage takes seconds."""
    path = tmp_path_factory.mktemp("presets") / "tiny.yaml"
    path.write_text(
        f"""
columns:
  - {{setting: in-domain, train: csqa, test: [csqa]}}
  - {{setting: out-of-domain, train: alpaca, test: [csqa, obqa]}}
sizes: {{train: 24, validation: 20, test: 16}}
teacher: {{base: {base_folder}}}
student: {{base: {base_folder}}}
training: {{epochs: 1, global_batch_size: 8, teacher_learning_rate: 1.0e-3, student_learning_rate: 1.0e-3}}
"""
    )
    return path


@pytest.fixture
def tiny_preset(tiny_preset_file, tmp_path):
    """A copy of the preset file that the test may change."""
    return shutil.copy(tiny_preset_file, tmp_path / "tiny.yaml")


@pytest.fixture(scope="session")
def made_once(request):
    """Makes a folder of runs that takes long, once for all processes: the first to ask makes it, the others wait.

    `made_once(name, key, make)` returns the folder, and what `make(folder)` returned; a new key makes it anew. Read
    the folder; copy it to change it.
    """

    def folder_of(name, key, make):
        home = request.config.cache.mkdir(name)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            runs, printed = home / f"{key} {{v1}}", home / f"{key}.txt"  # papermill fills in names in braces
            if not printed.is_file():
                for old in home.iterdir():
                    shutil.rmtree(old) if old.is_dir() else None
                printed.write_text(make(runs))
        return runs, printed.read_text()

    return folder_of


@pytest.fixture(scope="session")
def smoke(made_once):
    """The folder of a whole run on the smoke preset, and what the command printed. It takes a minute."""

    def make(runs):
        done = first("run", "--preset", "smoke", "--runs", str(runs))
        assert done.returncode == 0, done.stderr
        return done.stdout

    read = [PROJECT / "constraints.txt", *PROJECT.glob("notebooks/*.ipynb"), *PROJECT.glob("data/results/*.json")]
    return made_once("smoke", content_hash([library_hash(), files_hash(read)]), make)


# -- what takes long ---------------------------------------------------------------------------------------------

# Files that train models or start browsers, kernels and processes: `make test-quick` leaves them out.
SLOW = (
    "browser/", "cli/", "experiment/", "explorer/", "faults/", "figures/", "fuzz/", "models/", "planning/", "results/",
    "distillation/test_training", "runtime/test_distributed", "tasks/test_hub", "test_benchmarks", "test_environment",
    "test_properties",
)  # fmt: skip


# Where the tests with these marks are: the Makefile runs them from there, so that nothing else need be collected.
PLACES = {"alone": "explorer/", "long": "faults/"}


def pytest_collection_modifyitems(items):
    """Marks the tests of slow files."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        if place.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        for mark, folder in PLACES.items():
            if item.get_closest_marker(mark) and not place.startswith(folder):
                raise pytest.UsageError(f"{item.nodeid}: tests marked {mark} belong in tests/{folder}")


# -- progress ----------------------------------------------------------------------------------------------------

PAUSE = 20  # seconds between progress lines


class TimeLeft:
    """Reports every few seconds how many tests are done and how long the rest will take."""

    def __init__(self, reporter):
        self.reporter, self.started, self.reported, self.done, self.total = reporter, time.monotonic(), 0.0, 0, 0

    def pytest_collection_finish(self, session):
        self.total = max(self.total, len(session.items))

    def pytest_xdist_node_collection_finished(self, node, ids):
        self.total = max(self.total, len(ids))

    def pytest_runtest_logfinish(self):
        self.done += 1
        spent = time.monotonic() - self.started
        if self.total and spent - self.reported > PAUSE:
            self.reported = spent
            left = spent / self.done * (self.total - self.done)
            # Browsers and kernels come first and are slow: an estimate before a fifth is done would mislead.
            told = f", about {left / 60:.1f} minutes left" if self.done > self.total / 5 else ""
            self.reporter.write_line(f"\n{self.done} of {self.total} tests{told}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not hasattr(config, "workerinput"):
        config.pluginmanager.register(TimeLeft(reporter), "time-left")
