"""Places in words, as cells of a grid: "row-3 column-2 to row-5 column-4", or "rows 3 to 5 columns 2 to 4"."""

from __future__ import annotations

import re

from vif_core.data.sample import Box

_SPAN = re.compile(r"\b(row|column)s?[\s-]*(\d+)(?:\s+to\s+(\d+))?", re.IGNORECASE)


def read_cells(text: str) -> Box | None:
    """The first place that a text names, as a box whose unit is the cell, first and last included; None without one.

    >>> read_cells("row-3 column-2 to row-5 column-4") == read_cells("rows 3 to 5 columns 2 to 4") == (1, 2, 4, 5)
    True
    """
    named: dict[str, list[int]] = {"row": [], "column": []}
    for axis, first, last in _SPAN.findall(text):
        named[axis.lower()] += [int(first), *([int(last)] if last else [])]
    rows, columns = named["row"][:2], named["column"][:2]
    if not rows or not columns:
        return None
    return min(columns) - 1.0, min(rows) - 1.0, float(max(columns)), float(max(rows))
