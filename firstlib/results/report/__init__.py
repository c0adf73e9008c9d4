"""The run's report: one HTML file with results, explorer, figures and provenance."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firstlib.results.report.page import REPORT, write_report

__all__ = ["REPORT", "write_report"]


def __getattr__(name: str) -> Any:
    """Imports `page` when it is first used: worker processes import `cells` from this package, and no torch."""
    if name in __all__:
        from firstlib.results.report import page

        return getattr(page, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
