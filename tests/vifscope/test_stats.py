from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from vifscope.stats import (
    bootstrap_mean,
    bootstrap_seeds,
    groups_difference,
    holm,
    paired_difference,
    seeds_difference,
    sign_test,
)


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


def test_one_image_has_a_mean_and_no_interval_however_many_questions():
    values, image, chosen = draws(6, 2), np.zeros(6), np.arange(6) < 3
    values[3:, 1] = np.nan
    change, seeds = (
        paired_difference(values, values + 1, image),
        seeds_difference(values[None], values[None] + 1, image),
    )
    for found in (bootstrap_mean(values, image), change.difference, change.percent, seeds.difference, seeds.percent):
        assert np.isfinite(found.mean).all()
        assert np.isnan([found.low, found.high]).all()
    assert np.isnan(bootstrap_seeds(draws(5, 4), np.zeros(4))).tolist() == [False, True, True]
    assert np.isnan(groups_difference(values[:, 0], chosen, np.where(chosen, 0, np.arange(6))).low)


def test_a_column_that_one_image_alone_defines_has_no_interval_and_the_others_have():
    values = draws(20, 2)
    values[1:, 1] = np.nan
    low = bootstrap_mean(values).low
    assert np.isnan(low).tolist() == [False, True]


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


def test_a_constant_difference_has_an_interval_of_no_width_and_the_least_p():
    first = draws(8)
    change = paired_difference(first, first + 0.25)
    assert change.difference == pytest.approx((0.25, 0.25, 0.25))
    assert change.second - change.first == pytest.approx(0.25)
    assert change.p == pytest.approx(2 / 2**8)  # all eight signs agree


def test_a_constant_factor_is_that_percentage_whatever_is_drawn():
    first = np.exp(draws(30))
    assert paired_difference(first, 0.6 * first).percent == pytest.approx((-40, -40, -40))


def test_no_difference_is_no_finding():
    change = paired_difference(draws(20), draws(20))
    assert change.difference == (0, 0, 0)
    assert change.p == 1


def test_rounding_is_no_difference():
    first = draws(200)
    change = paired_difference(first, first * (1 + 1e-6))
    assert (change.difference.mean, change.p) == (0, 1)


def test_the_difference_of_pairs_is_the_mean_of_their_differences_with_its_interval():
    first, second = draws(60, 2).T
    change, alone = paired_difference(first, second), bootstrap_mean(second - first)
    assert np.allclose(change.difference, alone)
    assert change.n == 60


def test_pairing_tells_a_small_change_from_large_spread():
    first = 100 * draws(50)
    change = paired_difference(first, first + 1 + 0.1 * draws(50, 2)[:, 1])
    assert change.difference.low > 0.9
    assert change.p < 1e-8


def test_a_pair_counts_where_both_are_defined():
    first, second = draws(10, 2).T
    holed_first, holed_second = first.copy(), second.copy()
    holed_first[:2], holed_second[2:4] = np.nan, np.nan
    change, kept = paired_difference(holed_first, holed_second), paired_difference(first[4:], second[4:])
    assert change.n == 6
    assert np.allclose([change.first, change.second, change.p], [kept.first, kept.second, kept.p])


def test_questions_about_one_image_are_one_observation():
    first, second = draws(12, 2).T
    images = np.repeat(np.arange(12), 5)
    by_image = paired_difference(np.repeat(first, 5), np.repeat(second, 5), images)
    alone = paired_difference(first, second)
    assert by_image.p == pytest.approx(alone.p)
    assert np.allclose(by_image.difference, alone.difference)


def test_what_has_no_pairs_is_undefined():
    change = paired_difference(np.array([[1.0, np.nan]]), np.array([[np.nan, 1.0]]))
    assert change.n.tolist() == [0, 0]
    assert np.isnan([change.first, change.difference.mean, change.percent.low, change.p]).all()
    assert np.isnan(paired_difference(np.empty((0, 2)), np.empty((0, 2))).difference.mean).all()


def test_a_change_from_nothing_has_no_percentage():
    change = paired_difference(np.zeros(5), np.ones(5))
    assert change.difference.mean == 1
    assert np.isnan(change.percent).all()


def test_shapes_of_pairs_follow_the_values():
    change = paired_difference(draws(9, 4, 3), draws(9, 4, 3) + 1)
    assert {
        np.shape(part) for part in (change.n, change.first, change.difference.low, change.percent.high, change.p)
    } == {(4, 3)}


def test_holm_multiplies_the_least_by_all_and_never_falls():
    assert holm(np.array([0.02, 0.01, 0.5])) == pytest.approx([0.04, 0.03, 0.5])
    assert holm(np.array([0.01, 0.011])) == pytest.approx([0.02, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])


def test_undefined_tests_do_not_enter_the_correction():
    assert holm(np.array([np.nan, 0.01, np.nan, 0.04])) == pytest.approx([np.nan, 0.02, np.nan, 0.04], nan_ok=True)


def test_the_sign_test_is_a_fair_coin_over_the_pairs_that_differ():
    first = np.array([True] * 9 + [False] * 2 + [True] * 50 + [False] * 7)
    second = np.array([False] * 9 + [True] * 2 + [True] * 50 + [False] * 7)
    lost, gained, p = sign_test(first, second)
    assert (lost, gained) == (9, 2)
    assert p == pytest.approx(2 * binom.cdf(2, 11, 0.5))


def test_answers_that_agree_are_no_finding():
    assert sign_test(np.array([True, False]), np.array([True, False])) == (0, 0, 1.0)
    assert np.isnan(sign_test(np.array([]), np.array([])).p)


def test_an_extra_question_about_one_picture_leaves_the_sign_test_exact():
    """Of 200 pictures four are won and none lost: 2 / 2^4. A normal approximation would say 0.0455."""
    first, second = np.ones(200), np.ones(200)
    first[:4] = 0
    units = np.arange(200)
    assert sign_test(first, second, units) == (0, 4, 0.125)
    assert sign_test(np.append(first, 1), np.append(second, 1), np.append(units, 199)) == (0, 4, 0.125)


def test_a_picture_counts_once_in_the_sign_test_and_by_its_net_change():
    """Picture 0 gains two of three questions and loses one, picture 1 loses and gains one, pictures 2 and 3 gain."""
    first = np.array([0, 0, 1, 1, 0, 0, 0], dtype=bool)
    second = ~first
    assert sign_test(first, second, np.array([0, 0, 0, 1, 1, 2, 3])) == (2, 5, 0.25)


def test_seeds_that_agree_give_the_interval_over_images():
    values = draws(60, 2)
    units = np.repeat(np.arange(30), 2)
    assert np.allclose(bootstrap_seeds(np.stack([values] * 4), units), bootstrap_mean(values, units))
    assert np.allclose(bootstrap_seeds(values[None], units), bootstrap_mean(values, units))


def test_images_that_agree_give_the_interval_over_seeds():
    of_seed = draws(40)
    mean, low, high = bootstrap_seeds(np.repeat(of_seed[:, None], 7, axis=1))
    half = norm.ppf(0.975) * of_seed.std() / np.sqrt(40)
    assert (mean, low, high) == pytest.approx((of_seed.mean(), of_seed.mean() - half, of_seed.mean() + half), abs=0.05)


def test_variances_of_seeds_and_images_add_up():
    seeds, images = draws(50), np.random.default_rng(1).normal(size=80)
    found = bootstrap_seeds(seeds[:, None] + images, n_boot=4000)
    half = norm.ppf(0.975) * np.sqrt(seeds.var() / 50 + images.var() / 80)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_a_constant_difference_of_seeds_and_images_is_certain_however_these_vary():
    first = 4 + draws(5, 30)
    change = seeds_difference(first, first - 0.5)
    assert change.difference == pytest.approx((-0.5, -0.5, -0.5))
    assert change.second.mean == pytest.approx(change.first.mean - 0.5)
    assert change.percent.mean == pytest.approx(-50 / first.mean())
    assert change.percent.low < change.percent.mean < change.percent.high


def test_a_pair_of_seeds_with_an_undefined_side_counts_on_neither():
    first, second = draws(3, 20), draws(3, 20) + 1
    second[1, :5] = np.nan
    known = ~np.isnan(second)
    change = seeds_difference(first, second)
    assert change.first.mean == pytest.approx(first[known].mean())
    assert change.difference.mean == pytest.approx((second - first)[known].mean())
    assert np.isnan(seeds_difference(first, np.full((3, 20), np.nan)).difference).all()


def test_differences_between_seeds_keep_the_shape_of_layers():
    change = seeds_difference(draws(2, 9, 4), draws(2, 9, 4) * 2)
    assert change.difference.low.shape == change.percent.mean.shape == (4,)
    alone = seeds_difference(draws(2, 9, 4)[..., 1], draws(2, 9, 4)[..., 1] * 2)
    assert change.difference.high[1] == pytest.approx(alone.difference.high)


def test_a_difference_of_groups_is_that_of_their_means():
    values, chosen = np.array([1.0, 3.0, 5.0, np.nan, 2.0]), np.array([True, True, False, False, False])
    found = groups_difference(values, chosen)
    assert found.mean == pytest.approx(2 - 3.5)
    assert found.low < found.mean < found.high


def test_its_interval_draws_both_groups_of_an_image_together():
    values = np.repeat([0.0, 4.0], 2) + np.tile([1.0, 0.0], 2)  # each image gives one sample to each group
    found = groups_difference(values, np.tile([True, False], 2), units=np.array(["a", "a", "b", "b"]))
    assert found == pytest.approx((1, 1, 1)), "which image is drawn does not matter"


def test_an_empty_group_gives_no_difference():
    assert np.isnan(groups_difference(np.ones(3), np.zeros(3, dtype=bool))).all()
