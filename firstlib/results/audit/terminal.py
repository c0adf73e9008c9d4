"""An audit as text for a terminal of 80 columns."""

from collections.abc import Sequence
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from firstlib.evaluation.audit.differences import Difference
from firstlib.evaluation.audit.measured import Measured
from firstlib.results.audit import findings
from firstlib.runtime.errors import on_one_line

_SIDE_BY_SIDE = 3  # inputs whose measures fit into columns
_SUBJECTS = 10  # shown: those with the largest ECE
_WIDTH = 80


def text(inputs: Sequence[Measured], differences: Sequence[Difference]) -> str:
    """Returns an audit as plain text."""
    console = Console(file=StringIO(), width=_WIDTH, color_system=None)
    console.print(rendered(inputs, differences))
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def rendered(inputs: Sequence[Measured], differences: Sequence[Difference]) -> Group:
    """Returns an audit for rich: a table of measures, then each input's findings, then differences."""
    table = _measures(inputs) if len(inputs) <= _SIDE_BY_SIDE else _lines(inputs)
    parts: list[RenderableType] = [table]
    for one in inputs:
        told = [
            findings.verdict(one),
            findings.sure(one),
            findings.temperature(one),
            findings.lost(one),
            *one.answers.notes,
        ]
        lead = f"{one.name}: " if len(inputs) > 1 else ""
        parts += [_line(lead + told[0]), *(_line(sentence) for sentence in told[1:] if sentence)]
        if one.subjects:
            parts += [_subjects(one)]
    return Group(*parts, *(_line(findings.between(one)) for one in differences))


def _line(sentence: str) -> Text:
    return Text(on_one_line(sentence))


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(Text(on_one_line(column)), justify="right" if place else "left", overflow="fold")
    return table


def _measures(inputs: Sequence[Measured]) -> Table:
    table = _table("", *(one.name for one in inputs))
    rows = [_rows(one) for one in inputs]
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows))
    return table


def _rows(one: Measured) -> dict[str, str]:
    brier, percent = one.errors.brier, findings.percent
    return {
        "answers": f"{one.n:,}",
        "accuracy": findings.with_ends(one.accuracy),
        "mean confidence": percent(one.confidence),
        "ECE": findings.with_ends(one.ece),
        "  of a calibrated model by chance": f"up to {percent(one.floor.percentile_95)}",
        "  equal-mass bins": percent(one.errors.equal_mass_ece),
        "  debiased": percent(one.errors.debiased_ece),
        "  smooth": percent(one.errors.smooth_ece),
        "  largest gap (MCE)": percent(one.errors.mce),
        "Brier score": f"{brier.total:.4f}",
        "  calibration + refinement": f"{brier.calibration:.4f} + {brier.refinement:.4f}",
        "negative log-likelihood": findings.loss(one.loss),
        "area under risk and coverage": f"{one.selective.area:.3f}",
    }


def _lines(inputs: Sequence[Measured]) -> Table:
    table = _table("", "answers", "accuracy", "ECE", "by chance", "T")
    for one in inputs:
        cells = (f"{one.n:,}", findings.with_ends(one.accuracy), findings.with_ends(one.ece))
        fitted = f"{one.tempered.value:.2f}" if one.tempered else "-"
        table.add_row(Text(on_one_line(one.name)), *cells, findings.percent(one.floor.percentile_95), fitted)
    return table


def _subjects(one: Measured) -> Table:
    table = _table("by subject", "answers", "accuracy", "ECE", "by chance", "p (Holm)")
    for subject in one.subjects[:_SUBJECTS]:
        table.add_row(
            Text(on_one_line(subject.name)), f"{subject.n:,}", findings.with_ends(subject.accuracy),
            findings.percent(subject.ece), findings.percent(subject.floor), f"{subject.p_value:.3f}",
        )  # fmt: skip
    beyond = sum(subject.miscalibrated for subject in one.subjects)
    table.caption = f"{beyond} of {len(one.subjects)} subjects are miscalibrated beyond chance (Holm, 5 %)."
    table.caption_justify = "left"
    return table
