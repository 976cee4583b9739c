from __future__ import annotations

import math

import numpy as np
import pytest

from vifscope.metrics.attenuation import attenuation_index, deep_layers


@pytest.mark.parametrize(("layers", "first"), [(1, 0), (2, 1), (4, 3), (7, 6), (16, 12), (32, 24)])
def test_deep_layers_are_the_last_quarter_and_at_least_one(layers, first):
    assert deep_layers(layers) == range(first, layers)


def test_a_ratio_that_never_falls_has_index_one():
    assert attenuation_index(np.full(16, 0.3)) == pytest.approx(1)


def test_a_ratio_that_falls_to_nothing_has_index_zero():
    assert attenuation_index(np.repeat([0.9, 0.4, 0.1, 0.0], 4)) == 0


def test_the_deep_mean_is_held_against_the_peak():
    assert attenuation_index(np.array([0.1, 0.8, 0.5, 0.5, 0.5, 0.5, 0.3, 0.1])) == pytest.approx(0.25)


def test_layers_without_attention_are_left_out():
    assert attenuation_index(np.array([np.nan, 0.8, 0.5, 0.5, 0.5, 0.5, np.nan, 0.2])) == pytest.approx(0.25)


@pytest.mark.parametrize("ratio", [np.zeros(8), np.full(8, np.nan), np.array([0.5, 0.5, 0.5, np.nan])])
def test_the_index_is_undefined_without_a_peak_or_a_deep_layer(ratio):
    assert math.isnan(attenuation_index(ratio))
