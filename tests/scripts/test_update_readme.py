"""README and findings agree with the kept results, and name only commands that exist."""

import re

import pytest

from firstlib.runtime.paths import PROJECT
from scripts.blocks.pretrained import each_seed_block, pretrained_block, seeds_block
from scripts.blocks.seeds import results_block
from scripts.update_readme import BLOCKS, README, replaced


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_is_what_the_kept_results_give(page, block):
    text, (command, make) = page.read_text(encoding="utf-8"), BLOCKS[page, block]
    assert replaced(text, block, make() or f"Not computed yet: `{command}`.") == text


def test_every_block_is_written():
    for page in {page for page, _ in BLOCKS}:
        named = re.findall(r"<!-- ([\w ]+): written by scripts/update_readme.py -->", page.read_text(encoding="utf-8"))
        assert sorted(named) == sorted(name for other, name in BLOCKS if other == page)


def test_commands_and_files_exist():
    text = README.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", text)) <= verbs
    links = re.findall(r"\]\((?!http|#)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


def run(seed, **trusts):
    """A run's results with one test set: the accuracy of each method, at an ECE of 0.1."""
    place = {"setting": "in-domain", "dataset": "csqa", "n": 50, "ece": 0.1}
    rows = [
        {**place, "method": name.replace("_", "-").replace("tuneT", "tune+T"), "accuracy": value, "trust": value - 0.1}
        for name, value in trusts.items()
    ]
    return {"seed": seed, "rows": rows}


def test_a_cell_is_the_mean_and_its_interval_over_seeds():
    # mean of 60 and 64: 62; half of Student's interval with one degree of freedom: 12.706 * 2
    assert "| first | 62.0 ± 25.4 / 10.0 ± 0.0 / 52.0 ± 25.4 |" in results_block(
        [run(0, first=0.60), run(1, first=0.64)]
    )


def test_every_seed_is_shown_with_the_mean_of_the_methods_that_all_have():
    block = each_seed_block(
        [{**one, "intervals": one["rows"]} for one in (run(0, first=0.60, distill=0.5), run(1, first=0.64))]
    )
    assert "| first | 60.0 / 10.0 / 50.0 | 64.0 / 10.0 / 54.0 | 62.0 / 10.0 / 52.0 |" in block
    assert "distill" not in block


def pretrained(**trusts):
    """A pretrained cell: each method's Trust, and a map that expects distillation to be ahead."""
    of = run(0, **{name: value + 0.1 for name, value in trusts.items()})
    intervals = [{**row, "low": 0.05, "high": 0.15} for row in of["rows"]]
    column = {"setting": "in-domain", "train": "csqa", "test": ["csqa"]}
    seconds = {
        "teacher": (3600, 3600), "distill": (1800, 7200), "distill+T": (1800, 7200), "fine-tune": (900, 900),
        "distill-base-weights": (600, 9000),
    }  # fmt: skip
    return {
        **of,
        "preset": "pair",
        "changes": {"columns": [column]},
        "trained_on": 300,
        "intervals": intervals,
        "prediction": {"overconfidence": 0.2, "gains": {"distill": 0.05, "first": -0.01}},
        "methods": {name: {"shares": {}} if name.endswith("weights") else {} for name in seconds},
        "cost": {
            name: {"csqa": {"seconds": own, "total_seconds": all_, "knowledge_bytes": all_ - own}}
            for name, (own, all_) in seconds.items()
        },
    }


def test_a_planned_seed_that_is_not_kept_is_named():
    runs = [{**pretrained(fine_tune=0.2, distill=0.3, first=0.4), "seed": seed} for seed in (0, 1)]
    assert "Not computed yet: seed 2, 3 (`make pretrained`)" in seeds_block(runs, (1, 2, 3))
    assert "Not computed" not in seeds_block(runs, (1,))


def test_a_pretrained_cell_tells_what_the_map_predicted_and_what_was_measured():
    block = pretrained_block([pretrained(fine_tune=0.2, distill=0.3, first=0.4)])
    assert "trained on 300 (csqa)" in block
    assert "| first | 50.0 / 10.0 (5.0 to 15.0) / 40.0 |" in block
    assert "20.0 points above its accuracy" in block
    assert "the order of Trust `distill`, `fine-tune`, `first`; measured: `first`, `distill`" in block
    # Teacher 3,600 s, extraction 1,800, one distilled student 1,800, fine-tuning 900; averaged weights train nothing.
    assert "took 2.2 hours" in block


@pytest.mark.parametrize("word", ["TODO", "lorem"])
def test_no_placeholder_is_left(word):
    assert word not in README.read_text(encoding="utf-8")
