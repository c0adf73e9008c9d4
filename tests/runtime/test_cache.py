"""What is known of a large file is computed once, until the file changes."""

import os
import time

import pytest

from firstlib.runtime import cache
from firstlib.runtime.cache import cache_folder, remembered
from firstlib.runtime.hashing import file_hash


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of several bytes that counts as large, whose last change is long ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LARGE", 4)
    monkeypatch.setattr(cache, "_SETTLED", -1)
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    return path


def computed(path):
    """Whether a hash is computed, rather than remembered."""
    calls = []
    remembered(path, lambda file: calls.append(file) or "hash")
    return bool(calls)


def test_a_large_file_is_read_once(large):
    assert [computed(large), computed(large)] == [True, False]


def test_each_kind_of_knowledge_is_kept_by_itself(large):
    assert remembered(large, lambda file: "1", "one") == "1"
    assert remembered(large, lambda file: "2", "two") == "2"


def test_a_changed_file_is_read_again(large):
    first = file_hash(large)
    status = large.stat()
    time.sleep(0.02)  # longer than the clock of a file system
    large.write_bytes(b"other")
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))  # its time of modification hides the change
    assert file_hash(large) != first


def test_a_file_that_has_just_changed_is_not_remembered(large, monkeypatch):
    monkeypatch.setattr(cache, "_SETTLED", 60)
    assert [computed(large), computed(large)] == [True, True]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(large):
    cache_folder().parent.write_text("a file where the cache would be")
    assert [computed(large), computed(large)] == [True, True]


def test_a_small_file_is_always_read(large):
    large.write_bytes(b"one")
    assert [computed(large), computed(large)] == [True, True]
    assert not cache_folder().exists()
