"""The paper's Table 1 (https://arxiv.org/abs/2408.12168), from `data/paper_table1.csv`."""

import csv
import re
from statistics import mean
from typing import Any

from firstlib.runtime.paths import PAPER_TABLE

FAMILIES = ("Llama-1 33B->7B", "Llama-2 13B->7B", "OpenLlama 13B->7B")
# The paper's names of its five methods.
METHODS = {
    "Teacher": "teacher",
    "Fine-tune": "fine-tune",
    "Distill": "distill",
    "Distill w/ LS": "label-smoothing",
    "FIRST w/ TS": "first",
}


def paper_rows(family: str | None = None) -> list[dict[str, Any]]:
    """Returns the table's lines in fractions, by setting, dataset and method; without a family, means over three."""
    with PAPER_TABLE.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if family in (None, line["family"])]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in lines:
        method = METHODS[re.sub(r"\s\d+B", "", line["method"])]
        found.setdefault((line["setting"], line["dataset"].lower(), method), []).append(line)
    return [
        {"setting": setting, "dataset": dataset, "method": method, **_means(group)}
        for (setting, dataset, method), group in found.items()
    ]


def family_rows(setting: str, dataset: str, method: str) -> list[dict[str, Any]]:
    """Returns one line of the table for each family, in fractions."""
    wanted = (setting, dataset, method)
    rows = [row for family in FAMILIES for row in paper_rows(family)]
    return [row for row in rows if (row["setting"], row["dataset"], row["method"]) == wanted]


def _means(group: list[dict[str, Any]]) -> dict[str, float]:
    columns = {"accuracy": "acc", "ece": "ece", "trust": "trust"}
    return {name: mean(float(line[column]) for line in group) / 100 for name, column in columns.items()}


def paper_numbers() -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """Returns accuracy, ECE and Trust by setting, dataset and method, the means over the paper's three families."""
    return {
        (row["setting"], row["dataset"], row["method"]): (row["accuracy"], row["ece"], row["trust"])
        for row in paper_rows()
    }
