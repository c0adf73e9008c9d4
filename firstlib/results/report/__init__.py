"""The run's report: results beside the paper's, the explorer, figures and record in one HTML file."""

from firstlib.results.comparison import Compared, compare, terminal_table
from firstlib.results.report.page import REPORT, write_report

__all__ = ["REPORT", "Compared", "compare", "terminal_table", "write_report"]
