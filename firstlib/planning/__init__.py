"""Estimates the memory, storage and time of a run before it starts: `first plan`."""
