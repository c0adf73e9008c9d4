"""The report's sections as HTML. Every text that comes from data, settings or paths is escaped."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from firstlib.evaluation.audit.calibration_errors import CalibrationErrors
from firstlib.explorer.questions import Case
from firstlib.figures.style import name_of
from firstlib.results.comparison import Compared
from firstlib.results.markup import html_table, signed_cell
from firstlib.results.pages.drawn import PageFigure, figure
from firstlib.results.pages.measures import (
    BRIER,
    CLASSWISE,
    CONVENTIONS,
    MEASURES,
    conventions_table,
    measures_table,
)
from firstlib.results.provenance import StageLine
from firstlib.results.report.findings import Findings
from firstlib.results.table import of_comparison
from firstlib.settings.methods import Method
from firstlib.settings.schema import Measures, Settings, Task

READINGS = {
    "candidates": "the predicted candidate's share among the question's candidates",
    "vocabulary": "the predicted candidate's probability in the whole vocabulary",
}
METHODS = {"methods": "Methods", "beyond": "Methods beyond the paper, which <code>first run --beyond</code> adds"}
INTERVALS = (
    "Below each number is its 95 % interval over questions: Clopper and Pearson's for accuracy, a bootstrap interval "
    "for ECE. Trust is accuracy minus ECE. The base student is the student before training. <i>Paper</i> is accuracy / "
    "ECE / Trust in the paper's Table 1, the mean over its three model families."
)
SMALL = (
    " Those models are thousands of times larger than a microworld's and answer real questions: compare the pattern, "
    "not the numbers."
)
WITHOUT_EXPLORER = "<p>No method of this run recalibrates with a temperature, so there is nothing to explore.</p>"
WITHOUT_CASE = "<p>The main task's answers are free text, so there is no question with choices to show.</p>"


# -- results -----------------------------------------------------------------------------------------------------


def results(found: Findings) -> str:
    """Returns the results beside the paper's, the differences to fine-tuning, and the coefficients."""
    invented = found.settings.uses_microworld
    return (
        f"<p>In percent. {confidence(found.settings.measures)} {INTERVALS}{SMALL if invented else ''}</p>"
        f'<div class="tables">{of_comparison(found.compared).html(name_of)}</div>'
        f"{differences(found.compared)}{chosen(found.chosen)}"
    )


def confidence(measures: Measures) -> str:
    """Returns how the settings read confidence and bin it."""
    return f"Confidence is {READINGS[measures.confidence]}; ECE has {measures.bins} equal-width bins."


def differences(compared: Sequence[Compared]) -> str:
    """Returns each method's ECE minus fine-tuning's, by test set; nothing where there is no fine-tuning."""
    places = list(dict.fromkeys((one.setting, one.dataset) for one in compared))
    found = {(one.method, one.setting, one.dataset): one.difference for one in compared if one.difference}
    methods = list(dict.fromkeys(method for method, _, _ in found))
    if not methods:
        return ""
    rows = [[name_of(name), *(signed_cell(found.get((name, *place))) for place in places)] for name in methods]
    head = ["method", *(f"{name_of(dataset)}, {escape(setting)}" for setting, dataset in places)]
    return (
        "<h3>ECE minus fine-tuning's</h3><p>In points, on the same questions, with paired 95 % bootstrap intervals. A "
        f"negative interval means that the method is better calibrated.</p>{html_table(head, rows)}"
    )


def chosen(values: Mapping[str, Mapping[Task, str]]) -> str:
    """Returns what was chosen by method and training task, coefficients first; nothing where nothing was."""
    if not values:
        return ""
    tasks = list(dict.fromkeys(task for of_method in values.values() for task in of_method))
    rows = [[name_of(name), *(escape(found.get(task, "-")) for task in tasks)] for name, found in values.items()]
    return f"<h3>Coefficients</h3>{html_table(['method', *(f'trained on {name_of(task)}' for task in tasks)], rows)}"


# -- other measures ----------------------------------------------------------------------------------------------


def others(found: Mapping[str, CalibrationErrors], settings: Settings) -> str:
    """Returns other measures of calibration on the main task, and ECE as other libraries compute it."""
    return (
        f"<p>Answers to the test questions of {name_of(settings.columns[0].train)}, in percent but for the Brier "
        f"score. {confidence(settings.measures)} {MEASURES} {CLASSWISE} {BRIER}</p>{measures_table(found, 'method')}"
        f"<h3>ECE by other libraries' conventions</h3><p>{CONVENTIONS}</p>{conventions_table(found, 'method')}"
    )


# -- figures -----------------------------------------------------------------------------------------------------


def case(found: Case | None, drawn: PageFigure | None) -> str:
    """Returns the case study: its question, and the place of its figure."""
    if found is None or drawn is None:
        return WITHOUT_CASE
    return f"<pre>{escape(found.question.prompt)}</pre>{figure('case', drawn)}"


# -- where the numbers come from ---------------------------------------------------------------------------------


def pipeline(stages: Sequence[StageLine]) -> str:
    """Returns every stage that the report rests on, with its folder, time and size."""
    rows = [
        (escape(one.description), f"<code>{escape(one.folder)}</code>", f"{one.seconds:.1f} s", size(one.bytes))
        for one in stages
    ]
    seconds, taken = sum(one.seconds for one in stages), sum(one.bytes for one in stages)
    total = f"<p>{len(rows)} stages, {seconds:.0f} s and {size(taken)} in total, in the order of their computation.</p>"
    return total + html_table(("stage", "folder", "time", "size"), rows, text=(0, 1))


def size(count: float) -> str:
    """Returns a number of bytes with a unit.

    >>> size(532), size(4_790_242)
    ('532 B', '4.8 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def settings(run: Mapping[str, Any], of: Settings, versions: Mapping[str, str]) -> str:
    """Returns all settings by their dotted names, and the versions of the packages that computed the stages.

    Args:
        run: Preset and seed.
        of: The settings; each method takes one line.
        versions: Of the packages, by name.
    """
    values = {**run, **of.model_dump(mode="json", exclude=set(METHODS))}
    rows = [
        (escape(name), escape(value if isinstance(value, str) else json.dumps(value)))
        for name, value in flattened(values)
    ]
    packages = [(escape(name), escape(version)) for name, version in versions.items()]
    tables = (
        html_table(("setting", "value"), rows, text=(0, 1)),
        *(_methods(getattr(of, name), title) for name, title in METHODS.items()),
        html_table(("package", "version"), packages, text=(0, 1)),
    )
    return "".join(tables)


def _methods(methods: Mapping[str, Method], title: str) -> str:
    """A line for each method, with what is not a default; nothing without methods."""
    rows = [
        (escape(name), escape(", ".join(f"{key}: {value}" for key, value in method.as_written().items())))
        for name, method in methods.items()
    ]
    return html_table(("method", "settings; others have their defaults"), rows, title, text=(0, 1)) if rows else ""


def flattened(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Yields nested settings by dotted names.

    >>> list(flattened({"seed": 0, "sizes": {"train": 64}}))
    [('seed', 0), ('sizes.train', 64)]
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
