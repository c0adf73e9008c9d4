"""Figures: each function takes numbers and returns a plotly figure; it computes nothing but the layout.

Every figure is 700 pixels wide and can be read without colour. Series are named by method, data set or any other text;
a name has the same look in every figure. `show` displays a figure in a notebook cell, and `write` saves it to files.
"""

from firstlib.figures.benefit import Gain, benefit_map, gain_by_size
from firstlib.figures.calibration import SHARES, reliability_diagrams
from firstlib.figures.coefficients import coefficient_effect, coefficient_search
from firstlib.figures.knowledge import coverage, disk_use, kept_mass, rank_probabilities, top_tokens
from firstlib.figures.methods import Scored, before_after, case_study, losses, trust_plane
from firstlib.figures.output import show, write
from firstlib.figures.selective import selective_accuracy

__all__ = [
    "SHARES",
    "Gain",
    "Scored",
    "before_after",
    "benefit_map",
    "case_study",
    "coefficient_effect",
    "coefficient_search",
    "coverage",
    "disk_use",
    "gain_by_size",
    "kept_mass",
    "losses",
    "rank_probabilities",
    "reliability_diagrams",
    "selective_accuracy",
    "show",
    "top_tokens",
    "trust_plane",
    "write",
]
