"""A town of sixty people and what can be asked about them; every question carries its exact posterior."""

from firstlib.tasks.microworld.world import TASKS, World, ask, believe_report, foreign_values, make_world

__all__ = ["TASKS", "World", "ask", "believe_report", "foreign_values", "make_world"]
