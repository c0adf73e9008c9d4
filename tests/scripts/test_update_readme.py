"""README and findings agree with the kept results, and name only commands that exist."""

import re

import pytest

from firstlib.results.seeds import kept
from firstlib.runtime.paths import PROJECT
from scripts.update_readme import (
    FINDINGS,
    README,
    claims_block,
    real_block,
    replaced,
    results_block,
    variants_block,
)


@pytest.mark.parametrize(
    ("page", "block", "content"),
    [
        (README, "results", lambda: results_block(kept("microworld"))),
        (FINDINGS, "claims", lambda: claims_block(kept("microworld"))),
        (FINDINGS, "variants", lambda: variants_block(kept("microworld-beyond"))),
        (FINDINGS, "real data", lambda: real_block(kept("real-small")[0])),
    ],
)
def test_results_are_those_of_the_kept_runs(page, block, content):
    text = page.read_text(encoding="utf-8")
    assert replaced(text, block, content()) == text


def test_there_are_enough_seeds():
    assert len(kept("microworld")) >= 3
    assert len(kept("microworld-beyond")) >= 3


def test_commands_and_files_exist():
    text = README.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", text)) <= verbs
    links = re.findall(r"\]\((?!http|#)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


def test_a_cell_is_the_mean_and_the_spread_over_seeds():
    def run(accuracy, seed):
        place = {"method": "first", "setting": "in-domain", "dataset": "csqa", "n": 50}
        return {"seed": seed, "rows": [{**place, "accuracy": accuracy, "ece": 0.1, "trust": 0}]}

    # mean of 60 and 64: 62; standard deviation with n - 1: sqrt(2^2 + 2^2) = 2.8
    assert "| first | 62.0 ± 2.8 / 10.0 ± 0.0 / 0.0 ± 0.0 |" in results_block([run(0.60, 0), run(0.64, 1)])


@pytest.mark.parametrize("word", ["TODO", "lorem"])
def test_no_placeholder_is_left(word):
    assert word not in README.read_text(encoding="utf-8")
