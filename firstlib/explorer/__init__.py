"""The temperature explorer: move the coefficient, and see what a model's honesty does.

`compute(source, state)` is pure: what the widget and the report's page show is what it returns, no more.
"""

from firstlib.explorer.source import ArraySource, Asked, ExperimentSource, Source
from firstlib.explorer.state import State, positions
from firstlib.explorer.view import Example, View, compute
from firstlib.explorer.widget import TemperatureExplorer, starting, static

__all__ = [
    "ArraySource",
    "Asked",
    "Example",
    "ExperimentSource",
    "Source",
    "State",
    "TemperatureExplorer",
    "View",
    "compute",
    "positions",
    "starting",
    "static",
]
