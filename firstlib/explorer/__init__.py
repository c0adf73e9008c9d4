"""The temperature explorer: a slider for the coefficient, and what it does to a model's calibration.

`compute(source, state)` is pure: the widget and the report's page show what it returns, and nothing else.
"""

from firstlib.explorer.source import ExperimentSource, ExplorerSource, QuestionText
from firstlib.explorer.state import State, positions
from firstlib.explorer.view import ExampleView, View, compute
from firstlib.explorer.widget import TemperatureExplorer, starting, static

__all__ = [
    "ExampleView",
    "ExperimentSource",
    "ExplorerSource",
    "QuestionText",
    "State",
    "TemperatureExplorer",
    "View",
    "compute",
    "positions",
    "starting",
    "static",
]
