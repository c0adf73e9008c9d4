"""Results that travel: a finished student as a plain transformers folder, with a card that says how honest it is.

>>> from firstlib.card import export_student
>>> export_student(experiment, "first", "csqa", "my-student")  # doctest: +SKIP
"""

from firstlib.card.export import export_student
from firstlib.card.student import Student
from firstlib.card.text import model_card

__all__ = ["Student", "export_student", "model_card"]
