"""The run's report: one HTML file that needs neither a kernel nor a network."""

from html import escape
from pathlib import Path

from firstlib.experiment import Experiment
from firstlib.results.pages.drawn import figure, figures_json
from firstlib.results.pages.shell import filled, packed, part
from firstlib.results.report import sections
from firstlib.results.report.figures import case_figure, report_figures
from firstlib.results.report.findings import Findings, Provenance, collect
from firstlib.runtime.files import write_text

REPORT = "report.html"
SCRIPTS = ("shared.js", "explorer.js", "page.js")


def write_report(experiment: Experiment) -> Path:
    """Writes `report.html`, at most 6 MB, into the run's folder, and returns its path.

    It holds the results with intervals beside the paper's, other measures of calibration, the temperature explorer on
    a grid of coefficients, Figures 2, 3, 5 and 6, the case study, every stage with its time and size, settings and
    versions. Missing stages are computed, unless the experiment is sealed.

    Raises:
        UserError: The experiment is sealed, and a stage is missing.
    """
    found, provenance = collect(experiment)
    return write_text(experiment.folder / REPORT, whole(found, provenance))


def whole(found: Findings, provenance: Provenance) -> str:
    """Returns the whole page."""
    return filled(REPORT, contents(found, provenance), SCRIPTS)


def contents(found: Findings, provenance: Provenance) -> dict[str, str]:
    """Returns the HTML of every part of the page, and the data that its script draws."""
    drawn, case = report_figures(found), case_figure(found)
    data = {"explorer": found.explorer, "figures": figures_json({**drawn, **({"case": case} if case else {})})}
    run = {"preset": found.preset, "seed": found.seed}
    return {
        "title": escape(f"FIRST: the run {found.preset}, seed {found.seed}"),
        "lead": escape(found.settings.description),
        "results": sections.results(found),
        "explorer": sections.WITHOUT_EXPLORER if found.explorer is None else part("explorer.html"),
        "others": sections.others(found.others, found.settings),
        "figures": "".join(figure(name, one) for name, one in drawn.items()),
        "case": sections.case(found.case, case),
        "pipeline": sections.pipeline(provenance.stages),
        "settings": sections.settings(run, found.settings, provenance.versions),
        "footer": "Written by firstlib; this file needs no network. The paper: arXiv 2408.12168.",
        "data": packed(data),
    }
