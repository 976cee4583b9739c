"""Tables and numbers of a model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """
    >>> print(table(["kind", "n"], [["count", 3]]))
    | kind | n |
    | --- | --- |
    | count | 3 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def share(value: float | None) -> str:
    """A share of 1; "" where it is unknown."""
    return "" if value is None else f"{value:.3f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
