"""An audit as one HTML page, of the report's parts. Every text that comes from an input is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from firstlib import figures
from firstlib.evaluation.audit.answers import UNKNOWN
from firstlib.evaluation.audit.differences import Difference
from firstlib.evaluation.audit.measured import Measured
from firstlib.metrics import reliability
from firstlib.results.audit import findings
from firstlib.results.markup import html_table, signed_cell
from firstlib.results.pages.drawn import PageFigure, figure, figures_json, in_both
from firstlib.results.pages.measures import BRIER, CONVENTIONS, MEASURES, conventions_table, measures_table
from firstlib.results.pages.shell import filled, packed

SCRIPTS = ("shared.js", "page.js")
_SHOWN = 12  # answers of each kind on a page
_SUBJECTS = 200
_LONGEST = 600  # characters of a question on a page
_INTERVALS = (
    "Below each number is its 95 % interval over questions: Clopper and Pearson's for accuracy, a bootstrap interval "
    "for ECE. <i>By chance</i> is the ECE that a calibrated model with these confidences exceeds in 5 % of cases."
)
_SUBJECTS_TOLD = (
    "The largest ECE first. <i>p</i> is the chance that a calibrated model has so large an ECE, corrected by Holm's "
    "method for looking at {count} subjects; below 0.05 the subject is called miscalibrated."
)


def page(inputs: Sequence[Measured], differences: Sequence[Difference]) -> str:
    """Returns the page; it needs neither a kernel nor a network."""
    drawn = figures_of(inputs)
    names = ", ".join(one.name for one in inputs)
    return filled(
        "audit.html",
        {
            "title": escape(f"Audit of {names}"),
            "lead": "".join(f"<p>{escape(_told(one, len(inputs) > 1))}</p>" for one in inputs),
            "results": tables(inputs, differences),
            "figures": "".join(figure(name, one) for name, one in drawn.items()),
            "subjects": "".join(map(_subjects, inputs)) or "<p>The input names no subjects; see <code>--by</code>.</p>",
            "others": _others(inputs),
            "answers": "".join(map(_answers, inputs)),
            "inputs": "".join(map(_input, inputs)),
            "footer": "Written by firstlib; this file needs no network.",
            "data": packed({"explorer": None, "figures": figures_json(drawn)}),
        },
        SCRIPTS,
    )


def figures_of(inputs: Sequence[Measured]) -> dict[str, PageFigure]:
    """Returns the figures by name, in the page's order."""
    diagrams = {one.name: one.diagram for one in inputs}
    whiskers = {one.name: (one.low, one.high) for one in inputs}
    found = {
        "reliability": in_both(
            "Reliability",
            "A bar is the accuracy of the answers in its bin, with its 95 % interval. Below the diagonal, answers are "
            "over-confident. The bars below show how many answers each bin holds.",
            lambda most: figures.reliability_diagrams(diagrams, most, whiskers),
        ),
        "selective": PageFigure(
            "Selective accuracy",
            "Accuracy among the questions that a model answers if it leaves out those with the lowest confidence. The "
            "area is that under the risk-coverage curve; a smaller one is better.",
            figures.selective_accuracy({one.name: one.selective for one in inputs}),
        ),
    }
    after = {one.name: reliability(t.confidence, t.correct, one.bins) for one in inputs if (t := one.tempered)}
    if after:
        found["tempered"] = in_both(
            "After one temperature",
            "Each answer at the temperature that is fitted on the other folds.",
            lambda most: figures.reliability_diagrams(after, most),
        )
    return found


def tables(inputs: Sequence[Measured], differences: Sequence[Difference]) -> str:
    """Returns findings and main measures of every input, and their differences, as HTML."""
    head = ("input", "answers", "accuracy", "confidence", "ECE", "by chance", "NLL", "Brier", "area", "T")
    table = html_table(head, [_row(one) for one in inputs])
    told = "".join(f"<p>{escape(sentence)}</p>" for one in inputs for sentence in _findings(one, len(inputs) > 1))
    between = "".join(f"<p>{escape(findings.between(one))}</p>" for one in differences)
    return f"{told}{table}<p>{_INTERVALS}</p>{_differences(differences)}{between}"


def _told(one: Measured, several: bool) -> str:
    return (f"{one.name}: " if several else "") + findings.verdict(one)


def _findings(one: Measured, several: bool) -> list[str]:
    return [_told(one, several), findings.sure(one), findings.temperature(one), *filter(None, [findings.lost(one)])]


def _row(one: Measured) -> list[str]:
    accuracy, ece = (_entry(found.estimate, found.low, found.high) for found in (one.accuracy, one.ece))
    fitted = f"{one.tempered.value:.3g}" if one.tempered else "-"
    return [
        escape(one.name), f"{one.n:,}", accuracy, findings.percent(one.confidence), ece,
        findings.percent(one.floor.percentile_95), escape(findings.loss(one.loss)), f"{one.errors.brier.total:.4f}",
        f"{one.selective.area:.3f}", fitted,
    ]  # fmt: skip


def _entry(value: float, low: float, high: float) -> str:
    return f'{findings.percent(value)}<span class="ends">{100 * low:.1f} to {100 * high:.1f}</span>'


def _differences(found: Sequence[Difference]) -> str:
    if not found:
        return ""
    rows = [
        [escape(one.name), escape(one.baseline), f"{one.n:,}" if one.paired else "not paired",
         signed_cell(one.accuracy), signed_cell(one.ece)]
        for one in found
    ]  # fmt: skip
    told = "In points, with 95 % intervals over questions. A positive difference in ECE means less calibrated."
    return f"<h3>Differences</h3><p>{told}</p>" + html_table(
        ("input", "minus", "same questions", "accuracy", "ECE"), rows, text=(0, 1)
    )


def _subjects(one: Measured) -> str:
    if not one.subjects:
        return ""
    rows = [
        [escape(subject.name), f"{subject.n:,}",
         _entry(subject.accuracy.estimate, subject.accuracy.low, subject.accuracy.high), findings.percent(subject.ece),
         findings.percent(subject.floor), f"{100 * subject.gap:+.1f}", f"{subject.p_value:.3f}",
         "yes" if subject.miscalibrated else "no"]
        for subject in one.subjects[:_SUBJECTS]
    ]  # fmt: skip
    head = ("subject", "answers", "accuracy", "ECE", "by chance", "over-confident by", "p", "miscalibrated")
    told = _SUBJECTS_TOLD.format(count=len(one.subjects))
    return f"<h3>{escape(one.name)}</h3><p>{told}</p>{html_table(head, rows)}"


def _others(inputs: Sequence[Measured]) -> str:
    errors = {one.name: one.errors for one in inputs}
    return (
        f"<p>In percent but for the Brier score. {MEASURES} {BRIER}</p>{measures_table(errors, 'input')}"
        f"<h3>ECE by other libraries' conventions</h3><p>{CONVENTIONS}</p>{conventions_table(errors, 'input')}"
    )


def _answers(one: Measured) -> str:
    """Returns samples of the answers: the most confident mistakes, and some at random."""
    confidence, correct = one.answers.confidence, one.answers.correct
    wrong = np.flatnonzero(~correct)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN]
    some = np.sort(np.random.default_rng(0).choice(one.n, min(_SHOWN, one.n), replace=False))
    return (
        f"<h3>{escape(one.name)}: the surest mistakes</h3>{_list(one, worst)}"
        f"<h3>{escape(one.name)}: some answers at random</h3>{_list(one, some)}"
    )


def _list(one: Measured, rows: Iterable[int]) -> str:
    found, lines = one.answers, []
    for row in rows:
        name = str(found.ids[row]) if found.ids is not None else f"row {row + 1}"
        verdict = "right" if found.correct[row] else "wrong"
        lines.append(
            [escape(name[:60]), findings.percent(float(found.confidence[row])), verdict, _question(one, int(row))]
        )
    return html_table(("question", "confidence", "answer", ""), lines, text=(0, 3))


def _question(one: Measured, row: int) -> str:
    found = one.answers
    if not found.texts:
        return ""
    asked, choices = found.texts[row]
    right = UNKNOWN if found.answer is None else int(found.answer[row])
    shares = [] if found.probabilities is None else found.probabilities[row].tolist()
    listed = [
        f"{escape(choice)}: {findings.percent(share)}{' (right)' if place == right else ''}"
        for place, (choice, share) in enumerate(zip(choices, shares, strict=False))
    ]
    cut = asked if len(asked) <= _LONGEST else "…" + asked[-_LONGEST:]
    return f'<div class="question">{escape(cut)}</div>' + "<br>".join(listed)


def _input(one: Measured) -> str:
    answers = one.answers
    told = [
        f"{one.name} is {answers.kind}: {one.n:,} answers. Confidence is {findings.READINGS[answers.reading]}; the ECE "
        f"has {one.bins} equal-width bins.", findings.lost(one), *answers.notes,
    ]  # fmt: skip
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in told if sentence)
