"""The figures: numbers in, plotly figure out, nothing computed beyond the layout.

Each is made for a column 700 pixels wide, and can be read in grey. `show` is for a notebook's cell, `write`
for files; the look that all share is in `display`.
"""

from firstlib.figures.calibration import SHARES, reliability_diagrams
from firstlib.figures.coefficients import coefficient_effect, coefficient_search
from firstlib.figures.knowledge import coverage, disk_use, kept_mass, rank_probabilities, top_tokens
from firstlib.figures.methods import Scored, before_after, case_study, losses, trust_plane
from firstlib.figures.output import show, write

__all__ = [
    "SHARES",
    "Scored",
    "before_after",
    "case_study",
    "coefficient_effect",
    "coefficient_search",
    "coverage",
    "disk_use",
    "kept_mass",
    "losses",
    "rank_probabilities",
    "reliability_diagrams",
    "show",
    "top_tokens",
    "trust_plane",
    "write",
]
