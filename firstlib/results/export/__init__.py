"""Results that travel: a finished student as a plain transformers folder, with a card that says how honest it is.

>>> from firstlib.card import export_student
>>> export_student(experiment, "first", "csqa", "my-student")  # doctest: +SKIP
"""

from firstlib.results.export.card import model_card
from firstlib.results.export.folder import export_student
from firstlib.results.export.student import Student

__all__ = ["Student", "export_student", "model_card"]
