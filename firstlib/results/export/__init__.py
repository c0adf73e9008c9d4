"""Exports a finished student as a plain transformers folder, with a model card that states how well calibrated it is.

>>> from firstlib.results.export import export_student
>>> export_student(experiment, "first", "csqa", "my-student")  # doctest: +SKIP
"""

from firstlib.results.export.card import model_card
from firstlib.results.export.folder import export_student
from firstlib.results.export.student import ExportedStudent

__all__ = ["ExportedStudent", "export_student", "model_card"]
