"""Tables: numbers by hand, and the shapes that the notebooks show."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from firstlib.evaluation import scores
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Row
from firstlib.experiment.experiment import Experiment
from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store
from firstlib.models import loading
from firstlib.results import tables
from firstlib.runtime.paths import PROJECT
from firstlib.settings.schema import METHODS


@pytest.fixture(scope="module")
def experiment(base_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("tables")
    content = {
        "columns": [{"setting": "in-domain", "train": "csqa", "test": ["csqa", "obqa"]}],
        "sizes": {"train": 16, "validation": 20, "test": 16},
        "teacher": {"base": str(base_folder)},
        "student": {"base": str(base_folder)},
        "training": {"epochs": 1, "global_batch_size": 8, "teacher_learning_rate": 1e-2, "student_learning_rate": 1e-2},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(content))
    return Experiment(str(home / "tiny.yaml"), run_folder=str(home))


def answers(probabilities, answer, posterior=None):
    """Predictions over candidates 10, 11, ... whose probabilities are the model's top too."""
    p = np.array(probabilities, dtype=float)
    ids = np.tile(10 + np.arange(p.shape[1]), (len(p), 1))
    names = np.array([f"q{i}" for i in range(len(p))])
    truth = np.full(p.shape, np.nan) if posterior is None else np.array(posterior)
    return Predictions(names, ids, p, np.array(answer), ids, p, truth)


# -- results and the paper ---------------------------------------------------------------------------------------


def test_results_are_methods_by_columns_in_percent():
    columns = [("in-domain", "csqa"), ("in-domain", "boolq"), ("out-of-domain", "csqa"), ("out-of-domain", "obqa")]
    rows = [
        Row(method, setting, dataset, 9, 0.8 - i / 100 - j / 1000, 0.1, 0.7, 1.0, 0.5)
        for j, (setting, dataset) in enumerate(columns)
        for i, method in reversed(list(enumerate(METHODS)))
    ]
    frame = tables.results(rows)
    assert list(frame.index) == list(METHODS)
    assert list(frame.columns) == [(*column, name) for column in columns for name in ("accuracy", "ece", "trust")]
    assert frame.loc["teacher", ("in-domain", "csqa", "accuracy")] == 80.0
    assert frame.loc["first", ("out-of-domain", "obqa", "accuracy")] == 75.7
    assert frame.loc["first", ("out-of-domain", "obqa", "ece")] == 10.0


def test_the_papers_table_is_the_mean_over_its_three_families():
    frame = tables.paper()
    assert frame.shape == (5, 12)
    assert list(frame.index) == list(METHODS)
    first = frame.loc["first", ("in-domain", "csqa")]
    # (80.8 + 80.3 + 77.2) / 3, (2.9 + 6.3 + 5.0) / 3, (77.9 + 74 + 72.2) / 3
    assert first.to_dict() == {"accuracy": 79.4, "ece": 4.7, "trust": 74.7}
    # (64.4 + 58.3 + 50.0) / 3 and (20.2 + 28.7 + 13.4) / 3
    assert frame.loc["teacher", ("out-of-domain", "obqa", "accuracy")] == 57.6
    assert frame.loc["teacher", ("out-of-domain", "obqa", "ece")] == 20.8


def test_the_papers_two_misprints_stay_as_printed():
    llama = tables.paper("Llama-2 13B->7B").loc["teacher", ("out-of-domain", "obqa")]
    assert llama.to_dict() == {"accuracy": 58.3, "ece": 28.7, "trust": 29.9}  # 29.6 by its own identity
    open_llama = tables.paper("OpenLlama 13B->7B").loc["label-smoothing", ("in-domain", "csqa")]
    assert open_llama.to_dict() == {"accuracy": 74.5, "ece": 9.6, "trust": 65.9}  # 64.9


def test_every_other_row_of_the_paper_satisfies_its_identity():
    frame = pd.read_csv(PROJECT / "data" / "paper_table1.csv")
    assert len(frame) == 60
    off = (frame["acc"] - frame["ece"] - frame["trust"]).abs() > 0.051
    assert off.sum() == 2


def test_ours_and_the_papers_table_have_one_shape(experiment):
    ours, papers = tables.results(experiment.rows()), tables.paper()
    assert ours.index.equals(papers.index)
    assert ours.columns.names == papers.columns.names
    assert set(ours["in-domain"]["csqa"].columns) == set(papers["in-domain"]["csqa"].columns)


# -- by hand -----------------------------------------------------------------------------------------------------


def test_an_outcome_by_hand():
    found = answers([[0.4, 0.1], [0.07, 0.13]], [0, 0])
    # candidates: confidence 0.8 right, 0.65 wrong, in two bins; vocabulary: 0.4 right, 0.13 wrong
    assert tables.outcome(found) == {
        "n": 2, "accuracy": 50.0, "confidence": 72.5, "ECE": 42.5, "ECE (vocabulary)": 36.5,
    }  # fmt: skip


def test_divergence_from_the_truth_by_hand():
    found = answers([[0.4, 0.1], [0.2, 0.2]], [0, 0], [[0.8, 0.2], [1.0, 0.0]])
    assert tables.divergence_from_truth(found) == pytest.approx((0 + np.log(2)) / 2)


def test_divergence_from_an_unknown_truth_is_unknown():
    assert np.isnan(tables.divergence_from_truth(answers([[0.4, 0.1]], [0])))


def test_models_are_compared_a_line_each():
    found = answers([[0.4, 0.1]], [0], [[0.8, 0.2]])
    frame = tables.compare({"one": found, "two": found})
    assert list(frame.index) == ["one", "two"]
    assert frame.loc["one", "KL from truth"] == 0
    assert "KL from truth" not in tables.compare({"one": found}, posterior=False)


def test_coverage_by_hand():
    frame = tables.coverage({"csqa": np.array([[0.5, 0.25, 0.125], [0.75, 0.25, 0.0]])}, ks=(1, 2, 3))
    assert frame.loc["csqa"].to_dict() == {"top 1": 62.5, "top 2": 87.5, "top 3": 93.75}


def test_the_papers_storage_example_by_hand():
    frame = tables.full_size(measured=20.0)
    assert frame.loc["top 5"].to_dict() == {"bytes a position": 60, "gigabytes": 12.3}
    assert frame.loc["full distribution", "gigabytes"] == 122_880
    assert frame.loc["top 5, at the bytes measured here", "gigabytes"] == 4.1  # 20 x 204.8 million
    assert len(tables.full_size()) == 4


def test_a_mapped_position_by_hand():
    frame = tables.mapped([[1.0, 0, 0, 0, 0]], (1.0, 0.3))
    assert list(frame.index) == ["stored", "c = 1", "c = 0.3"]
    assert list(frame["top 1"]) == [1.0, 0.405, 0.875]
    assert list(frame.loc["c = 1"][1:]) == [0.149] * 4


def test_hopeless_questions_by_hand():
    frame = tables.hopeless({"first": np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])})
    assert frame.loc["first"].to_dict() == {"questions": 2, "mean confidence": 70.0, "honest": 33.3}


def test_a_stored_example_is_shown_position_by_position(base):
    tokenizer = loading.load_tokenizer(base)
    ids = tokenizer("Q: Where")["input_ids"]
    last = len(ids) - 1
    item = TopK(
        "e",
        np.array([last]),
        np.array([[ids[last], ids[1]]]),
        np.array([[0.75, 0.2]]),
        np.array([0.05]),
        np.zeros((1, 0)),
    )
    frame = tables.stored(item, tokenizer, ids)
    word, other = (repr(tokenizer.decode([i])) for i in (ids[last], ids[1]))
    assert frame.loc[last].to_dict() == {
        "right token": word, "top 1": f"{word} 0.750", "top 2": f"{other} 0.200", "residual": "0.0500",
    }  # fmt: skip


def test_stores_by_hand(tmp_path):
    item = TopK(
        "e",
        np.array([3, 4]),
        np.array([[7, 8], [8, 7]]),
        np.array([[0.5, 0.25], [0.75, 0.25]]),
        np.zeros(2),
        np.zeros((2, 0)),
    )
    write_store(tmp_path, [item], Origin("t", "t", "d", 2))
    store = KnowledgeStore(tmp_path)
    line = tables.stores({"csqa": store}).loc["csqa"]
    assert (line["examples"], line["positions"]) == (1, 2)
    assert (line["mean mass kept, %"], line["least mass kept, %"]) == (87.5, 75.0)
    assert line["bytes a position"] == round(store.size / 2, 1)


# -- of an experiment --------------------------------------------------------------------------------------------


def test_before_and_after_fine_tuning(experiment):
    frame = tables.before_after(experiment)
    assert list(frame["teacher"]) == ["base", "fine-tuned"] * 2
    assert list(frame["tested on"]) == ["csqa", "csqa", "obqa", "obqa"]
    before, after = tables.before_after_pairs(experiment)
    assert list(before) == list(after) == ["csqa", "csqa to obqa"]
    for row, pair in zip(frame.itertuples(), (before["csqa"], after["csqa"]), strict=False):
        assert (row.accuracy, row.ECE) == (round(100 * pair[0], 1), round(100 * pair[1], 1))


def test_searches_say_what_the_coefficient_does(experiment):
    line = tables.searches(experiment).loc["csqa"]
    best = experiment.search("csqa").best
    assert line["coefficient"] == best
    assert line["at the edge"] == experiment.search("csqa").at_the_edge
    for split in ("validation", "test"):
        mapped = experiment.target_ece("csqa", split, "temperature", best)
        raw = experiment.target_ece("csqa", split, "none", 1.0)
        assert line[f"{split}, recalibrated"] == round(100 * mapped, 2)
        assert line[f"{split}, as stored"] == round(100 * raw, 2)


def test_maps_are_all_tried(experiment):
    frame = tables.maps(experiment, "csqa")
    assert list(frame.index) == ["none", "label-smoothing", "temperature", "logit-temperature"]
    assert list(frame["coefficient"])[:2] == ["", "0.1"]
    assert frame.loc["temperature", "coefficient"] == f"{experiment.search('csqa').best:g}"


def test_side_effects_of_smoothing_are_counted(experiment):
    line = tables.smoothing_side_effects(experiment).loc["csqa"]
    stored = experiment.knowledge("csqa").all_probabilities().astype(float)
    taken = np.minimum(stored[:, 0], 0.1)
    assert line["positions"] == len(stored)
    assert line["first rank swapped"] == (stored[:, 1] + taken / 4 > stored[:, 0] - taken).sum()
    assert line["less than d to move"] == (stored[:, 0] < 0.1).sum()


def test_uncertainty_has_a_line_a_method_and_column(experiment):
    frame = tables.uncertainty(experiment)
    assert list(frame.columns) == ["setting", "dataset", "method", "ECE", "95 % interval", "floor"]
    assert len(frame) == 2 * len(METHODS)
    shown = tables.results(experiment.rows())
    for row in frame.itertuples():
        assert shown.loc[row.method, (row.setting, row.dataset, "ece")] == pytest.approx(row.ECE, abs=0.051)


def test_variants_are_told_over_their_seeds(tmp_path, monkeypatch):
    for seed, right in enumerate((0.60, 0.64)):
        row = {"group": "tuning", "name": "lora", "n": 50, "accuracy": right, "ece": 0.1, "trust": 0.5}
        (tmp_path / f"variants-seed-{seed}.json").write_text(json.dumps({"seed": seed, "rows": [row]}))
    monkeypatch.setattr(scores, "KEPT", tmp_path)
    line = {"seeds": 2, "n of each": 50, "accuracy": "62.0 ± 2.8", "ECE": "10.0 ± 0.0", "Trust": "50.0 ± 0.0"}
    assert tables.variants("tuning").loc["lora"].to_dict() == line
    assert len(tables.variants("reading")) == 0
