"""Errors that a user can act on: what was seen, what was expected, the next step, in one line."""

from __future__ import annotations


class VifError(Exception):
    """One clear line for the user; `exit_code` is what a command returns for it.

    >>> print(VifError("grid 3x3 has 9 cells but the prompt holds 8 visual tokens", expected="equal counts"))
    grid 3x3 has 9 cells but the prompt holds 8 visual tokens; expected equal counts.
    """

    exit_code = 1

    def __init__(self, seen: str, *, expected: str = "", next_step: str = "") -> None:
        line = seen.rstrip(".")
        if expected:
            line += f"; expected {expected.rstrip('.')}"
        line += "."
        if next_step:
            line += f" {next_step.rstrip('.')}."
        super().__init__(" ".join(line.split()))


class UsageError(VifError):
    """The request itself cannot be met: wrong option, wrong path, a run with another configuration."""

    exit_code = 2


class SampleError(VifError):
    """One sample cannot be used; it is recorded with this line and the run goes on."""


class GridMismatch(SampleError):
    """The number of visual tokens and the grid disagree; the line shows both numbers."""


class UnsupportedModel(VifError):
    """A model whose attention or visual tokens cannot be found; the line names what is missing."""
