"""Tables: numbers by hand, and the shapes that the notebooks show."""

import io

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from firstlib import Experiment
from firstlib.evaluation.predictions import Predictions
from firstlib.evaluation.scores import Row, Scores
from firstlib.experiment import coefficients
from firstlib.knowledge import KnowledgeStore, Origin, TopK, write_store
from firstlib.metrics import ece
from firstlib.models import loading
from firstlib.results import table, tables
from firstlib.results.comparison import compare
from firstlib.runtime.paths import PROJECT
from firstlib.settings.schema import Measures

METHODS = ("teacher", "fine-tune", "distill", "label-smoothing", "first")


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
    """Predictions over candidates 10, 11, ..., which are also the model's top tokens."""
    p = np.array(probabilities, dtype=float)
    ids = np.tile(10 + np.arange(p.shape[1]), (len(p), 1))
    names = np.array([f"q{i}" for i in range(len(p))])
    truth = np.full(p.shape, np.nan) if posterior is None else np.array(posterior)
    return Predictions(names, ids, p, np.array(answer), ids, p, truth, np.zeros((len(p), 0)))


# -- results and the paper ---------------------------------------------------------------------------------------


def test_results_are_methods_by_columns_in_percent():
    columns = [("in-domain", "csqa"), ("in-domain", "boolq"), ("out-of-domain", "csqa"), ("out-of-domain", "obqa")]
    rows = [
        Row(method, setting, dataset, Scores(9, 0.8 - i / 100 - j / 1000, 0.1, 0.7, 1.0, 0.5, 0.6, 0.2))
        for j, (setting, dataset) in enumerate(columns)
        for i, method in enumerate(METHODS)
    ]
    frame = table.of_rows(rows).frame()
    assert list(frame.index) == list(METHODS)
    assert list(frame.columns) == [(*column, name) for column in columns for name in ("accuracy", "ECE", "Trust")]
    assert frame.loc["teacher", ("in-domain", "csqa", "accuracy")] == 80.0
    assert frame.loc["first", ("out-of-domain", "obqa", "accuracy")] == 75.7
    assert frame.loc["first", ("out-of-domain", "obqa", "ECE")] == 10.0


def test_the_papers_table_is_the_mean_over_its_three_families():
    frame = table.of_paper().frame()
    assert frame.shape == (5, 12)
    assert list(frame.index) == list(METHODS)
    first = frame.loc["first", ("in-domain", "csqa")]
    # (80.8 + 80.3 + 77.2) / 3, (2.9 + 6.3 + 5.0) / 3, (77.9 + 74 + 72.2) / 3
    assert first.to_dict() == {"accuracy": 79.4, "ECE": 4.7, "Trust": 74.7}
    # (64.4 + 58.3 + 50.0) / 3 and (20.2 + 28.7 + 13.4) / 3
    assert frame.loc["teacher", ("out-of-domain", "obqa", "accuracy")] == 57.6
    assert frame.loc["teacher", ("out-of-domain", "obqa", "ECE")] == 20.8


def test_the_papers_two_misprints_stay_as_printed():
    llama = table.of_paper("Llama-2 13B->7B").frame().loc["teacher", ("out-of-domain", "obqa")]
    assert llama.to_dict() == {"accuracy": 58.3, "ECE": 28.7, "Trust": 29.9}  # 29.6 by its own identity
    open_llama = table.of_paper("OpenLlama 13B->7B").frame().loc["label-smoothing", ("in-domain", "csqa")]
    assert open_llama.to_dict() == {"accuracy": 74.5, "ECE": 9.6, "Trust": 65.9}  # 64.9


def test_every_other_row_of_the_paper_satisfies_its_identity():
    frame = pd.read_csv(PROJECT / "data" / "paper_table1.csv")
    assert len(frame) == 60
    off = (frame["acc"] - frame["ece"] - frame["trust"]).abs() > 0.051
    assert off.sum() == 2


def test_what_was_not_computed_has_a_dash():
    measured = {"setting": "in-domain", "n": 9, "accuracy": 0.5, "ece": 0.1, "trust": 0.4, "low": 0.05, "high": 0.2}
    places = [("first", "csqa"), ("distill", "csqa"), ("first", "obqa")]
    found = table.of_intervals([{**measured, "method": method, "dataset": place} for method, place in places])
    assert found.markdown().splitlines()[-1] == "| distill | 50.0 / 10.0 (5.0 to 20.0) / 40.0 | - |"
    assert set(found.frame(spreads=True).loc["distill", ("in-domain", "obqa")]) == {"-"}
    assert found.frame().loc["distill", ("in-domain", "obqa")].isna().all()


def test_rows_of_several_runs_are_not_one_runs_table():
    row = {"setting": "in-domain", "dataset": "csqa", "method": "first", "n": 9, "accuracy": 0.5, "ece": 0.1,
           "trust": 0.4, "low": 0.05, "high": 0.2}  # fmt: skip
    with pytest.raises(ValueError, match="first, in-domain, csqa: is there twice"):
        table.of_intervals([row, row])


def test_our_table_and_the_papers_have_the_same_shape(experiment):
    ours, papers = table.of_rows(experiment.rows()).frame(), table.of_paper().frame()
    assert ours.index.equals(papers.index)
    assert ours.columns.names == papers.columns.names
    assert set(ours["in-domain"]["csqa"].columns) == set(papers["in-domain"]["csqa"].columns)


# -- by hand -----------------------------------------------------------------------------------------------------


def test_an_outcome_by_hand():
    found = answers([[0.4, 0.1], [0.07, 0.13]], [0, 0])
    # candidates: confidence 0.8 right, 0.65 wrong, in two bins; vocabulary: 0.4 right, 0.13 wrong
    assert tables.outcome(found, Measures()) == {
        "n": 2, "accuracy": 50.0, "confidence": 72.5, "ECE": 42.5, "ECE (vocabulary)": 36.5,
    }  # fmt: skip


def test_models_are_compared_with_one_line_each(experiment):
    found = answers([[0.4, 0.1]], [0], [[0.8, 0.2]])
    frame = tables.side_by_side(experiment, {"one": found, "two": found})
    assert list(frame.index) == ["one", "two"]
    assert frame.loc["one", "KL from truth"] == 0
    assert "KL from truth" not in tables.side_by_side(experiment, {"one": answers([[0.4, 0.1]], [0])})


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
    frame = tables.by_coefficient([[1.0, 0, 0, 0, 0]], (1.0, 0.3))
    assert list(frame.index) == ["stored", "c = 1", "c = 0.3"]
    assert list(frame["top 1"]) == [1.0, 0.405, 0.875]
    assert list(frame.loc["c = 1"][1:]) == [0.149] * 4


def test_confidence_without_a_right_choice_by_hand():
    frame = tables.confidence_without_right_choice({"first": np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])})
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
    frame = tables.one_example(item, tokenizer, ids)
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
    line = tables.store_sizes({"csqa": store}).loc["csqa"]
    assert (line["examples"], line["positions"]) == (1, 2)
    assert (line["mean mass kept, %"], line["least mass kept, %"]) == (87.5, 75.0)
    assert line["bytes a position"] == round(store.size / 2, 1)


# -- tables of an experiment -------------------------------------------------------------------------------------


def test_before_and_after_fine_tuning(experiment):
    frame = tables.before_after(experiment)
    assert list(frame["teacher"]) == ["base", "fine-tuned"] * 2
    assert list(frame["tested on"]) == ["csqa", "csqa", "obqa", "obqa"]
    before, after = tables.before_after_pairs(experiment)
    assert list(before) == list(after) == ["csqa", "csqa to obqa"]
    for row, pair in zip(frame.itertuples(), (before["csqa"], after["csqa"]), strict=False):
        assert (row.accuracy, row.ECE) == (round(100 * pair[0], 1), round(100 * pair[1], 1))


def test_searches_show_the_effect_of_the_coefficient(experiment):
    line = tables.searches(experiment).loc["csqa"]
    best = experiment.search("csqa").best
    assert line["coefficient"] == best
    assert line["at the edge"] == experiment.search("csqa").at_the_edge
    for split in ("validation", "test"):
        mapped, raw = (
            coefficients.target_ece(experiment.run, experiment.settings.methods[name], "csqa", split, best)
            for name in ("first", "distill")
        )
        assert line[f"{split}, recalibrated"] == round(100 * mapped, 2)
        assert line[f"{split}, as stored"] == round(100 * raw, 2)


def test_all_maps_are_tried(experiment):
    frame = tables.ece_by_map(experiment, "csqa")
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


def test_uncertainty_has_one_line_per_method_and_column(experiment):
    frame = tables.uncertainty(experiment)
    assert list(frame.columns) == [
        "setting", "dataset", "method", "ECE", "95 % interval", "floor", "less fine-tune's",
    ]  # fmt: skip
    assert len(frame) == 2 * len(METHODS)
    shown = table.of_rows(experiment.rows()).frame()
    for row in frame.itertuples():
        assert shown.loc[row.method, (row.setting, row.dataset, "ECE")] == pytest.approx(row.ECE, abs=0.051)


def test_no_difference_is_shown_for_fine_tuning_itself(experiment):
    frame = tables.uncertainty(experiment).set_index(["dataset", "method"])["less fine-tune's"]
    assert frame["csqa", "fine-tune"] == ""
    assert frame["csqa", "first"].count("to") == 1


def test_every_table_follows_the_settings_measures(experiment):
    """Other bins and the other reading change every number that depends on them."""
    changed = experiment.change(measures__confidence="vocabulary", measures__bins=3)
    measures = changed.settings.measures
    found = changed.predictions("first", "csqa", "csqa")
    expected = ece(found.confidence("vocabulary"), found.correct(), 3)
    assert tables.outcome(found, measures)["ECE"] == round(100 * expected, 1)
    assert "ECE (candidates)" in tables.outcome(found, measures)
    lines = tables.uncertainty(changed).set_index(["dataset", "method"])
    assert lines.loc[("csqa", "first"), "ECE"] == round(100 * expected, 1)
    assert tables.side_by_side(changed, {"first": found}).loc["first", "ECE"] == round(100 * expected, 1)
    base = changed.base_predictions("teacher", "csqa")
    before, _ = tables.before_after_pairs(changed)
    assert before["csqa"][1] == ece(base.confidence("vocabulary"), base.correct(), 3)
    [row] = [row for row in compare(changed) if (row.method, row.dataset) == ("first", "csqa")]
    assert row.ece.estimate == pytest.approx(expected)


def test_methods_are_shown_as_in_the_preset(experiment):
    frame = tables.method_data(experiment)
    assert list(frame.index) == list(METHODS[1:])
    assert frame.loc["first", "coefficient"] == "validation-ece"
    assert frame.loc["fine-tune", "map"] == ""


def test_a_terminal_of_80_columns_shows_the_papers_column_completely(experiment):
    console = Console(width=80, file=io.StringIO())
    console.print(table.of_comparison(compare(experiment)).terminal())
    text = console.file.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    [line] = [line for line in text.splitlines() if line.startswith("label-smoothing") and line.count("/") == 2]
    assert line.rstrip().endswith("77.7 / 9.7 / 68.3")  # (82.0 + 76.6 + 74.5) / 3 and so on, by the CSV


def test_every_format_renders_the_same_table(experiment):
    found = table.of_rows(experiment.rows())
    cell = found.entries["in-domain", "csqa"]["first"]
    assert f"| first | {cell['accuracy'].text} / {cell['ECE'].text} / {cell['Trust'].text} |" in found.markdown()
    assert cell["ECE"].text in found.html()
    assert found.frame().loc["first", ("in-domain", "csqa", "ECE")] == round(cell["ECE"].value, 1)
