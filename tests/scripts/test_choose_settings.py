"""The search for the microworld's regime follows docs/protocol.md: its grid, its distance, its eligible settings."""

import json

import pytest

from scripts import choose_settings
from scripts.choose_settings import (
    COLUMNS,
    FIRST_SEED,
    METHODS,
    QUESTIONS,
    SEEDS,
    Setting,
    distances,
    grid,
    paper_eces,
    ranked,
)

# The smallest and the largest ECE of the paper's three families, read off its Table 1 by hand.
RANGES = {
    ("in-domain", "csqa", "teacher"): (10.2, 13.2),
    ("in-domain", "boolq", "teacher"): (6.8, 7.7),
    ("in-domain", "csqa", "fine-tune"): (10.5, 14.0),
    ("in-domain", "boolq", "fine-tune"): (3.6, 8.4),
    ("out-of-domain", "csqa", "fine-tune"): (12.5, 21.6),
    ("out-of-domain", "obqa", "fine-tune"): (16.1, 30.1),
}
PLACES = [(where, test, name) for where, tests in COLUMNS.values() for test in tests for name in METHODS]


def scores(ece, base=0.5, tuned=0.6):
    models = ("teacher", "fine-tune", "base teacher", "base student")
    return {name: {"ece": ece / 100, "accuracy": base if "base" in name else tuned} for name in models}


def finished(settings, ece=lambda setting, task: 10.0, **accuracies):
    """Every cell of these settings, with an ECE in percent that depends on setting and task."""
    return {
        cell: {test: scores(ece(setting, task), **accuracies) for test in COLUMNS[task][1]}
        for setting in settings
        for task in COLUMNS
        for cell in setting.cells(task)
    }


def test_the_papers_ranges_are_those_of_its_table():
    for place, (low, high) in RANGES.items():
        assert (min(paper_eces(*place)), max(paper_eces(*place))) == (pytest.approx(low), pytest.approx(high))
    assert len(PLACES) == 8


def test_a_distance_counts_points_outside_the_ranges():
    middle = {place: sum(paper_eces(*place)) / 3 for place in PLACES}
    assert distances(middle) == (0, pytest.approx(0))
    high = middle | {PLACES[0]: max(paper_eces(*PLACES[0])) + 4}
    assert distances(high)[0] == pytest.approx((4**2 / 8) ** 0.5)


def test_the_grid_holds_no_cell_that_no_setting_can_hold():
    cells = grid()
    assert len(cells) == len(set(cells)) == 38
    assert max(cell.epochs * cell.questions for cell in cells) <= 14_000
    assert {(cell.seed, cell.rate) for cell in cells} == {(100, 1e-3)}


def test_the_first_round_ranks_by_one_seed_and_the_last_by_three():
    setting = Setting(3, 1e-3, (1200, 300, 200))
    done = {cell: scores for cell, scores in finished([setting]).items() if cell.seed == 100}
    assert ranked(done) == []
    assert [one for _, _, one in ranked(done, seeds=FIRST_SEED)] == [setting]


def test_the_search_computes_the_grid_then_the_finalists_then_other_rates(tmp_path, monkeypatch):
    monkeypatch.setattr(choose_settings, "KEPT_CELLS", tmp_path / "settings.json")
    rounds = []

    def compute(cells, jobs):
        rounds.append(list(cells))
        done = choose_settings.kept_cells()
        done |= {cell: {test: scores(11.0) for test in COLUMNS[cell.task][1]} for cell in rounds[-1]}
        choose_settings.write_json(
            choose_settings.KEPT_CELLS, [{"cell": vars(cell), "scores": found} for cell, found in done.items()]
        )

    monkeypatch.setattr(choose_settings, "compute", compute)
    choose_settings.search(jobs=1)
    assert rounds[0] == grid()
    assert {cell.seed for cell in rounds[1]} == set(SEEDS)
    assert len(rounds[1]) < 3 * 38
    assert {cell.rate for cell in rounds[2]} == {5e-4, 2e-3}
    assert len({cell.questions for cell in rounds[2]}) <= 6


def test_the_nearest_eligible_setting_comes_first():
    near, far = Setting(10, 1e-3, (1200, 300, 200)), Setting(3, 1e-3, (1200, 300, 200))
    done = finished([near, far], lambda setting, task: 11.0 if setting is near else 1.0)
    assert [setting for _, _, setting in ranked(done, (1e-3,))] == [near, far]


def test_a_setting_that_takes_too_long_is_not_eligible():
    slow = Setting(6, 1e-3, (2000, 1000, 700))
    assert slow.passes > 20_000
    assert ranked(finished([slow]), (1e-3,)) == []


def test_a_setting_whose_fine_tuning_does_not_raise_accuracy_is_not_eligible():
    setting = Setting(3, 1e-3, (1200, 300, 200))
    assert len(ranked(finished([setting]), (1e-3,))) == 1
    assert ranked(finished([setting], base=0.6, tuned=0.6), (1e-3,)) == []


def test_a_setting_with_a_missing_cell_is_not_ranked():
    setting = Setting(3, 1e-3, (1200, 300, 200))
    done = finished([setting])
    done.pop(next(iter(done)))
    assert ranked(done, (1e-3,)) == []


def test_finished_cells_are_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(choose_settings, "KEPT_CELLS", tmp_path / "settings.json")
    assert choose_settings.kept_cells() == {}
    cell = grid()[0]
    one = {"cell": vars(cell), "scores": {"csqa": {}}}
    (tmp_path / "settings.json").write_text(json.dumps([one]))
    assert choose_settings.kept_cells() == {cell: {"csqa": {}}}
    assert set(QUESTIONS) == set(COLUMNS)
