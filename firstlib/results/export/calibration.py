"""The card's section on how well calibrated a student is."""

from collections.abc import Sequence

from firstlib.metrics import Reliability
from firstlib.results.export.markdown import escaped, percent
from firstlib.results.export.measured import Measured
from firstlib.results.export.usage import READINGS
from firstlib.results.markup import markdown_table
from firstlib.settings.schema import Reading

DIAGRAM = "reliability.png"
NO_DIAGRAM = (
    "There is no reliability diagram, because no Chrome or Chromium was found to draw it. Install one "
    "(`kaleido_get_chrome` does) or set BROWSER_PATH, and export again. The tables below hold the diagram's numbers."
)


def how_well_calibrated(measured: Sequence[Measured], reading: Reading, diagram: bool) -> str:
    """Returns the measures of every test set, the diagram, and the numbers of each bin."""
    return "\n\n".join(
        [
            f"Confidence is the predicted candidate's probability: {READINGS[reading][0]}. Numbers are in percent, "
            "except NLL (nats) and Brier. ECE has a 95 % bootstrap interval. The noise floor is the ECE that a "
            "perfectly calibrated model has by chance: mean, and 95th percentile. Trust is accuracy - ECE.",
            _scores(measured),
            f"![Reliability diagram: accuracy by confidence]({DIAGRAM})" if diagram else NO_DIAGRAM,
            *(f"**{escaped(one.name)}**, by bin:\n\n{_bins(one.reliability)}" for one in measured),
        ]
    )


def _scores(measured: Sequence[Measured]) -> str:
    head = ["test set", "n", "accuracy", "ECE", "smooth ECE", "noise floor", "Trust", "NLL", "Brier"]
    return markdown_table(head, [_row(one) for one in measured])


def _row(one: Measured) -> list[str]:
    scores = one.scores
    return [
        escaped(one.name),
        f"{scores.n:,}",
        percent(scores.accuracy),
        f"{percent(scores.ece)} ({percent(one.interval.low)} to {percent(one.interval.high)})",
        percent(one.smooth_ece),
        f"{percent(one.noise_floor.mean)} ({percent(one.noise_floor.percentile_95)})",
        percent(scores.trust),
        f"{scores.nll:.3f}",
        f"{scores.brier:.3f}",
    ]


def _bins(found: Reliability) -> str:
    bins = zip(found.edges[:-1], found.edges[1:], found.count, found.confidence, found.accuracy, strict=True)
    head = ["confidence", "answers", "mean confidence, %", "accuracy, %", "over-confident by, points"]
    return markdown_table(head, [_bin(*one) for one in bins])


def _bin(low: float, high: float, count: int, confidence: float, accuracy: float) -> list[str]:
    numbers = [percent(confidence), percent(accuracy), f"{100 * (confidence - accuracy):+.1f}"]
    return [f"{100 * low:.3g} to {100 * high:.3g} %", f"{count:,}", *(numbers if count else ["-", "-", "-"])]
