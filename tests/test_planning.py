"""What a run would take, counted by hand."""

import io

import pytest
from rich.console import Console

from firstlib import models, planning
from firstlib.settings import load_preset
from firstlib.tasks import microworld
from firstlib.tasks.encoding import encode


def test_six_operations_a_parameter_and_token_and_epoch():
    assert planning.training_flops(parameters=7, tokens=11, epochs=3) == 6 * 7 * 11 * 3
    assert planning.training_flops(7_000_000_000, 200_000_000, 3) == pytest.approx(2.52e19)


def test_the_papers_store_by_its_own_count():
    positions = 100_000 * 2048
    assert planning.store_bytes(positions, 5) == 12_288_000_000
    assert planning.store_bytes(positions, 50_000) == 122_880_000_000_000  # "120 TB"


@pytest.mark.parametrize("task", ["csqa", "alpaca"])
def test_a_plan_counts_every_token_where_the_sample_is_all(tiny_preset, base, world, task):
    plan = planning.plan_task(load_preset(str(tiny_preset)), task)
    tokenizer = models.load_tokenizer(base)
    encoded = [encode(tokenizer, q.example()) for q in microworld.ask(world, task, "train", 24, 0)]
    assert (plan.task, plan.examples) == (task, 24)
    assert plan.tokens == sum(len(e.token_ids) for e in encoded)
    assert plan.positions == sum(len(e.token_ids) - e.start for e in encoded)


def test_a_smaller_sample_is_scaled_up(tiny_preset):
    settings = load_preset(str(tiny_preset))
    whole, sampled = planning.plan_task(settings, "csqa"), planning.plan_task(settings, "csqa", sample=6)
    assert sampled.examples == 24
    assert sampled.tokens % 4 == 0
    assert sampled.tokens == pytest.approx(whole.tokens, rel=0.1)


def test_the_table_has_a_line_a_task_and_its_numbers(tiny_preset, base):
    output = io.StringIO()
    Console(file=output, width=200).print(planning.plan_table(str(tiny_preset), ("training.epochs=3",)))
    text = output.getvalue()
    title = " ".join(text.split())
    count = models.parameter_count(base)
    assert f"teacher {count:,} parameters" in title
    plan = planning.plan_task(load_preset(str(tiny_preset)), "csqa")
    line = next(line for line in text.splitlines() if "csqa" in line)
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    teacher = 6 * count * plan.tokens * 3 / 1e9
    assert cells[:5] == ["csqa", "24", f"{plan.tokens:,}", f"{teacher:,.0f}", f"{4 * teacher:,.0f}"]
    assert cells[5:7] == [f"{12 * plan.positions / 1000:.0f} kB", f"{60 * plan.positions / 1000:.0f} kB"]
    assert [line.count("alpaca") for line in text.splitlines()].count(1) == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_288_000_000, "12 GB"), (122_880_000_000_000, "122.9 TB")],
)
def test_sizes_are_written_in_decimal_units(count, text):
    assert planning._size(count) == text
