"""Passes that a shot lacks, made from its pictures once and kept beside it (docs/estimates.md)."""

from pipeline.estimate.flow import dis_flow, ways_between
from pipeline.estimate.make import make_estimates
from pipeline.estimate.place import with_finished
from pipeline.estimate.values import METHODS, USUAL, Estimate, choose

__all__ = [
    "METHODS",
    "USUAL",
    "Estimate",
    "choose",
    "dis_flow",
    "make_estimates",
    "ways_between",
    "with_finished",
]
