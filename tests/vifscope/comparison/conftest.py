"""Two synthetic runs: a model, and the same with a map injected into the layers 11, 13 and 15."""

from __future__ import annotations

import pytest

from vifscope.comparison import Comparison
from vifscope.runs import RunStore

PAIRS = ((6, 11), (7, 13), (8, 15))
"""Of 16 layers, the last four are deep: 13 and 15 of them are injected, 12 and 14 are not."""


@pytest.fixture(scope="session")
def baseline(run_of) -> RunStore:
    """Samples 0 to 23."""
    return run_of(24, model="mini-llava")


@pytest.fixture(scope="session")
def with_vif(run_of) -> RunStore:
    """Samples 2 to 25."""
    return run_of(24, first=2, model="mini-llava-vif", pairs=PAIRS)


@pytest.fixture(scope="session")
def comparison(baseline, with_vif) -> Comparison:
    return Comparison([baseline, with_vif])
