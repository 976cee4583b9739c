"""Rows come in one order, whoever asks and whenever; what cannot be used is replaced and counted."""

from __future__ import annotations

import numpy as np
import pytest

from vif_core.errors import SampleError, VifError
from vif_core.train.rows import Mixture, TrainingRow


def row(number):
    empty = np.zeros(1, np.int64)
    return TrainingRow(np.array([number]), empty, empty, empty, empty, empty, (empty, empty))


class Numbers:
    """Rows that hold their index; those in `bad` cannot be used."""

    def __init__(self, length, bad=(), name="numbers"):
        self.length, self.bad, self.name = length, bad, name

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.bad:
            raise SampleError(f"row {index} is bad")
        return row(index)


def numbers(mixture):
    return [int(mixture[i].input_ids[0]) for i in range(len(mixture))]


def mixed(*sources, shares=None, length=30, seed=1, phase=0):
    return Mixture(sources, shares or [None] * len(sources), seed=seed, phase=phase, length=length)


def test_every_row_comes_once_before_any_comes_again():
    order = numbers(mixed(Numbers(10)))
    assert all(sorted(order[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert order[:10] != order[10:20], "shuffled anew"


def test_a_row_depends_on_seed_phase_and_index_alone():
    order = numbers(mixed(Numbers(10), Numbers(5)))
    again = mixed(Numbers(10), Numbers(5))
    assert [int(again[i].input_ids[0]) for i in reversed(range(30))] == order[::-1]
    assert numbers(mixed(Numbers(10), Numbers(5), seed=2)) != order
    assert numbers(mixed(Numbers(10), Numbers(5), phase=1)) != order


def test_without_shares_sources_count_by_their_rows():
    source = mixed(Numbers(300), Numbers(100), length=400).source
    assert 0.2 < (source == 1).mean() < 0.3


def test_shares_are_kept():
    source = mixed(Numbers(300), Numbers(0), shares=[0.2, 0.8], length=1000).source
    assert 0.75 < (source == 1).mean() < 0.85


def test_an_endless_source_is_asked_for_one_row_after_another():
    assert numbers(mixed(Numbers(0), shares=[1.0], length=5)) == [0, 1, 2, 3, 4]


def test_rows_that_cannot_be_used_are_replaced_and_counted():
    mixture = mixed(Numbers(10, bad=(3, 4)), length=10)
    rows = [mixture[i] for i in range(10)]
    assert {3, 4}.isdisjoint(int(each.input_ids[0]) for each in rows)
    assert sum(each.skipped > 0 for each in rows) == 2


def test_a_source_without_any_usable_row_is_an_error_with_the_first_cause():
    with pytest.raises(
        VifError, match=r"100 rows of numbers, one after another, cannot be used; the first: row \d is bad"
    ):
        mixed(Numbers(4, bad=range(4)))[0]
