"""`make pretrained` names what it lacks in one line."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts import pretrained


@pytest.fixture
def folders(tmp_path, monkeypatch):
    (tmp_path / "alpaca").mkdir()
    monkeypatch.setenv("FIRST_PRETRAINED", str(tmp_path))
    monkeypatch.setenv("FIRST_REAL_DATA", str(tmp_path))
    return tmp_path


def test_a_variable_that_is_not_set_is_named(folders, monkeypatch):
    monkeypatch.delenv("FIRST_PRETRAINED")
    assert pretrained.lacking().startswith("FIRST_PRETRAINED: is not set")


def test_a_missing_file_is_named_with_the_model_to_get(folders):
    assert "qwen2.5-coder-0.5b.gguf: there is no such file; get Qwen2.5-Coder-0.5B" in pretrained.lacking()
    (folders / "qwen2.5-coder-0.5b.gguf").touch()
    assert "qwen2.5-coder-1.5b.gguf" in pretrained.lacking()
    (folders / "qwen2.5-coder-1.5b.gguf").touch()
    assert pretrained.lacking() is None


def as_file(rows, kind):
    if kind == "json":
        return json.dumps(rows).encode()
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_instructions_heal(folders, kind):
    rows = [
        {"instruction": "Add.", "input": "1 and 1", "output": "2"},
        {"instruction": "Hi", "input": "", "output": "Ho"},
    ]
    (folders / "alpaca" / f"alpaca_data.{kind}").write_bytes(as_file(rows, kind))
    assert pretrained.instructions() == "Add.\n1 and 1\n2\n\nHi\n\nHo"


@pytest.mark.parametrize(("kept", "made"), [(True, []), (False, ["shrunk"])])
def test_the_half_is_made_only_where_a_cell_needs_it(folders, monkeypatch, kept, made):
    calls = []
    monkeypatch.setattr(pretrained, "lacking", lambda: None)
    monkeypatch.setattr(pretrained, "instructions", lambda: "text")
    monkeypatch.setattr(pretrained, "PROJECT", folders)
    monkeypatch.setattr(pretrained, "shrink", lambda how, to: calls.append("shrunk"))
    monkeypatch.setattr(pretrained.study, "is_complete", lambda cell: kept)
    pretrained.main()
    assert calls == made
