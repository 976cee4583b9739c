"""Numbers that users give, in one line where they are wrong."""

from __future__ import annotations

from math import isfinite
from typing import Any

from vif_core.errors import UsageError


def check_number(name: str, value: Any, least: float, most: float | None = None, *, above: bool = False) -> None:
    """Raises UsageError unless value is a finite number in [least, most], or above least."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not fits or value < least or (above and value == least) or (most is not None and value > most):
        upper = "" if most is None else f" and at most {most}"
        raise UsageError(
            f"{name} is {value!r}",
            expected=f"a number {'above' if above else 'of at least'} {least}{upper}, as in 3.0e-4",
        )


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises UsageError unless value is a whole number from least on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name} is {value!r}", expected=f"a whole number, {least} or more")
