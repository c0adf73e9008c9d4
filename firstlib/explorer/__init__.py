"""What is explored by hand: the temperature, against a model's calibration; and single questions.

`compute(source, state)` is pure: the explorer and the report's page show what it returns, and nothing else.
"""

from firstlib.explorer.question_widget import QuestionAsker
from firstlib.explorer.source import ExperimentSource, ExplorerSource, QuestionText
from firstlib.explorer.state import State, positions
from firstlib.explorer.view import ExampleView, View, compute
from firstlib.explorer.widget import TemperatureExplorer, starting, static

__all__ = [
    "ExampleView",
    "ExperimentSource",
    "ExplorerSource",
    "QuestionAsker",
    "QuestionText",
    "State",
    "TemperatureExplorer",
    "View",
    "compute",
    "positions",
    "starting",
    "static",
]
