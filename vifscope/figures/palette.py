"""What drawn and interactive figures share, without importing what either draws with."""

from __future__ import annotations

MAP_COLOURS = "cividis"
"""Of maps: its lightness rises evenly."""

RUNS = ("#7d8894", "#d55e00", "#2a8fcf", "#009e73", "#b3548c", "#a67c00")
"""Colours of runs on pages, light and dark alike, by their place; the first is the baseline's."""


def shortened(name: str, most: int) -> str:
    """A name of at most so many characters; a longer one loses its middle, for names differ at their ends.

    >>> shortened("mini-llava-vif-seed-3", 12)
    'mini-l…eed-3'
    """
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"
