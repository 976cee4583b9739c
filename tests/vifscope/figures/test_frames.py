from __future__ import annotations

import numpy as np
import pytest

from vif_core.errors import UsageError
from vifscope.figures import frames


def test_pooled_means_are_means_over_the_measured_samples(run):
    summary = frames.summary_frame(run)
    layers = run.layers()
    wanted = layers.groupby("layer")["box_lift"].mean()
    found = summary[(summary["group"] == "all") & (summary["metric"] == "box_lift")].set_index("layer")
    np.testing.assert_allclose(found["mean"], wanted, rtol=1e-6)
    assert (found["n"] == 24).all()
    assert (found["low"] <= found["mean"]).all()
    assert (found["mean"] <= found["high"]).all()


def test_kinds_follow_the_pool_and_hold_their_own_samples(run):
    summary = frames.summary_frame(run)
    assert summary["group"].unique().tolist() == ["all", "attribute", "count", "relation", "where"]
    assert (summary.loc[summary["group"] == "count", "n"] == 6).all()
    ids = run.samples().query("kind == 'count' and error.isna()")["sample_id"]
    layers = run.layers()
    wanted = layers[layers["sample_id"].isin(ids)].groupby("layer")["visual_ratio"].mean()
    found = summary.query("group == 'count' and metric == 'visual_ratio'")
    np.testing.assert_allclose(found["mean"], wanted, rtol=1e-6)


def test_questions_about_one_image_are_one_unit(records_run):
    """Two samples of one image: nothing to resample, so the interval is the mean."""

    def same_image(records):
        records[1].pictures = records[0].pictures
        return records

    summary = frames.attenuation_frame(records_run(2, change=same_image))
    np.testing.assert_allclose(summary["visual_ratio_low"], summary["visual_ratio_high"])
    apart = frames.attenuation_frame(records_run(2))
    assert (apart["visual_ratio_low"] < apart["visual_ratio_high"]).all()


def test_an_undefined_metric_is_nan_and_counts_no_sample(run_of):
    summary = frames.summary_frame(run_of(3, boxes=False))
    lift = summary[summary["metric"] == "box_lift"]
    assert lift[["mean", "low", "high"]].isna().all(axis=None)
    assert (lift["n"] == 0).all()


@pytest.mark.parametrize(("layers", "deep"), [(16, 4), (32, 8), (1, 1)])
def test_deep_layers_are_the_last_quarter(run_of, layers, deep):
    frame = frames.attenuation_frame(run_of(2, layers=layers))
    assert frame["layer"].tolist() == list(range(layers))
    assert frame.loc[frame["deep"], "layer"].tolist() == list(range(layers - deep, layers))


def test_shares_of_attention_sum_to_one(run):
    np.testing.assert_allclose(frames.shares_frame(run)[list(frames.SHARES)].sum(axis=1), 1, rtol=1e-5)


def test_focus_holds_entropy_and_lift(run):
    frame = frames.focus_frame(run)
    assert frame["relative_entropy"].idxmin() == frame["box_lift"].idxmax() == 7


def uniform(level):
    """Every visual token gets `level` in every row."""

    def change(records):
        for record in records:
            record.flows["raw"].maps[:] = level
        return records

    return change


def test_uniform_weights_are_one_bin_of_the_violin(records_run):
    violins = frames.violin_frame(records_run(2, change=uniform(2e-3)))
    held = violins[violins["share"] > 0]
    assert held["share"].tolist() == [1.0] * 16
    np.testing.assert_allclose(held["weight"], 2e-3, rtol=0.05)  # a bin is a twenty-fifth of a decade


def test_every_sample_counts_the_same_in_a_violin(records_run):
    """Of two samples, one with fewer visual tokens, each holds half of the share."""

    def change(records):
        records[0].flows["raw"].maps[:] = 1e-2
        few = records[1]
        few.flows["raw"].maps = np.full_like(few.flows["raw"].maps[:, :, :9], 1e-4)
        return records

    violins = frames.violin_frame(records_run(2, change=change))
    held = violins[violins["share"] > 0]
    np.testing.assert_allclose(held["share"], 0.5)
    assert len(held) == 32


def test_violins_read_the_measured_rows_alone(records_run):
    def change(records):
        for record in uniform(1e-3)(records):
            record.flows["raw"].maps[:, ~np.asarray(record.sample["measured"])] = 0.5
        return records

    held = frames.violin_frame(records_run(2, change=change)).query("share > 0")
    np.testing.assert_allclose(held["weight"], 1e-3, rtol=0.05)


def test_weights_of_zero_are_counted_at_the_foot(records_run):
    violins = frames.violin_frame(records_run(1, change=uniform(0.0)))
    assert violins.loc[violins["share"] > 0, "weight"].max() < 1.1e-8


def test_density_of_a_violin_is_a_share_a_decade(run):
    violins = frames.violin_frame(run)
    np.testing.assert_allclose(violins.groupby("layer")["density"].sum() / frames.BINS_PER_DECADE, 1, rtol=1e-3)
    np.testing.assert_allclose(violins.groupby("layer")["share"].sum(), 1)


def test_layers_without_attention_have_no_violin(records_run):
    def change(records):
        records[0].flows["raw"].maps[3] = np.nan
        return records

    assert 3 not in frames.violin_frame(records_run(1, change=change))["layer"].tolist()


def test_samples_without_a_measured_row_have_no_weights(records_run):
    def change(records):
        records[0].sample["measured"] = np.zeros(6, dtype=bool)
        return records

    with pytest.raises(UsageError, match="holds no measured sample with map 'raw' on visual tokens"):
        frames.violin_frame(records_run(1, change=change))


def test_a_kind_of_map_that_the_run_lacks_is_named(run):
    with pytest.raises(UsageError, match="with map 'vif' on visual tokens; expected at least one"):
        frames.summary_frame(run, "vif")


GRID = {"frame": "image", "image": 0, "rows": 2, "cols": 3, "offset": 0, "stride": 3, "rect_px": [0, 0, 60, 40]}


def test_a_uniform_map_is_one_everywhere():
    shown = frames.map_on_image(np.full(6, 0.01), [GRID], (60, 40))
    assert shown.shape == (160, 240)
    np.testing.assert_allclose(shown, 1)


def test_a_token_lies_where_its_footprint_is():
    shown = frames.map_on_image(np.eye(6)[4], [GRID], (60, 40))  # row 1, column 1
    np.testing.assert_allclose(shown[80:, 80:160], 6)
    assert shown.sum() == pytest.approx(shown.size)
    assert np.count_nonzero(shown) == 80 * 80


def test_newline_tokens_are_left_out():
    weights = np.array([1, 1, 1, 99, 1, 1, 1, 99], dtype=float)
    shown = frames.map_on_image(weights, [GRID | {"stride": 4}], (60, 40))
    np.testing.assert_allclose(shown, 1)


def test_tiles_and_thumbnail_add_up():
    tiles = [
        GRID
        | {"frame": "tile", "rows": 1, "cols": 1, "stride": 1, "offset": i, "rect_px": [30 * i, 0, 30 * i + 30, 40]}
        for i in range(2)
    ]
    thumbnail = GRID | {"frame": "thumbnail", "rows": 1, "cols": 1, "stride": 1, "offset": 2}
    shown = frames.map_on_image(np.array([0.5, 0.0, 0.5]), [*tiles, thumbnail], (60, 40))
    np.testing.assert_allclose(shown[:, :120], 1.5)
    np.testing.assert_allclose(shown[:, 120:], 0.5)


def test_a_map_is_undefined_where_no_token_looks_and_other_images_do_not_count():
    centre = GRID | {"rect_px": [20, 0, 40, 40]}
    shown = frames.map_on_image(np.ones(6), [centre, GRID | {"image": 1}], (60, 40))
    assert np.isnan(shown[:, :80]).all()
    np.testing.assert_allclose(shown[:, 80:160], 1)


def test_a_layer_that_sees_no_visual_token_has_no_map():
    """A sliding window may leave the image out; a layer without attention is NaN."""
    assert np.isnan(frames.map_on_image(np.zeros(6), [GRID], (60, 40))).all()
    assert np.isnan(frames.map_on_image(np.full(6, np.nan), [GRID], (60, 40))).all()


def test_the_strip_shows_the_first_sample_of_each_frequent_kind_in_six_layers(run):
    strip = frames.map_strip(run)
    assert sorted(strip["sample_id"].unique()) == ["s000", "s001", "s002", "s003"]
    assert strip["layer"].unique().tolist() == [0, 3, 6, 9, 12, 15]
    flow = run.flow("s001")[6, -2:].mean(0).reshape(12, 12)
    shown = strip.query("sample_id == 's001' and layer == 6")["map"].iloc[0]
    np.testing.assert_allclose(shown[10::20, 10::20], flow / flow.mean(), rtol=1e-4)


def test_the_strip_leaves_out_layers_without_attention(records_run):
    def change(records):
        for record in records:
            record.flows["raw"].maps[::2] = np.nan
        return records

    assert frames.map_strip(records_run(2, change=change))["layer"].unique().tolist() == [1, 3, 7, 9, 13, 15]


def test_the_strip_takes_samples_and_layers(run):
    strip = frames.map_strip(run, ["s007", "s002"], [15, 1])
    assert list(zip(strip["sample_id"], strip["layer"], strict=True)) == [
        ("s007", 15),
        ("s007", 1),
        ("s002", 15),
        ("s002", 1),
    ]


def test_a_sample_without_a_map_is_refused(run, run_of):
    with pytest.raises(UsageError, match=r"no map of sample s024; expected a measured sample whose visual tokens"):
        frames.map_strip(run, ["s024"])
    with pytest.raises(UsageError, match="has no maps to draw; expected measured samples"):
        frames.map_strip(run_of(2, grid=False))
