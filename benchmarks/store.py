"""The store's bytes per position and its speed, on the microworld's knowledge and on real text with 32,000 tokens.

The real text is the docstrings of the installed transformers package, or the Alpaca file in `FIRST_REAL_DATA`.
Its teacher predicts from smoothed counts of what followed the last two tokens, so that its top 5 are plausible and
all different.
"""

import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.measure import Work
from firstlib.knowledge import KnowledgeStore, Origin, TopK, extract_top_k, write_store
from firstlib.models.loading import load_base, load_tokenizer
from firstlib.settings.schema import Model
from firstlib.tasks import microworld
from firstlib.tasks.encoding import encode

K, VOCABULARY, POSITIONS, BATCH, EPOCHS = 5, 32_000, 200_000, 32, 3
SOURCE = "alpaca" if os.environ.get("FIRST_REAL_DATA") else "docstrings"
CACHE = Path(tempfile.gettempdir()) / f"first-bench-{SOURCE}.npz"  # the first process writes it, the others read it
ORIGIN = Origin(teacher="bench", tokenizer="bench", data="bench", k=K)


def documents() -> list[str]:
    """Real English texts, one per document."""
    if real := os.environ.get("FIRST_REAL_DATA"):
        rows = json.loads((Path(real) / "alpaca" / "alpaca_9k.json").read_text())
        return [f"{row['instruction']}\n{row['input']}\n{row['output']}" for row in rows]
    files = sorted(Path(transformers.__file__).parent.rglob("*.py"))
    found = (text for file in files for text in re.findall(r'"""(.*?)"""', file.read_text(), re.DOTALL))
    return [text for text in dict.fromkeys(found) if len(text) > 200]


@cache
def tokens() -> list[list[int]]:
    """Each document's token ids in a byte-pair vocabulary of 32,000, trained on the documents."""
    tokenizer, texts = Tokenizer(models.BPE()), documents()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False))
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def counts() -> tuple[dict[int, Counter[int]], dict[tuple[int, int], Counter[int]], Counter[int]]:
    """Counts of what followed each token and each pair of tokens, and of each token."""
    one: dict[int, Counter[int]] = defaultdict(Counter)
    two: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    every: Counter[int] = Counter()
    for ids in tokens():
        every.update(ids)
        for a, b in pairwise(ids):
            one[a][b] += 1
        for a, b, c in zip(ids, ids[1:], ids[2:], strict=False):
            two[a, b][c] += 1
    return one, two, every


def real() -> list[TopK]:
    """The counting teacher's top 5 at the first 200,000 positions."""
    if not CACHE.is_file():
        _write_real()
    with np.load(CACHE) as found:
        document, ids, q = found["document"], found["ids"], found["q"]
    ends = np.flatnonzero(np.diff(document, append=-1)) + 1
    return [
        TopK(f"text-{document[a]:05d}", np.arange(2, 2 + b - a), ids[a:b], q[a:b, :K], q[a:b, K], np.zeros((b - a, 0)))
        for a, b in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _write_real() -> None:
    (one, two, every), rng = counts(), np.random.default_rng(0)
    common, total = every.most_common(40), every.total()
    rows: list[tuple[int, list[int], list[float]]] = []
    for number, ids in enumerate(tokens()):
        for a, b in pairwise(ids[:-1]):
            rows.append((number, *_top(two[a, b], one[b], common, total)))
        if len(rows) >= POSITIONS:
            break
    q = np.array([row[2] for row in rows]) * np.exp(0.3 * rng.normal(size=(len(rows), K + 1)))  # breaks ties
    ids = np.array([row[1] for row in rows], dtype=np.int32)
    order = (-q[:, :K]).argsort(1)
    q[:, :K], ids = np.take_along_axis(q[:, :K], order, 1), np.take_along_axis(ids, order, 1)
    np.savez(CACHE, document=[row[0] for row in rows], ids=ids, q=q / q.sum(1, keepdims=True))


def _top(
    two: Counter[int], one: Counter[int], common: list[tuple[int, int]], total: int
) -> tuple[list[int], list[float]]:
    """Witten-Bell smoothing: the more different followers a context has, the more mass shorter contexts get."""
    q: dict[int, float] = defaultdict(float)
    left = 1.0
    for followers in (two, one):
        n, kinds = followers.total(), len(followers)
        for token, count in followers.most_common(40):
            q[token] += left * count / (n + kinds)
        left *= kinds / (n + kinds) if n else 1.0
    for token, count in common:
        q[token] += left * count / total
    top = sorted(q, key=lambda token: -q[token])[:K]
    values = [q[token] for token in top]
    return top, [*values, max(1 - sum(values), 1e-6)]


@cache
def microworld_knowledge() -> list[TopK]:
    """The microworld's base teacher on 2,000 CSQA-like and 2,000 Alpaca-like training questions."""
    model = Model(base="data/microworld/teacher")
    tokenizer, world = load_tokenizer(model), microworld.make_world()
    questions = [q for task in ("csqa", "alpaca") for q in microworld.ask(world, task, "train", 2000, 0)]
    return list(extract_top_k(load_base(model).eval(), [encode(tokenizer, q.example()) for q in questions], K))


def ours(items: list[TopK]) -> Work:
    """Writes our store, opens it, and reads it in shuffled batches."""
    folder, positions = tempfile.mkdtemp(), sum(len(item.position) for item in items)
    write_store(tempfile.mkdtemp(), items[:2], ORIGIN)  # a process's first file also loads the codecs

    def work() -> dict[str, float]:
        started = perf_counter()
        write_store(folder, iter(items), ORIGIN)
        written = perf_counter()
        store = KnowledgeStore(folder, ORIGIN)
        train_on(items, lambda name: _targets(store[name]))
        return speeds(store.size, positions, written - started, perf_counter() - written)

    return work


def _targets(found: TopK) -> tuple[np.ndarray, np.ndarray]:
    return found.token_ids, found.probabilities


def train_on(items: list[TopK], knowledge: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> None:
    """Reads token ids and probabilities of 32 examples at a time, reshuffled each epoch, as training does."""
    rng, names = np.random.default_rng(0), [item.example_id for item in items]
    for _ in range(EPOCHS):
        order = rng.permutation(names).tolist()
        for start in range(0, len(order), BATCH):
            found = [knowledge(name) for name in order[start : start + BATCH]]
            np.concatenate([ids for ids, _ in found]), np.concatenate([p for _, p in found])


def speeds(size: int, positions: int, writing: float, reading: float) -> dict[str, float]:
    """The figures of a storage format."""
    return {"bytes": size / positions, "written": positions / writing, "read": EPOCHS * positions / reading}


def lines(items: list[TopK]) -> Work:
    """The authors' format: one JSON line per example, one dictionary of log probabilities per position."""
    file, positions = Path(tempfile.mkdtemp()) / "knowledge.jsonl", sum(len(item.position) for item in items)

    def work() -> dict[str, float]:
        started = perf_counter()
        with file.open("w") as out:
            for item in items:
                logs = np.log(item.probabilities).tolist()
                top = [
                    dict(zip(map(str, ids), row, strict=True))
                    for ids, row in zip(item.token_ids.tolist(), logs, strict=True)
                ]
                out.write(json.dumps({"id": item.example_id, "top_log_probs": top}) + "\n")
        written = perf_counter()
        held = {}
        with file.open() as source:
            for line in source:
                row = json.loads(line)
                top = row["top_log_probs"]
                ids, logs = [list(map(int, row)) for row in top], [list(row.values()) for row in top]
                held[row["id"]] = np.array(ids), np.exp(logs)
        train_on(items, held.__getitem__)
        return speeds(file.stat().st_size, positions, written - started, perf_counter() - written)

    return work


def nested(items: list[TopK]) -> Work:
    """What pyarrow's defaults give: nested lists, 64-bit ids and floats."""
    file, positions = Path(tempfile.mkdtemp()) / "knowledge.parquet", sum(len(item.position) for item in items)

    def work() -> dict[str, float]:
        started = perf_counter()
        columns = {
            "id": [item.example_id for item in items],
            "token_ids": [item.token_ids.tolist() for item in items],
            "probabilities": [item.probabilities.tolist() for item in items],
            "residual": [item.residual.tolist() for item in items],
        }
        pq.write_table(pa.table(columns), file)
        written = perf_counter()
        rows = pq.read_table(file).to_pylist()
        held = {row["id"]: (np.array(row["token_ids"]), np.array(row["probabilities"])) for row in rows}
        train_on(items, held.__getitem__)
        return speeds(file.stat().st_size, positions, written - started, perf_counter() - written)

    return work


def parity() -> dict[str, float]:
    """Checks that the store returns what was written, to half precision, and that other readers see the same."""
    import duckdb
    import pandas as pd

    items, folder = real()[:200], tempfile.mkdtemp()
    write_store(folder, iter(items), ORIGIN)
    store, frame = KnowledgeStore(folder), pd.read_parquet(folder)
    for item in items:
        found = store[item.example_id]
        assert (found.token_ids == item.token_ids).all()
        np.testing.assert_allclose(found.probabilities, item.probabilities, rtol=2**-11)
        np.testing.assert_allclose(found.residual, item.residual, rtol=2**-11)
    ids = np.concatenate([item.token_ids for item in items])
    assert (np.stack(frame["token_ids"]) == ids).all()
    rows = duckdb.sql(f"select token_ids, probabilities[1] from '{store.path}'").fetchall()
    assert [list(row[0]) for row in rows] == ids.tolist()
    return {"positions": float(len(rows))}


VARIANTS = {
    f"{name}, {source}": (lambda make=make, items=items: make(items()))
    for source, items in (("text", real), ("microworld", microworld_knowledge))
    for name, make in (("ours", ours), ("json", lines), ("nested", nested))
}
JSON, NESTED = "JSON lines as the authors' release writes", "pyarrow's defaults, nested lists"
ROWS = [
    (f"{what}, {label}", figure, unit, f"ours, {source}", f"{name}, {source}", peer, goal)
    for source, label in (("text", "real text, 32,000 tokens"), ("microworld", "microworld"))
    for what, figure, unit, goal in (
        ("size", "bytes", "bytes/position", "at most 16"),
        ("writing", "written", "positions/s", "at least 300,000"),
        ("reading into the shuffled batches of three epochs", "read", "positions/s", "at least 1,000,000"),
    )
    for name, peer in (("json", JSON), ("nested", NESTED))
]
