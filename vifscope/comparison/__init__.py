"""Runs of the same data held against one another, sample by sample: numbers, words, figures. No torch."""

from vifscope.comparison.comparison import Comparison

__all__ = ["Comparison"]
