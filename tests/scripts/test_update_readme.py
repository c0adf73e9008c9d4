"""README and findings agree with the kept results, and name only commands that exist."""

import re

import pytest

from firstlib.runtime.paths import PROJECT
from scripts.update_readme import BLOCKS, README, replaced, results_block


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


@pytest.mark.parametrize("word", ["TODO", "lorem"])
def test_no_placeholder_is_left(word):
    assert word not in README.read_text(encoding="utf-8")
