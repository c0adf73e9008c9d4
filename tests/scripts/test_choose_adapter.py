"""The search for the adapters' rate follows docs/protocol.md: its grid, its rule, its table."""

from collections import Counter

from scripts import choose_adapter
from scripts.choose_adapter import FULL, RATES, SEEDS, TASKS, Cell, Choice, best, finished, search, table

LOW, HIGH = Choice("lora", 1e-3, 16), Choice("lora", 4e-3, 16)


def scores(of):
    """Every cell of these choices with one accuracy each."""
    return {
        Cell(choice, task, seed): {"accuracy": accuracy, "ece": 0.1}
        for choice, accuracy in of.items()
        for task in TASKS
        for seed in SEEDS
    }


def test_the_most_accurate_rate_is_chosen_and_of_equals_the_smaller():
    assert best("lora", scores({LOW: 0.5, HIGH: 0.6})) == HIGH
    assert best("lora", scores({HIGH: 0.6, LOW: 0.6})) == LOW


def test_other_ranks_and_tunings_and_unfinished_choices_are_not_chosen():
    done = scores({LOW: 0.5, HIGH: 0.6, Choice("lora", 4e-3, 64): 0.9, Choice("qlora", 4e-3, 16): 0.9, FULL: 0.9})
    del done[Cell(HIGH, TASKS[0], SEEDS[0])]
    assert HIGH not in finished(done)
    assert best("lora", done) == LOW


def test_the_grid_has_every_rate_of_both_adapters_then_ranks_at_the_best_rate(monkeypatch):
    asked = []
    monkeypatch.setattr(choose_adapter, "compute", lambda cells, jobs: asked.append(list(cells)))
    monkeypatch.setattr(choose_adapter, "kept_cells", lambda: scores({LOW: 0.5, HIGH: 0.6}))
    search(jobs=1)
    rates, ranks = asked
    assert Counter(cell.choice.tuning for cell in rates) == {"full": 6, "lora": 6 * len(RATES), "qlora": 6 * len(RATES)}
    assert {cell.choice for cell in ranks} == {Choice("lora", 4e-3, 4), Choice("lora", 4e-3, 64)}


def test_the_table_has_percent():
    assert "| lora | 16 | 0.004 | 60.0 / 10.0 | 60.0 / 10.0 | 60.0 |" in table(scores({HIGH: 0.6}))
