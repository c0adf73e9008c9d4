"""Tables of calibration measures, for the report and for audits."""

from collections.abc import Mapping

from firstlib.evaluation.audit.calibration_errors import CalibrationErrors
from firstlib.figures.style import name_of
from firstlib.results.markup import html_table

MEASURES = (
    "<i>Equal mass</i>: bins that hold equally many answers. <i>Debiased</i>: root mean square over such bins, "
    "corrected for chance (Kumar et al. 2019). <i>Smooth</i>: a Gaussian kernel instead of bins (Blasiok and Nakkiran "
    "2023). <i>Maximum</i>: the largest gap of any bin."
)
CLASSWISE = (
    "<i>Class-wise</i>: mean ECE of the probabilities for the first, the second, ... candidate (Kull et al. 2019)."
)
BRIER = (
    "The Brier score of the predicted answer is the sum of <i>calibration</i>, which recalibration can remove, "
    "<i>refinement</i>, which it cannot, and a <i>remainder</i> from within the bins."
)
CONVENTIONS = (
    "In percent. Libraries differ in which bin holds a confidence on an edge. The numbers agree unless a confidence "
    "lies on an edge, or within a rounding error of it."
)


def measures_table(found: Mapping[str, CalibrationErrors], first: str) -> str:
    """Returns a line of calibration errors in percent for each model; `first` heads the column of their names."""
    classwise = ["class-wise"] if all(one.classwise_ece is not None for one in found.values()) else []
    head = (first, "ECE", "equal mass", "debiased", "smooth", "maximum", *classwise,
            "Brier", "calibration", "refinement", "remainder")  # fmt: skip
    return html_table(head, [[name_of(name), *_measures_row(one, bool(classwise))] for name, one in found.items()])


def _measures_row(one: CalibrationErrors, classwise: bool) -> list[str]:
    errors = [one.ece, one.equal_mass_ece, one.debiased_ece, one.smooth_ece, one.mce]
    errors += [one.classwise_ece] if one.classwise_ece is not None and classwise else []
    brier = one.brier
    parts = (brier.total, brier.calibration, brier.refinement, brier.remainder)
    return [*(f"{100 * error:.1f}" for error in errors), *(f"{part + 0.0:.4f}" for part in parts)]


def conventions_table(found: Mapping[str, CalibrationErrors], first: str) -> str:
    """Returns a line for each model: its ECE in percent, by the library whose convention it follows."""
    libraries = list(next(iter(found.values())).conventions)
    rows = [[name_of(name), *(f"{100 * one.conventions[library]:.2f}" for library in libraries)]
            for name, one in found.items()]  # fmt: skip
    return html_table([first, *libraries], rows)
