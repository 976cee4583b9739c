"""One sample that fails is found by halves, and the others are measured together."""

from __future__ import annotations

import pytest

from vif_core.errors import SampleError, UsageError, VifError
from vifscope.failures import reason, spared


def measured(batch, bad, least=1):
    """Records of a batch in which some fail, and the batches that were tried."""
    tried = []

    def measure(some):
        tried.append(list(some))
        if bad & set(some):
            raise RuntimeError("refused")
        return [f"{each} of {len(some)}" for each in some]

    return spared(batch, measure, lambda each, error: f"{each}: {error}", least), tried


def test_what_fails_by_itself_is_recorded_and_the_order_kept():
    records, tried = measured(list(range(8)), {5})
    assert records == [*(f"{i} of 4" for i in range(4)), "4 of 1", "5: refused", "6 of 2", "7 of 2"]
    assert len(tried) == 7


def test_a_batch_that_is_well_is_measured_once():
    assert measured([1, 2], set()) == (["1 of 2", "2 of 2"], [[1, 2]])


@pytest.mark.parametrize(("n", "lost"), [(2, 2), (3, 3), (4, 2), (5, 2), (8, 2)])
def test_fewer_than_the_least_are_never_measured(n, lost):
    records, tried = measured(list(range(n)), {0}, least=2)
    assert min(map(len, tried)) >= 2
    assert sum("refused" in record for record in records) == lost


def test_what_is_wrong_with_more_than_a_sample_ends_it():
    def refuse(_):
        raise UsageError("no such layer")

    with pytest.raises(VifError, match="no such layer"):
        spared([1, 2], refuse, lambda *_: None)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SampleError("no grid"), "no grid."),
        (ValueError("too long\nby far"), "ValueError: too long"),
        (KeyError(), "KeyError: no message"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_first_line_of_an_error_is_its_reason(error, told):
    assert reason(error) == told
