"""The teacher's top k against a dense softmax, and the store that holds it."""

import os
import re
import tempfile
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from firstlib.knowledge import (
    KnowledgeStore,
    Origin,
    RowGroupCache,
    TopK,
    bytes_by_k,
    check_complete,
    extract_top_k,
    extraction,
    top_k_of_logits,
    write_store,
)
from firstlib.knowledge import store as stores
from firstlib.knowledge.batches import batches_by_length
from firstlib.knowledge.top_k import tempered as temper
from firstlib.models import heads, loading
from firstlib.runtime.errors import StoreError, UserError
from firstlib.tasks import microworld
from firstlib.tasks.encoding import Encoded, encode

ORIGIN = Origin(teacher="teacher-1", tokenizer="tokenizer-1", data="data-1", k=5)


@pytest.fixture(scope="module")
def spec(base_folder):
    return loading.Model(base=str(base_folder))


@pytest.fixture(scope="module")
def encoded(spec, world):
    """Questions of two tasks, so that prompts and responses differ in length."""
    tokenizer = loading.load_tokenizer(spec)
    questions = [q for task in ("csqa", "boolq") for q in microworld.ask(world, task, "train", 4, 0)]
    return [encode(tokenizer, question.example()) for question in questions]


@pytest.fixture(scope="module")
def model(spec):
    """A model sharper than random weights, so that ranks are far apart."""
    model = loading.load_base(spec).eval()
    with torch.no_grad():
        heads.body_and_head(model)[1].weight *= 20
    return model


@pytest.fixture(scope="module")
def extracted(model, encoded):
    return {item.example_id: item for item in extract_top_k(model, encoded, 5)}


def write(folder, items, origin=ORIGIN):
    folder.mkdir(exist_ok=True)
    write_store(folder, items, origin)
    return folder


def dense_softmax(model, example):
    """`(P, V)`: the distribution over each response token given all tokens before it, from one plain forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([example.token_ids])).logits[0].double()
    return logits.softmax(-1)[example.start - 1 : -1].numpy()


@pytest.mark.parametrize(("bad", "where"), [(float("nan"), 7), (float("inf"), 7), (-float("inf"), slice(None))])
def test_non_finite_logits_are_refused(bad, where):
    logits = torch.zeros(3, 20)
    logits[1, where] = bad
    with pytest.raises(UserError, match="logits that are not finite"):
        top_k_of_logits(logits, 5)


# -- top k -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 50])
def test_top_k_equals_that_of_the_dense_softmax(k):
    logits = torch.randn(30, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    ids, probabilities, residual, _ = top_k_of_logits(logits, k)
    dense, order = logits.softmax(-1).sort(descending=True)
    assert torch.equal(ids, order[:, :k])
    torch.testing.assert_close(probabilities, dense[:, :k])
    torch.testing.assert_close(residual, dense[:, k:].sum(-1), rtol=1e-12, atol=0)


def test_a_tiny_residual_is_summed_and_not_subtracted():
    """Two other tokens of 5e-13 each: in float32, 1 - sum(top 2) would be 0 or noise."""
    wanted = torch.tensor([[0.75, 0.25, 5e-13, 5e-13]], dtype=torch.float64)
    logits = wanted.log().float()
    _, probabilities, residual, _ = top_k_of_logits(logits, 2)
    assert residual.item() == pytest.approx(1e-12, rel=1e-5)
    assert abs((1 - probabilities.sum()).item() - 1e-12) > 1e-13


def test_the_top_of_a_large_vocabulary_is_found_by_tiles():
    logits = torch.randn(20, 10_007, generator=torch.Generator().manual_seed(1))
    logits[0, -1] = logits[1, -5] = 9  # beyond the last whole tile
    values, ids = extraction.top_of_tiles(logits, 5)
    expected = logits.topk(5)
    assert torch.equal(values, expected.values)
    assert torch.equal(ids, expected.indices)


def test_log_normalisers_are_those_of_the_tempered_logits():
    logits = 4 * torch.randn(30, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    temperatures = (0.5, 1.0, 2.5)
    found = top_k_of_logits(logits, 5, temperatures).log_normalisers
    expected = torch.stack([(logits / t).logsumexp(1) for t in temperatures], 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [3, 7, 16, 49])
def test_merged_parts_of_the_vocabulary_equal_the_whole(width):
    logits = 4 * torch.randn(30, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[3, :16] = -torch.inf  # impossible tokens
    logits[4, -1] = logits[5, 0] = 60.0
    temperatures = (0.5, 1.0, 2.5)
    parts = [
        extraction._partial_of_logits(logits[:, first : first + width], first, 5, temperatures)
        for first in range(0, 50, width)
    ]
    merged = reduce(partial(extraction._merge, k=5, temperatures=temperatures), parts)
    found, whole = extraction._normalise(merged, temperatures), top_k_of_logits(logits, 5, temperatures)
    assert torch.equal(found.token_ids, whole.token_ids)
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_logits_in_one_part_are_refused(bad):
    logits = torch.zeros(2, 20)
    logits[1, 17] = bad
    a, b = (extraction._partial_of_logits(logits[:, first : first + 10], first, 5, ()) for first in (0, 10))
    with pytest.raises(UserError, match="logits that are not finite"):
        extraction._normalise(extraction._merge(a, b, 5, ()), ())


def test_a_head_applied_in_parts_gives_the_same_as_a_whole_one(model, encoded, extracted, monkeypatch):
    monkeypatch.setattr(extraction, "MIN_HEAD_ROWS", 64)
    monkeypatch.setattr(extraction, "CHUNK", 640)
    for item in extract_top_k(model, encoded, 5, temperatures=(1.0, 2.0)):
        whole = extracted[item.example_id]
        np.testing.assert_array_equal(item.token_ids, whole.token_ids)
        np.testing.assert_allclose(item.probabilities, whole.probabilities, rtol=1e-5)
        np.testing.assert_allclose(item.residual, whole.residual, rtol=1e-5)
        np.testing.assert_allclose(item.log_normalisers[:, 0], whole.log_normalisers[:, 0], rtol=1e-5)


def test_a_head_that_is_not_a_plain_matrix_is_applied_whole(model, encoded, extracted, monkeypatch):
    monkeypatch.setattr(extraction, "head_has_rows", lambda model: False)
    monkeypatch.setattr(extraction, "CHUNK", 500)
    for item in extract_top_k(model, encoded, 5):
        np.testing.assert_array_equal(item.token_ids, extracted[item.example_id].token_ids)
        np.testing.assert_allclose(item.probabilities, extracted[item.example_id].probabilities, rtol=1e-5)


def test_large_logits_do_not_overflow():
    ids, probabilities, residual, _ = top_k_of_logits(torch.tensor([[1000.0, -1000.0, 999.0]]), 2)
    assert ids.tolist() == [[0, 2]]
    assert probabilities.sum().item() == pytest.approx(1, rel=1e-4)  # float32's precision at 1000
    assert residual.item() == 0


# -- extraction --------------------------------------------------------------------------------------------------


def test_extraction_equals_a_plain_forward_pass_of_each_example(model, encoded, extracted):
    assert set(extracted) == {example.id for example in encoded}
    for example in encoded:
        found, dense = extracted[example.id], dense_softmax(model, example)
        order = (-dense).argsort(axis=1)[:, :5]
        np.testing.assert_array_equal(found.position, np.arange(example.start, len(example.token_ids)))
        np.testing.assert_array_equal(found.token_ids, order)
        np.testing.assert_allclose(found.probabilities, np.take_along_axis(dense, order, 1), rtol=1e-4)
        outside = dense.sum(1) - np.take_along_axis(dense, order, 1).sum(1)
        np.testing.assert_allclose(found.residual, outside, rtol=1e-3, atol=1e-9)
        assert 0.01 < found.residual.max() < 0.99  # neither 0 nor 1, so that errors would show


@pytest.mark.parametrize("batch", [1, 3])
def test_neither_batch_size_nor_order_matters(model, encoded, extracted, batch):
    for found in extract_top_k(model, encoded[::-1], 5, batch):
        expected = extracted[found.example_id]
        np.testing.assert_array_equal(found.token_ids, expected.token_ids)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-4)
        np.testing.assert_allclose(found.residual, expected.residual, rtol=1e-4)


def test_the_head_is_applied_one_chunk_at_a_time(model, encoded, extracted, monkeypatch):
    monkeypatch.setattr(extraction, "CHUNK", 1)
    for found in extract_top_k(model, encoded, 5):
        np.testing.assert_allclose(found.probabilities, extracted[found.example_id].probabilities, rtol=1e-4)


def test_padding_of_the_vocabulary_gets_no_mass(model, encoded):
    for item in extract_top_k(model, encoded, 5, vocabulary=40):
        assert item.token_ids.max() < 40
        np.testing.assert_allclose(item.probabilities.sum(1) + item.residual, 1, rtol=1e-5)


def test_under_autocast_probabilities_are_still_float32(model, encoded, extracted):
    for item in extract_top_k(model, encoded, 5, autocast=torch.bfloat16):
        assert item.probabilities.dtype == np.float32
        np.testing.assert_allclose(item.probabilities.sum(1) + item.residual, 1, rtol=1e-5)
        np.testing.assert_allclose(item.probabilities[:, 0], extracted[item.example_id].probabilities[:, 0], rtol=0.2)


def test_a_batch_holds_examples_of_about_the_same_length():
    lengths = [100, 10, 95, 89, 11, 100, 50]
    encoded = [Encoded(str(i), [1] * length, 1) for i, length in enumerate(lengths)]
    found = [[len(e.token_ids) for e in batch.examples] for batch in batches_by_length(encoded, 3)]
    assert found == [[100, 100, 95], [89], [50], [11, 10]]


def test_a_temperature_must_be_positive(model, encoded):
    with pytest.raises(ValueError, match="temperatures must be above 0"):
        next(extract_top_k(model, encoded, 5, temperatures=(1.0, 0.0)))


@pytest.mark.parametrize("k", [0, -1, 10_000])
def test_k_must_be_within_the_vocabulary(model, encoded, k):
    with pytest.raises(ValueError, match=f"k = {k}, but the vocabulary has"):
        next(extract_top_k(model, encoded, k))


# -- the store ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(extracted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, extracted.values(), ORIGIN)
    return KnowledgeStore(folder, ORIGIN)


def test_a_store_returns_what_was_written_in_half_precision(store, extracted):
    assert len(store) == len(extracted)
    assert {item.example_id for item in store} == set(extracted)
    for name in sorted(extracted, reverse=True):  # any order
        found, item = store[name], extracted[name]
        np.testing.assert_array_equal(found.position, item.position)
        np.testing.assert_array_equal(found.token_ids, item.token_ids)
        np.testing.assert_array_equal(found.probabilities, stores.half_precision(item.probabilities))
        np.testing.assert_array_equal(found.residual, stores.half_precision(item.residual))
        np.testing.assert_allclose(found.probabilities, item.probabilities, rtol=2**-11)
        np.testing.assert_allclose(found.residual, item.residual, rtol=2**-11)
        assert found.probabilities.dtype == found.residual.dtype == np.float32


def test_examples_in_different_row_groups_are_found(extracted, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "ROW_GROUP_SIZE", 9)
    store = KnowledgeStore(write(tmp_path, extracted.values()))
    assert pq.ParquetFile(store.path).num_row_groups > 2
    for name, item in extracted.items():
        np.testing.assert_array_equal(store[name].token_ids, item.token_ids)


def interrupted(items, after):
    """Yields some items and then fails."""
    yield from list(items)[:after]
    raise RuntimeError("power cut")


@pytest.fixture
def half_done(model, encoded, tmp_path, monkeypatch):
    """The parts of an extraction that failed after five examples, in row groups of about nine positions."""
    monkeypatch.setattr(stores, "ROW_GROUP_SIZE", 9)
    items = extract_top_k(model, encoded, 5, batch=3)
    with pytest.raises(RuntimeError, match="power cut"):
        write_store(tmp_path / "half", interrupted(items, 5), ORIGIN, cache=RowGroupCache(tmp_path / "parts"))
    return tmp_path / "parts"


def extract_with(parts, model, encoded, folder):
    folder.mkdir()
    known = parts.example_ids()
    write_store(folder, extract_top_k(model, encoded, 5, batch=3, known=known), ORIGIN, cache=parts)
    return folder.joinpath("knowledge.parquet").read_bytes()


def test_an_extraction_resumes_from_its_parts_to_the_same_bytes(half_done, model, encoded, tmp_path):
    known = RowGroupCache(half_done).example_ids()
    assert 0 < len(known) < len(encoded)
    resumed = extract_with(RowGroupCache(half_done), model, encoded, tmp_path / "resumed")
    assert resumed == extract_with(RowGroupCache(tmp_path / "none"), model, encoded, tmp_path / "undisturbed")


def test_a_damaged_part_and_all_after_it_are_extracted_again(half_done, model, encoded, tmp_path):
    before = len(RowGroupCache(half_done).example_ids())
    first = min(half_done.iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    assert not RowGroupCache(half_done).example_ids()
    assert before
    resumed = extract_with(RowGroupCache(half_done), model, encoded, tmp_path / "resumed")
    assert resumed == extract_with(RowGroupCache(tmp_path / "none"), model, encoded, tmp_path / "undisturbed")


def test_duckdb_and_datasets_read_a_store(store, extracted, tmp_path):
    duckdb, datasets = pytest.importorskip("duckdb"), pytest.importorskip("datasets")
    rows = duckdb.sql(f"select example_id, position, token_ids, probabilities[1] from '{store.path}'").fetchall()
    frame = datasets.Dataset.from_parquet(store.path, cache_dir=str(tmp_path))
    assert len(rows) == len(frame) == store.positions
    for (name, position, ids, first), row in zip(rows, frame, strict=True):
        item = extracted[name]
        at = position - item.position[0]
        assert list(ids) == row["token_ids"] == item.token_ids[at].tolist()
        assert first == row["probabilities"][0] == pytest.approx(item.probabilities[at, 0], rel=2**-11)


def test_a_store_may_be_at_any_url(extracted):
    write_store("memory://somewhere", extracted.values(), ORIGIN)
    store = KnowledgeStore("memory://somewhere", ORIGIN)
    for name, item in extracted.items():
        np.testing.assert_array_equal(store[name].token_ids, item.token_ids)


def test_log_normalisers_give_stored_temperatures_exactly(model, encoded, tmp_path):
    temperatures = (1.0, 0.5, 2.0)
    origin = Origin("t", "t", "d", 5, temperatures)
    store = KnowledgeStore(write(tmp_path, extract_top_k(model, encoded, 5, temperatures=temperatures), origin), origin)
    for example in encoded:
        item, dense = store[example.id], dense_softmax(model, example)
        for column in (1, 2):
            tempered = dense ** (1 / temperatures[column])
            expected = np.take_along_axis(tempered / tempered.sum(1, keepdims=True), item.token_ids, 1)
            normalisers = item.log_normalisers[:, [0, column]].T
            found = temper(item.probabilities, temperatures[column], *normalisers)
            np.testing.assert_allclose(found, expected, rtol=3e-3)
            assert found.sum(1).max() <= 1.001  # half precision


def test_small_masses_keep_their_size(tmp_path):
    """In float16 they would be 0."""
    item = TopK("e", np.arange(2), np.array([[1], [2]]), np.ones((2, 1)), np.array([1e-9, 3e-20]), np.zeros((2, 0)))
    found = KnowledgeStore(write(tmp_path, [item], Origin("t", "t", "d", 1)))["e"]
    np.testing.assert_allclose(found.residual, item.residual, rtol=2**-11)


def test_half_precision_is_that_of_float16_in_its_range():
    values = np.random.default_rng(0).random(10_000).astype(np.float32)
    values = values[values > 1e-4]
    np.testing.assert_array_equal(stores.half_precision(values), values.astype(np.float16).astype(np.float32))


def test_an_unknown_example_is_reported(store):
    with pytest.raises(KeyError, match="has no example 'csqa-train-99999'"):
        store["csqa-train-99999"]


@pytest.mark.parametrize("name", ["teacher", "tokenizer", "data"])
def test_knowledge_of_another_origin_is_refused_naming_both(extracted, tmp_path, name):
    folder = write(tmp_path, extracted.values())
    with pytest.raises(ValueError, match=f"its {name} is {name}-1, expected {name}-2.*extract the knowledge again"):
        KnowledgeStore(folder, Origin(**{**vars(ORIGIN), name: f"{name}-2"}))


def test_knowledge_of_another_k_or_format_is_refused(store):
    for name in ("k", "format"):
        with pytest.raises(ValueError, match=rf"its {name} is \d, expected 77"):
            KnowledgeStore(Path(store.path).parent, Origin(**{**vars(ORIGIN), name: 77}))


def test_parquet_readers_can_read_a_store(store, extracted):
    table = pq.read_table(store.path)
    assert table.column_names == ["example_id", "position", "token_ids", "probabilities", "residual"]
    assert str(table.schema.field("probabilities").type) == "fixed_size_list<element: float>[5]"
    frame = pd.read_parquet(store.path).set_index("example_id")
    for name, item in extracted.items():
        np.testing.assert_array_equal(np.stack(frame.loc[[name], "token_ids"]), item.token_ids)
        np.testing.assert_array_equal(frame.loc[[name], "position"], item.position)
        np.testing.assert_allclose(np.stack(frame.loc[[name], "probabilities"]), item.probabilities, rtol=2**-11)


def test_counts_and_sizes(store, encoded):
    positions = sum(len(example.token_ids) - example.start for example in encoded)
    assert store.positions == positions
    assert store.bytes_per_position == Path(store.path).stat().st_size / positions
    assert store.all_probabilities().shape == (positions, 5)


def test_bytes_per_position_grow_with_k(model, encoded, tmp_path):
    items = list(extract_top_k(model, encoded, 100))
    store = KnowledgeStore(write(tmp_path, items, Origin("t", "t", "d", 100)))
    sizes = bytes_by_k(store, (1, 5, 20, 100))
    assert sizes == sorted(sizes)
    assert sizes[3] > sizes[0] + 99 * 2  # each entry takes at least a half-precision number
    assert sizes[3] == pytest.approx(store.bytes_per_position, rel=0.05)


def test_a_store_is_not_measured_above_its_k(store):
    with pytest.raises(ValueError, match=r"k = 6, but .* holds the top 5"):
        bytes_by_k(store, (1, 6))


def test_truncation_adds_the_removed_mass_to_the_residual():
    ids, probabilities = np.array([[7, 8, 9], [1, 2, 3]]), np.array([[0.5, 0.25, 0.125], [0.75, 0.125, 0.0625]])
    rest, none = np.array([0.125, 0.0625]), np.zeros((2, 0))
    short = stores._truncate(TopK("e", np.array([4, 5]), ids, probabilities, rest, none), 1)
    assert short.residual.tolist() == [0.5, 0.25]
    assert (short.token_ids.tolist(), short.probabilities.tolist()) == ([[7], [1]], [[0.5], [0.75]])


# -- a store of items by hand --------------------------------------------------------------------------------------

SMALL = Origin("t", "v", "d", 2)


def made(name, length, start=0, normalisers=0):
    p = np.array([[0.5, 0.25]])
    ids = 10 * np.arange(length)[:, None] + np.array([[1, 2]])
    position = np.arange(start, start + length)
    return TopK(name, position, ids, p.repeat(length, 0), np.full(length, 0.25), np.ones((length, normalisers)))


def row_groups(folder):
    data = pq.ParquetFile(folder / "knowledge.parquet").metadata
    return [data.row_group(i).num_rows for i in range(data.num_row_groups)]


def test_a_row_group_ends_with_the_example_that_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "ROW_GROUP_SIZE", 4)
    lengths = [2, 1, 1, 3, 1, 3, 2, 1]
    folder = write(tmp_path, [made(str(i), length) for i, length in enumerate(lengths)], SMALL)
    assert row_groups(folder) == [4, 4, 5, 1]
    assert [len(found.position) for found in KnowledgeStore(folder)] == lengths


def test_examples_are_converted_a_few_at_a_time_into_one_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "EXAMPLES_PER_TABLE", 3)
    converted, table = [], stores._table

    def counting(group, schema):
        converted.append(len(group))
        return table(group, schema)

    monkeypatch.setattr(stores, "_table", counting)
    folder = write(tmp_path, [made(str(i), 1) for i in range(7)], SMALL)
    assert converted == [3, 3, 1]
    assert row_groups(folder) == [7]
    assert [found.example_id for found in KnowledgeStore(folder)] == list("0123456")


def test_columns_have_the_types_and_encodings_that_were_measured(tmp_path):
    folder = write(tmp_path, [made("e", 3, normalisers=2)], Origin("t", "v", "d", 2, (1.0, 2.0)))
    file = pq.ParquetFile(folder / "knowledge.parquet")
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {
        "example_id": "string",
        "position": "int32",
        "token_ids": "fixed_size_list<element: int32>[2]",
        "probabilities": "fixed_size_list<element: float>[2]",
        "residual": "float",
        "log_normalisers": "fixed_size_list<element: float>[2]",
    }
    chunks = [file.metadata.row_group(0).column(i) for i in range(6)]
    assert {chunk.compression for chunk in chunks} == {"BROTLI"}
    encodings = {chunk.path_in_schema.partition(".")[0]: set(chunk.encodings) - {"RLE"} for chunk in chunks}
    assert "RLE_DICTIONARY" in encodings.pop("example_id")
    assert encodings == {
        "position": {"DELTA_BINARY_PACKED"},
        "token_ids": {"PLAIN"},
        "probabilities": {"BYTE_STREAM_SPLIT"},
        "residual": {"BYTE_STREAM_SPLIT"},
        "log_normalisers": {"BYTE_STREAM_SPLIT"},
    }


def test_examples_without_positions_leave_no_rows(tmp_path):
    assert len(KnowledgeStore(write(tmp_path / "all", [made("empty", 0)], SMALL))) == 0
    store = KnowledgeStore(write(tmp_path / "some", [made("empty", 0), made("e", 2)], SMALL))
    assert ("empty" in store, "e" in store, len(store)) == (False, True, 1)


@pytest.mark.parametrize("name", ["token_ids", "position"])
def test_a_number_too_large_for_the_store_is_refused_and_not_wrapped(tmp_path, name):
    given = made("e", 1)
    largest, beyond = (replace(given, **{name: np.full_like(getattr(given, name), n)}) for n in (2**31 - 1, 2**31))
    found = KnowledgeStore(write(tmp_path / "largest", [largest], SMALL))["e"]
    np.testing.assert_array_equal(getattr(found, name), getattr(largest, name))
    with pytest.raises(pa.ArrowInvalid, match="2147483648"):
        write(tmp_path / "beyond", [beyond], SMALL)


def test_names_are_kept_to_the_last_character(tmp_path):
    store = KnowledgeStore(write(tmp_path, [made("a\x00", 1), made("a", 2)], SMALL))
    assert [found.example_id for found in store] == ["a\x00", "a"]


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_a_folder_may_end_with_a_slash(tmp_path, end):
    folder = tmp_path / "X"
    folder.mkdir()
    write_store(f"{folder}{end}", [made("e", 1)], SMALL)
    store = KnowledgeStore(f"{folder}{end}")
    assert store.path == f"{folder}/knowledge.parquet"
    assert store.bytes_per_position == Path(store.path).stat().st_size


def test_a_store_of_several_processes_is_read_whole(tmp_path):
    for rank, names in enumerate(("ab", "c")):
        write_store(tmp_path, [made(name, 2, start=rank) for name in names], SMALL, rank, 2)
    store = KnowledgeStore(tmp_path, SMALL)
    assert [Path(path).name for path in store.paths] == [f"knowledge-0000{i}-of-00002.parquet" for i in (1, 2)]
    assert {found.example_id: found.position.tolist() for found in store} == {"a": [0, 1], "b": [0, 1], "c": [1, 2]}
    assert store.bytes_per_position == sum(Path(path).stat().st_size for path in store.paths) / 6
    Path(store.paths[1]).unlink()
    with pytest.raises(StoreError, match=r"knowledge-00002-of-00002\.parquet is missing; extract") as error:
        KnowledgeStore(tmp_path)
    assert str(error.value).startswith(f"knowledge store {tmp_path}: ")


def test_a_folder_that_is_not_there_is_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"knowledge store .*nowhere: .*; extract the knowledge again"):
        KnowledgeStore(tmp_path / "nowhere")


def test_parts_of_different_origin_are_refused_naming_the_file(tmp_path):
    write_store(tmp_path, [made("a", 1)], SMALL, 0, 2)
    write_store(tmp_path, [made("b", 1)], Origin("t", "v2", "d2", 2), 1, 2)
    with pytest.raises(StoreError, match=r"knowledge-00002-of-00002\.parquet: ") as error:
        KnowledgeStore(tmp_path)
    assert "its tokenizer is v2, expected v, its data is d2, expected d; extract" in str(error.value)


@pytest.mark.parametrize("names", ["aba", "aab"], ids=["apart", "in a row"])
def test_an_example_may_go_on_in_the_next_row_group_but_not_later(tmp_path, monkeypatch, names):
    monkeypatch.setattr(stores, "ROW_GROUP_SIZE", 1)
    folder = write(tmp_path, [made(name, 1, start) for start, name in enumerate(names)], SMALL)
    if names == "aba":
        with pytest.raises(StoreError, match="example 'a' occurs twice"):
            len(KnowledgeStore(folder))
    else:
        assert [found.position.tolist() for found in KnowledgeStore(folder)] == [[0, 1], [2]]


def test_a_store_of_another_version_is_refused_and_not_misread(tmp_path):
    table = pq.read_table(write(tmp_path, [made("e", 1)], SMALL) / "knowledge.parquet")
    older = {"first": '{"teacher": "t", "tokenizer": "v", "data": "d", "k": 2, "format": 1, "bits": 16}'}
    pq.write_table(table.replace_schema_metadata(older), tmp_path / "knowledge.parquet")
    with pytest.raises(StoreError, match="its format is 1, expected 2; extract"):
        KnowledgeStore(tmp_path, SMALL)
    assert KnowledgeStore(tmp_path).origin == Origin("t", "v", "d", 2, (), 1)


def test_an_open_store_takes_no_more_temporary_room_than_its_numbers(tmp_path, monkeypatch):
    folder = write(tmp_path / "store", [made("e", 3, normalisers=1)], Origin("t", "v", "d", 2, (1.0,)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    store = KnowledgeStore(folder)
    assert not list(scratch.iterdir())  # nobody has looked into it yet
    assert store.all_probabilities().shape == (store.positions, 2)
    [unpacked] = scratch.iterdir()
    assert unpacked.name.startswith("first-store-")
    assert sum(file.stat().st_size for file in unpacked.iterdir()) == 3 * 4 * (1 + 2 + 2 + 1 + 1)
    assert type(store["e"].position) is np.ndarray
    del store
    assert not list(scratch.iterdir())


def test_a_store_opens_where_disk_space_cannot_be_preallocated(tmp_path, monkeypatch):
    folder = write(tmp_path, [made("e", 3)], SMALL)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    found = KnowledgeStore(folder)["e"]
    assert found.token_ids.tolist() == [[1, 2], [11, 12], [21, 22]]


def test_disk_space_is_preallocated_where_it_can_be(tmp_path, monkeypatch):
    folder, asked = write(tmp_path, [made("e", 3)], SMALL), []

    def preallocate(file, start, length):
        asked.append((start, length))
        os.truncate(file, start + length)

    monkeypatch.setattr(os, "posix_fallocate", preallocate, raising=False)
    assert "e" in KnowledgeStore(folder)
    assert asked == [(0, 12), (0, 24), (0, 24), (0, 12)]


def test_numbers_have_their_types_even_without_any(tmp_path):
    found = KnowledgeStore(write(tmp_path, [made("e", 3)], SMALL))["e"]
    kinds = {name: (array.dtype, array.shape) for name, array in vars(found).items() if name != "example_id"}
    assert kinds == {
        "position": (np.int32, (3,)),
        "token_ids": (np.int32, (3, 2)),
        "probabilities": (np.float32, (3, 2)),
        "residual": (np.float32, (3,)),
        "log_normalisers": (np.float32, (3, 0)),
    }


def test_half_precision_rounds_ties_to_even_at_any_magnitude():
    # 11 significant bits: neighbours of 1 are 2^-10 apart, so 1 + 2^-11 lies in the middle
    step = 2.0**-10
    given = np.array([1 + step / 2, 1 + 3 * step / 2, 1 + step / 2 + 2**-23, 1 + 3 * step / 2 - 2**-23])
    expected = np.array([1, 1 + 2 * step, 1 + step, 1 + step])
    for scale in (1.0, 2.0**-100):
        found = stores.half_precision(given * scale)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected * scale)


def test_sizes_for_smaller_k_are_those_of_stores_written_with_them(tmp_path):
    store = KnowledgeStore(write(tmp_path / "two", [made("e", 3), made("f", 1)], SMALL))
    one = Origin("t", "v", "d", 1)
    short = [stores._truncate(found, 1) for found in store]
    size = (write(tmp_path / "one", short, one) / "knowledge.parquet").stat().st_size
    assert bytes_by_k(store, (1,)) == [size / 4]
    assert bytes_by_k(store, (2,)) == [store.bytes_per_position]


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        ([Encoded("e", [7] * 5, 2), Encoded("f", [7] * 2, 1), Encoded("g", [7] * 2, 1)], "example 'g' is incomplete"),
        ([Encoded("e", [7] * 6, 2), Encoded("f", [7] * 2, 1)], "example 'e' is incomplete"),
        ([Encoded("e", [7] * 5, 1), Encoded("f", [7] * 2, 1)], "example 'e' is incomplete"),
        ([Encoded("e", [7] * 5, 2)], "2 examples, expected 1"),
    ],
)
def test_a_store_must_have_every_response_position(tmp_path, encoded, complaint):
    store = KnowledgeStore(write(tmp_path, [made("e", 3, 2), made("f", 1, 1)], SMALL))
    check_complete(store, [Encoded("e", [7] * 5, 2), Encoded("f", [7] * 2, 1)])
    with pytest.raises(StoreError, match=f"{complaint}; extract the knowledge again"):
        check_complete(store, encoded)


# -- arguments and temperatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{"k": 0}, {"k": 5, "temperatures": (0.0,)}], ids=["k", "temperature"])
def test_wrong_arguments_are_refused_when_extraction_is_called(model, encoded, bad):
    with pytest.raises(ValueError, match=r"k = 0|above 0"):
        extract_top_k(model, encoded, **bad)


def test_a_temperature_of_the_knowledge_uses_its_normalisers(model, encoded):
    stored = (2.0, 1.0)
    item = next(extract_top_k(model, encoded, 5, temperatures=stored))
    expected = temper(item.probabilities, 2.0, item.log_normalisers[:, 1], item.log_normalisers[:, 0])
    np.testing.assert_array_equal(item.at_temperature(2.0, stored), expected)
    np.testing.assert_allclose(item.at_temperature(1.0, stored), item.probabilities, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "stored", "missing"), [(3.0, (1.0, 2.0), "3.0"), (2.0, (2.0,), "1.0")])
def test_a_temperature_that_is_not_stored_is_reported(temperature, stored, missing):
    item = TopK("e", np.array([4]), np.array([[7]]), np.array([[0.5]]), np.array([0.5]), np.zeros((1, len(stored))))
    complaint = rf"at temperatures {re.escape(str(list(stored)))}, not at {missing}; .*knowledge\.temperatures"
    with pytest.raises(StoreError, match=complaint) as error:
        item.at_temperature(temperature, stored)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("probabilities", "temperature", "complaint"),
    [([[0.5]], 0.0, "above 0 and finite"), ([[0.5], [-0.1]], 2.0, "row 1: .*negative"), ([[0.9, 0.2]], 2.0, "row 0")],
)
def test_invalid_temperatures_and_probabilities_are_refused(probabilities, temperature, complaint):
    rows = np.array(probabilities)
    with pytest.raises(ValueError, match=complaint):
        temper(rows, temperature, np.zeros(len(rows)), np.zeros(len(rows)))
