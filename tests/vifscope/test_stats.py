from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from vifscope.stats import bootstrap_mean


def draws(n: int, *columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *columns))


def test_the_interval_of_a_normal_mean_is_the_textbooks():
    values = draws(400)
    mean, low, high = bootstrap_mean(values)
    half = norm.ppf(0.975) * values.std() / np.sqrt(400)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_constant_values_have_an_interval_of_no_width():
    assert bootstrap_mean(np.full((10, 3), 0.5)).low == pytest.approx([0.5] * 3)
    assert bootstrap_mean(np.full((10, 3), 0.5)).high == pytest.approx([0.5] * 3)


def test_samples_of_one_image_are_drawn_together():
    values = np.repeat(draws(50), 8)
    by_image = bootstrap_mean(values, np.repeat(np.arange(50), 8))
    by_sample = bootstrap_mean(values)
    alone = bootstrap_mean(values[::8])
    assert by_image.high - by_image.low == pytest.approx(alone.high - alone.low)
    assert by_image.high - by_image.low > 2 * (by_sample.high - by_sample.low)


def test_undefined_values_are_left_out():
    values = draws(30, 2)
    holed = np.concatenate([values, np.full((20, 2), np.nan)])
    assert bootstrap_mean(holed).mean == pytest.approx(values.mean(0))
    assert np.isfinite(bootstrap_mean(holed)).all()


def test_a_column_without_a_value_is_undefined_and_the_others_stand():
    values = draws(20, 2)
    values[:, 1] = np.nan
    mean, low, high = bootstrap_mean(values)
    assert np.isnan([mean[1], low[1], high[1]]).all()
    assert low[0] < mean[0] < high[0]


def test_no_samples_give_undefined_means():
    assert np.isnan(bootstrap_mean(np.empty((0, 3)))).all()


def test_shapes_follow_the_values_and_the_order_of_units_does_not_matter():
    values = draws(40, 4, 3)
    names = np.array([f"image-{i // 2}" for i in range(40)])
    there, back = bootstrap_mean(values, names), bootstrap_mean(values[::-1], names[::-1])
    assert there.mean.shape == (4, 3)
    assert np.allclose(there, back)


def test_the_same_seed_gives_the_same_interval():
    assert np.array_equal(bootstrap_mean(draws(20), seed=3), bootstrap_mean(draws(20), seed=3))
    assert not np.array_equal(bootstrap_mean(draws(20), seed=3), bootstrap_mean(draws(20), seed=4))
