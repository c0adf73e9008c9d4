"""The search for the adapters' rate follows docs/protocol.md: its grid, its rule, its table."""

from collections import Counter

from scripts import choose_adapter
from scripts.choose_adapter import FULL, RATES, SEEDS, TASKS, Cell, Choice, best, finished, search, table

LOW, HIGH = Choice("lora", 1e-3, 16), Choice("lora", 4e-3, 16)
OF_TEACHER = Choice("lora", 2e-3, 16, "teacher")


def scores(of):
    """Every cell of these choices with one accuracy each."""
    return {
        Cell(choice, task, seed): {"accuracy": accuracy, "ece": 0.1}
        for choice, accuracy in of.items()
        for task in TASKS[choice.model]
        for seed in SEEDS
    }


def test_the_most_accurate_rate_is_chosen_and_of_equals_the_smaller():
    assert best("lora", scores({LOW: 0.5, HIGH: 0.6})) == HIGH
    assert best("lora", scores({HIGH: 0.6, LOW: 0.6})) == LOW


def test_other_ranks_and_tunings_and_unfinished_choices_are_not_chosen():
    done = scores(
        {LOW: 0.5, HIGH: 0.6, Choice("lora", 4e-3, 64): 0.9, Choice("qlora", 4e-3, 16): 0.9, FULL: 0.9, OF_TEACHER: 0.9}
    )
    del done[Cell(HIGH, "csqa", SEEDS[0])]
    assert HIGH not in finished(done)
    assert best("lora", done) == LOW
    assert best("lora", done, "teacher") == OF_TEACHER


def test_the_grid_has_every_rate_of_both_adapters_then_ranks_at_the_best_rate(monkeypatch):
    asked = []
    monkeypatch.setattr(choose_adapter, "compute", lambda cells, jobs: asked.append(list(cells)))
    monkeypatch.setattr(choose_adapter, "kept_cells", lambda: scores({LOW: 0.5, HIGH: 0.6}))
    search(jobs=1)
    rates, ranks = asked
    found = Counter((cell.choice.model, cell.choice.tuning) for cell in rates)
    of_student = {("student", "full"): 6, ("student", "lora"): 6 * len(RATES), ("student", "qlora"): 6 * len(RATES)}
    assert found == of_student | {("teacher", "full"): 3, ("teacher", "lora"): 3 * len(RATES)}
    assert {cell.choice for cell in ranks} == {Choice("lora", 4e-3, 4), Choice("lora", 4e-3, 64)}


def test_the_table_has_percent():
    found = table(scores({HIGH: 0.6, OF_TEACHER: 0.7}))
    assert "| student | lora | 16 | 0.004 | 60.0 / 10.0 | 60.0 / 10.0 | 60.0 |" in found
    assert "| teacher | lora | 16 | 0.002 | 70.0 / 10.0 |  | 70.0 |" in found
