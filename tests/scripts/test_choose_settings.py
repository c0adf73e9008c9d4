"""The search for the microworld's regime follows docs/protocol.md: its grid, its distance, its eligible settings."""

import pytest

from scripts import choose_settings
from scripts.choose_settings import (
    COLUMNS,
    EPOCHS,
    METHODS,
    QUESTIONS,
    SEEDS,
    Cell,
    Choice,
    distances,
    nearest,
    paper_eces,
    ranked,
    worth_trying,
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


NEAR, FAR = Choice("csqa", 6, 1200), Choice("csqa", 3, 1200)
REST = (Choice("boolq", 3, 300), Choice("alpaca", 3, 200))


def scores(ece, base=0.5, tuned=0.6):
    models = ("teacher", "fine-tune", "base teacher", "base student")
    return {name: {"ece": ece / 100, "accuracy": base if "base" in name else tuned} for name in models}


def finished(choices, ece=lambda choice: 10.0, seeds=SEEDS, **accuracies):
    """Every cell of these choices, with an ECE in percent that depends on the choice."""
    return {
        Cell(choice, seed): {test: scores(ece(choice), **accuracies) for test in COLUMNS[choice.task][1]}
        for choice in choices
        for seed in seeds
    }


def test_the_papers_ranges_are_those_of_its_table():
    for place, (low, high) in RANGES.items():
        assert (min(paper_eces(*place)), max(paper_eces(*place))) == (pytest.approx(low), pytest.approx(high))
    assert len(PLACES) == 8


def test_a_distance_counts_points_outside_the_ranges():
    middle = {place: sum(paper_eces(*place)) / 3 for place in PLACES}
    assert distances(middle) == (0, pytest.approx(0))
    high = middle | {PLACES[0]: max(paper_eces(*PLACES[0])) + 4}
    assert distances(high)[0] == pytest.approx((4**2 / 8) ** 0.5, abs=0.05)


def test_the_grid_holds_no_cell_that_no_setting_can_hold():
    cells = [cell for epochs in EPOCHS for cell in worth_trying(epochs, {})]
    assert len(cells) == len(set(cells)) == 38
    assert max(cell.choice.passes for cell in cells) <= 14_000
    assert {(cell.seed, cell.choice.rate) for cell in cells} == {(100, 1e-3)}


def test_a_training_set_that_fewer_epochs_took_too_far_is_left_out():
    done = finished([FAR], lambda choice: 14.1, seeds=[100])
    assert Cell(NEAR, 100) not in worth_trying(6, done)
    assert Cell(NEAR, 100) in worth_trying(6, finished([FAR], lambda choice: 13.9, seeds=[100]))


def test_the_nearest_eligible_setting_comes_first():
    done = finished([NEAR, FAR, *REST], lambda choice: 1.0 if choice is FAR else 11.0)
    assert [setting for _, _, setting in ranked(done)] == [(NEAR, *REST), (FAR, *REST)]
    assert nearest("csqa", done) == [NEAR, FAR]


def test_a_setting_that_takes_too_long_is_not_eligible():
    slow = (Choice("csqa", 6, 2000), Choice("boolq", 6, 1000), Choice("alpaca", 6, 700))
    assert sum(choice.passes for choice in slow) > 20_000
    assert ranked(finished(slow)) == []


def test_a_setting_whose_fine_tuning_does_not_raise_accuracy_is_not_eligible():
    assert len(ranked(finished([NEAR, *REST]))) == 1
    assert ranked(finished([NEAR, *REST], base=0.6, tuned=0.6)) == []


def test_out_of_domain_fine_tuning_need_not_raise_accuracy():
    done = finished([NEAR, REST[0]]) | finished([REST[1]], base=0.6, tuned=0.5)
    assert len(ranked(done)) == 1


def test_a_setting_without_all_seeds_is_not_ranked():
    done = finished([NEAR, *REST])
    done.pop(Cell(NEAR, 102))
    assert ranked(done) == []


def test_the_search_goes_from_one_seed_to_three_to_other_rates(tmp_path, monkeypatch):
    monkeypatch.setattr(choose_settings, "KEPT_CELLS", tmp_path / "settings.json")
    rounds = []

    def compute(cells, jobs):
        rounds.append(list(cells))
        done = choose_settings.kept_cells()
        eces = {choice: 11.0 if choice.rate == 1e-3 else 50.0 for choice in {cell.choice for cell in rounds[-1]}}
        choose_settings.keep(done | {c: finished([c.choice], eces.get, [c.seed])[c] for c in rounds[-1]})

    monkeypatch.setattr(choose_settings, "compute", compute)
    choose_settings.search(jobs=1)
    *grid, finalists, other_rates, nearer = rounds
    assert {cell.seed for cells in grid for cell in cells} == {100}
    assert {cell.seed for cell in finalists} == set(SEEDS)
    assert len(finalists) == 3 * 2 * len(SEEDS)
    assert {(cell.choice.rate, cell.seed) for cell in other_rates} == {(5e-4, 100), (2e-3, 100)}
    assert nearer == []


def test_finished_cells_are_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(choose_settings, "KEPT_CELLS", tmp_path / "settings.json")
    assert choose_settings.kept_cells() == {}
    done = finished([NEAR])
    choose_settings.keep(done)
    assert choose_settings.kept_cells() == done
    assert set(QUESTIONS) == set(COLUMNS)
