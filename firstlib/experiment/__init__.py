"""A preset under one seed, from which every stage of the paper can be asked by name."""

from firstlib.experiment.experiment import Experiment

__all__ = ["Experiment"]
