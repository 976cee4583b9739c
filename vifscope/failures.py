"""A sample that a model refuses costs itself, not the batch that it is in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from vif_core.errors import SampleError, VifError

Item = TypeVar("Item")
Record = TypeVar("Record")


def spared(
    batch: Sequence[Item],
    measure: Callable[[Sequence[Item]], list[Record]],
    failed: Callable[[Item, Exception], Record],
    least: int = 1,
) -> list[Record]:
    """Records of a batch, in its order; where it fails, of its halves, down to those that fail by themselves.

    least: so many can be measured at the least; fewer than twice that which fail are all recorded as failed.
    Raises what is wrong with more than a sample: a VifError that is no SampleError.

    >>> spared([4, 0, 2], lambda numbers: [8 / n for n in numbers], lambda n, error: f"{n}: {reason(error)}")
    [2.0, '0: ZeroDivisionError: division by zero', 4.0]
    """
    try:
        return measure(batch)
    except Exception as error:
        if isinstance(error, VifError) and not isinstance(error, SampleError):
            raise
        if len(batch) < 2 * least:
            return [failed(each, error) for each in batch]
    half = len(batch) // 2
    return [record for part in (batch[:half], batch[half:]) for record in spared(part, measure, failed, least)]


def reason(error: Exception) -> str:
    """The first line of what an error says, with its name where it is not the project's own."""
    line = (str(error).strip() or "no message").splitlines()[0]
    return line if isinstance(error, SampleError) else f"{type(error).__name__}: {line}"
