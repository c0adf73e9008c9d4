"""The microworld: a town of sixty people and questions about them, each with its exact posterior."""

from firstlib.tasks.microworld.world import TASKS, World, ask, believe_report, foreign_values, make_world

__all__ = ["TASKS", "World", "ask", "believe_report", "foreign_values", "make_world"]
