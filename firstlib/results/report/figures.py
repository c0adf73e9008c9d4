"""The report's figures, each for a wide screen and, where it has several panels, for a narrow one."""

import numpy as np

from firstlib import figures
from firstlib.distillation.recalibration import Map
from firstlib.evaluation.predictions import Predictions
from firstlib.metrics import selective_accuracy
from firstlib.results.pages.drawn import PageFigure, in_both
from firstlib.results.report.findings import Findings
from firstlib.results.rules import rule_of
from firstlib.settings.schema import Reading

RANKS = {
    "candidates": "For the model's first, second, ... candidate: its mean share among the candidates, and how often it "
    "is right.",
    "vocabulary": "For the model's tokens of rank 1 to {k} in the vocabulary: the mean probability, and how often the "
    "token is the right answer.",
}


def report_figures(found: Findings) -> dict[str, PageFigure]:
    """Returns the figures by name, in the page's order."""
    return {
        "coverage": _coverage(found),
        "ranks": _ranks(found),
        "reliability": _reliability(found),
        "selective": _selective(found),
        **({"search": _search(found)} if found.searches else {}),
        **({"effect": _effect(found)} if found.effects[0] else {}),
        "plane": _plane(found),
    }


def case_figure(found: Findings) -> PageFigure | None:
    """Returns the case study's figure; None where there is no case."""
    if found.case is None:
        return None
    question = found.case.question
    drawn = figures.case_study(found.case.shares, question.choices, question.posterior)
    caption = "Each model's probability for every choice. The triangle is the exact probability, where it is known."
    return PageFigure("Every model's answer", caption, drawn)


def _coverage(found: Findings) -> PageFigure:
    return PageFigure(
        "Figure 2: concentrated knowledge",
        "The probability that the teacher's most probable tokens hold together, on the last column's training set.",
        figures.coverage(found.coverage, found.settings.knowledge.k),
    )


def _ranks(found: Findings) -> PageFigure:
    reading = found.settings.measures.confidence
    panels = {name: ranks(answers, reading) for name, answers in found.answers.items()}
    caption = RANKS[reading].format(k=found.settings.knowledge.k)
    return in_both(
        "Figure 3: rank and reliability",
        f"{caption} Where the left bar is higher, the model is over-confident.",
        lambda most: figures.rank_probabilities(panels, most),
    )


def ranks(found: Predictions, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean probability of each rank `(K,)` in a reading, and how often that rank is the right answer."""
    if reading == "vocabulary":
        return found.by_rank()
    shares = found.shares()
    order = np.argsort(-shares, axis=1, kind="stable")
    return np.take_along_axis(shares, order, axis=1).mean(axis=0), (order == found.answer[:, None]).mean(axis=0)


def _reliability(found: Findings) -> PageFigure:
    measures = found.settings.measures
    diagrams = {name: one.reliability(measures.confidence, measures.bins) for name, one in found.answers.items()}
    return in_both(
        "Figure 5: reliability diagrams",
        "A bar is the accuracy of the answers in its bin. Below the diagonal, answers are over-confident.",
        lambda most: figures.reliability_diagrams(diagrams, most),
    )


def _selective(found: Findings) -> PageFigure:
    reading = found.settings.measures.confidence
    lines = {name: selective_accuracy(one.confidence(reading), one.correct()) for name, one in found.answers.items()}
    return PageFigure(
        "Selective accuracy",
        "Accuracy among the questions that a model answers if it leaves out those with the lowest confidence. The area "
        "is that under the risk-coverage curve; a smaller one is better.",
        figures.selective_accuracy(lines),
    )


def _search(found: Findings) -> PageFigure:
    name = found.settings.recalibrated or ""
    method = found.settings.all_methods[name]
    rule = rule_of(method.rule)
    drawn = figures.coefficient_search(found.searches).update_yaxes(title_text=rule.axis)
    if rule.in_nats:
        drawn.update_yaxes(tickformat=".2f", rangemode="normal")
    if Map(method.map) is not Map.TEMPERATURE:
        drawn.update_xaxes(title_text="temperature T")
    return PageFigure(
        "Figure 6, left: the search for the coefficient",
        f"For <i>{name}</i>: the {rule.measure}, on {rule.split} questions, of {rule.of}.",
        drawn,
    )


def _effect(found: Findings) -> PageFigure:
    return PageFigure(
        "Figure 6, right: other coefficients",
        "Test ECE of students that learned with other coefficients than the chosen one, one line per seed of the "
        "microworld, as <code>make seeds</code> keeps them. This figure does not depend on the run.",
        figures.coefficient_effect(*found.effects),
    )


def _plane(found: Findings) -> PageFigure:
    return in_both(
        "Accuracy against ECE",
        "Up and to the left is better; along a dotted line Trust is the same.",
        lambda most: figures.trust_plane(found.rows, most),
        most=2,
    )
