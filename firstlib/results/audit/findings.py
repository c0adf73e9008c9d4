"""An audit's findings in words and in plain numbers: what tables, pages and `audit.json` say, once."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from firstlib.evaluation.audit.differences import Difference
from firstlib.evaluation.audit.measured import WANTED, Loss, Measured
from firstlib.evaluation.temperature import HIGHEST
from firstlib.metrics import Interval

if TYPE_CHECKING:  # it takes a second to import, and only frames need it
    import pandas as pd

DASH = "\u2013"  # between the ends of an interval
READINGS = {
    "candidates": "the chosen answer's share among the question's choices",
    "acc_norm": "the chosen answer's share among the choices, by log-probability per character",
    "vocabulary": "the chosen answer's probability in the whole vocabulary",
}


def percent(value: float, digits: int = 1) -> str:
    """Returns a fraction in percent, `-` for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def with_ends(found: Interval, digits: int = 1) -> str:
    """Returns a fraction in percent with its interval.

    >>> with_ends(Interval(0.681, 0.66, 0.7013)).replace(DASH, "-")
    '68.1 % (66.0-70.1)'
    """
    return f"{percent(found.estimate, digits)} ({100 * found.low:.{digits}f}{DASH}{100 * found.high:.{digits}f})"


def verdict(found: Measured) -> str:
    """Returns the main finding in one sentence."""
    said = f"it says {percent(found.confidence)} and is right in {percent(found.accuracy.estimate)}"
    if not found.above_chance:
        return (
            f"Cannot be told from calibrated: its ECE of {percent(found.ece.estimate)} is within what chance gives a "
            f"calibrated model of {found.n:,} answers (up to {percent(found.floor.percentile_95)}); {said}."
        )
    if abs(found.gap) < found.ece.estimate / 2:
        return f"Miscalibrated in both directions, over-confident in some bins and under-confident in others: {said}."
    return f"{'Over' if found.gap > 0 else 'Under'}-confident: {said}."


def sure(found: Measured) -> str:
    """Returns from which confidence 90 % of the answers were right, of how many answers, and how certain that is."""
    if found.right is None:
        return (
            f"No confidence is high enough that {percent(WANTED, 0)} of the answers with at least that much were right."
        )
    return (
        f"The lowest confidence from which at least {percent(WANTED, 0)} of the answers were right is "
        f"{percent(found.sure)}: {with_ends(found.right)} were, of {round(found.answered * found.n):,} answers "
        f"in {found.n:,}."
    )


def temperature(found: Measured) -> str:
    """Returns what one temperature would do."""
    one = found.tempered
    if one is None:
        reason = "the reading `vocabulary` has no distribution over choices" if found.answers.reading == "vocabulary" \
            else "there are too few answers to fit one"  # fmt: skip
        return f"No temperature: {reason}."
    kind = "the logits" if found.loss.of_choices else "the log-odds of the confidence"
    told = (
        f"Dividing {kind} by T = {one.value:.3g} changes the ECE from {percent(found.ece.estimate)} to "
        f"{with_ends(one.ece)} and the negative log-likelihood from {one.nll_before:.3f} to {one.nll:.3f} nats, "
        "each answer measured with a temperature fitted on others ({FOLDS}-fold cross-fitting)."
    )
    edge = " That is the largest temperature tried: the probabilities say little about what is right."
    return told + edge * (one.value > 0.998 * HIGHEST)


def loss(found: Loss) -> str:
    """Returns a negative log-likelihood in nats, with how many answers it leaves out."""
    gone = found.ruled_out + found.unknown
    return f"{found.value:.4f}" + (f" ({gone:,} ruled out or unknown)" if gone else "")


def lost(found: Measured) -> str:
    """Returns what was left out; empty where nothing was."""
    gone = found.answers.lost
    if not gone.count:
        return ""
    return f"{gone.count} of {gone.total} rows cannot be used and are left out: {'; '.join(gone.examples)}."


def between(one: Difference) -> str:
    """Returns a difference in one sentence."""
    pairs = "not paired, for lack of shared ids"
    if one.paired:
        of = f", of {one.of[0]:,} and {one.of[1]:,}" if one.n < max(one.of) else ""
        pairs = f"on the {one.n:,} questions that both answered{of}"
    if one.other_answers:
        pairs += f" (the right answers of {one.other_answers:,} differ: other questions, or choices in another order)"
    change = f"cannot be told from {one.baseline} by its calibration"
    if one.beyond_chance:
        change = f"is {'less' if one.ece.estimate > 0 else 'better'} calibrated than {one.baseline}"
    ends = f"{100 * one.ece.low:+.1f} to {100 * one.ece.high:+.1f}"
    return f"{one.name} {change}: the difference in ECE is {100 * one.ece.estimate:+z.1f} points ({ends}), {pairs}."


# -- numbers -----------------------------------------------------------------------------------------------------


def numbers(found: Measured) -> dict[str, Any]:
    """Returns one input's measures as plain numbers by name; fractions, nats for `nll`; intervals are pairs."""
    errors, brier, loss, one = found.errors, found.errors.brier, found.loss, found.tempered
    return {
        "n": found.n,
        "accuracy": found.accuracy.estimate, "accuracy_interval": _ends(found.accuracy),
        "confidence": found.confidence, "over_confidence": found.gap,
        "ece": found.ece.estimate, "ece_interval": _ends(found.ece),
        "noise_floor": found.floor.mean, "noise_floor_95": found.floor.percentile_95,
        "above_chance": found.above_chance,
        "equal_mass_ece": errors.equal_mass_ece, "debiased_ece": errors.debiased_ece,
        "smooth_ece": errors.smooth_ece, "mce": errors.mce,
        "brier": brier.total, "brier_calibration": brier.calibration, "brier_refinement": brier.refinement,
        "brier_remainder": brier.remainder,
        "nll": loss.value, "nll_of": "the right choice" if loss.of_choices else "being right or wrong",
        "nll_ruled_out": loss.ruled_out, "nll_unknown": loss.unknown,
        "area": found.selective.area, "confidence_for_90": found.sure, "answered_at_90": found.answered,
        "accuracy_at_90_interval": _ends(found.right) if found.right else None,
        "temperature": one.value if one else None,
        "ece_after_temperature": one.ece.estimate if one else None,
        "ece_after_temperature_interval": _ends(one.ece) if one else None,
        "nll_after_temperature": one.nll if one else None,
    }  # fmt: skip


def as_json(found: Measured) -> dict[str, Any]:
    """Returns everything that is measured of one input, for `audit.json`; what is not a number is null."""
    answers, diagram = found.answers, found.diagram
    bins = [
        {"low": low, "high": high, "n": int(count), "confidence": sure, "accuracy": right, "accuracy_interval": [a, b]}
        for low, high, count, sure, right, a, b in zip(
            diagram.edges[:-1].tolist(), diagram.edges[1:].tolist(), diagram.count, diagram.confidence.tolist(),
            diagram.accuracy.tolist(), found.low.tolist(), found.high.tolist(), strict=True,
        )
    ]  # fmt: skip
    subjects = [
        {"name": one.name, "n": one.n, "accuracy": one.accuracy.estimate, "accuracy_interval": _ends(one.accuracy),
         "ece": one.ece, "noise_floor_95": one.floor, "p_value": one.p_value, "over_confidence": one.gap,
         "miscalibrated": one.miscalibrated}
        for one in found.subjects
    ]  # fmt: skip
    lost = {"count": answers.lost.count, "of": answers.lost.total, "examples": list(answers.lost.examples)}
    content = {
        "name": found.name, "kind": answers.kind, "reading": answers.reading, "verdict": verdict(found),
        **numbers(found), "conventions": found.errors.conventions, "bins": bins, "subjects": subjects,
        "left_out": lost, "notes": list(answers.notes),
    }  # fmt: skip
    return {name: _plain(value) for name, value in content.items()}


def difference_json(one: Difference) -> dict[str, Any]:
    """Returns a difference for `audit.json`."""
    return {
        "name": one.name, "baseline": one.baseline, "paired": one.paired, "n": one.n, "of": list(one.of),
        "other_answers": one.other_answers,
        "ece": one.ece.estimate, "ece_interval": _ends(one.ece),
        "accuracy": one.accuracy.estimate, "accuracy_interval": _ends(one.accuracy),
    }  # fmt: skip


def frame(found: Sequence[Measured]) -> "pd.DataFrame":
    """Returns a line for each input and a column for each measure; intervals as two columns."""
    import pandas as pd

    lines = {}
    for one in found:
        flat: dict[str, Any] = {}
        for name, value in numbers(one).items():
            if name.endswith("_interval"):
                stem = name.removesuffix("_interval")
                flat[f"{stem}_low"], flat[f"{stem}_high"] = value or (math.nan, math.nan)
            else:
                flat[name] = value
        lines[one.name] = flat
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("input")


def subject_frame(found: Sequence[Measured]) -> "pd.DataFrame":
    """Returns a line for each subject of each input, the largest ECE first."""
    import pandas as pd

    lines = [
        {"input": one.name, "subject": subject.name, "n": subject.n, "accuracy": subject.accuracy.estimate,
         "ece": subject.ece, "noise_floor_95": subject.floor, "over_confidence": subject.gap,
         "p_value": subject.p_value, "miscalibrated": subject.miscalibrated}
        for one in found for subject in one.subjects
    ]  # fmt: skip
    names = ["input", "subject"]
    return pd.DataFrame(lines, columns=None if lines else names).set_index(names)


def _ends(found: Interval) -> list[float]:
    return [found.low, found.high]


def _plain(value: Any) -> Any:
    """Returns a value in which NaN and infinity are null, as JSON has neither."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
