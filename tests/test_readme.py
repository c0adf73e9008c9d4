"""The README says what the kept results say, and names only commands that exist."""

import re

import pytest
from firstlib.results.seeds import kept

from firstlib.runtime.paths import PROJECT
from scripts.update_readme import README, main_table, renewed


def test_its_results_are_those_of_the_kept_runs():
    text = README.read_text(encoding="utf-8")
    assert len(kept("microworld")) >= 3
    assert renewed(text, kept("microworld")) == text


def test_its_commands_and_files_exist():
    text = README.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", text)) <= verbs
    links = re.findall(r"\]\((?!http|#)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_a_cell_is_the_mean_and_the_spread_over_seeds():
    def run(accuracy):
        row = {
            "method": "first",
            "setting": "in-domain",
            "dataset": "csqa",
            "accuracy": accuracy,
            "ece": 0.1,
            "trust": 0,
        }
        return {"rows": [row]}

    # mean of 60 and 64: 62; standard deviation with n - 1: sqrt(2^2 + 2^2) = 2.8
    assert "| first | 62.0 ± 2.8 / 10.0 ± 0.0 / 0.0 ± 0.0 |" in main_table([run(0.60), run(0.64)])


@pytest.mark.parametrize("word", ["TODO", "lorem"])
def test_nothing_is_left_open(word):
    assert word not in README.read_text(encoding="utf-8")
