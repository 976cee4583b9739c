from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from vifscope.figures import frames, static
from vifscope.figures.theme import COLUMN_IN, DARK, LIGHT, TEXT_IN


@pytest.fixture(scope="module")
def drawn(run):
    return draw_all(run)


@pytest.fixture(scope="module", params=[1, 16, 32], ids=["one layer", "16 layers", "32 layers"])
def any_depth(request, run_of):
    return run_of(3, layers=request.param)


def draw_all(run, theme=LIGHT):
    attenuation = frames.attenuation_frame(run)
    return {
        "attenuation": static.attenuation_figure(attenuation, theme=theme),
        "focus": static.focus_figure(frames.focus_frame(run), theme=theme),
        "shares": static.shares_figure(frames.shares_frame(run), theme=theme),
        "violins": static.violin_figure(frames.violin_frame(run), attenuation, theme=theme),
        "violins in a column": static.violin_figure(
            frames.violin_frame(run), attenuation, theme=theme, width_in=COLUMN_IN
        ),
    }


def test_nothing_is_cut_and_nothing_overlaps(any_depth, assert_legible):
    for figure in draw_all(any_depth, DARK).values():
        assert_legible(figure)


def test_figures_are_as_wide_as_a_column_or_the_text(drawn):
    widths = {name: figure.get_size_inches()[0] for name, figure in drawn.items()}
    assert widths["attenuation"] == widths["focus"] == widths["shares"] == widths["violins in a column"] == COLUMN_IN
    assert widths["violins"] == TEXT_IN


def test_the_curve_is_the_frame(run):
    frame = frames.attenuation_frame(run)
    ratio, lift = static.attenuation_figure(frame).axes
    for axes, metric in ((ratio, "visual_ratio"), (lift, "ratio_lift")):
        (layer, value) = axes.lines[0].get_data()
        np.testing.assert_array_equal(layer, frame["layer"])
        np.testing.assert_allclose(value, frame[metric])
        band = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert band.min() == pytest.approx(frame[f"{metric}_low"].min())
        assert band.max() == pytest.approx(frame[f"{metric}_high"].max())
    assert (ratio.get_ylabel(), lift.get_ylabel()) == ("visual ratio", "ratio lift")


def test_deep_layers_are_shaded_and_named(run):
    ratio, _ = static.attenuation_figure(frames.attenuation_frame(run)).axes
    assert ratio.patches[0].get_x() == 11.5
    assert [text.get_text() for text in ratio.texts] == ["deep layers"]


def test_there_is_a_violin_a_layer_under_the_ratio_curve(run):
    violins, ratio = static.violin_figure(frames.violin_frame(run), frames.attenuation_frame(run)).axes
    assert violins.get_yscale() == "log"
    centres = [body.get_paths()[0].get_extents().intervalx.mean() for body in violins.collections]
    np.testing.assert_allclose(centres, np.arange(16), atol=1e-9)
    widths = [body.get_paths()[0].get_extents().width for body in violins.collections]
    np.testing.assert_allclose(widths, 0.88)
    np.testing.assert_allclose(ratio.lines[0].get_ydata(), frames.attenuation_frame(run)["visual_ratio"])
    assert ratio.get_ylabel() == "visual ratio"


def test_quantiles_of_a_violin_are_those_of_the_weights(run_of):
    run = run_of(1)
    weights = run.flow("s000")[5, -2:].mean(0)
    violin = frames.violin_frame(run).query("layer == 5")
    found = frames.weight_quantiles(violin, (0.25, 0.5, 0.75))
    np.testing.assert_allclose(found, np.quantile(weights, (0.25, 0.5, 0.75)), rtol=0.1)


def test_without_boxes_the_lift_is_said_to_be_undefined(run_of, assert_legible):
    figure = static.focus_figure(frames.focus_frame(run_of(3, boxes=False)))
    assert [text.get_text() for text in figure.axes[1].texts] == ["undefined: no target boxes"]
    assert_legible(figure)


def test_layers_without_attention_are_gaps(records_run, assert_legible):
    def change(records):
        for record in records:
            for values in record.flows["raw"].layers.values():
                values[3] = np.nan
            record.flows["raw"].maps[3] = np.nan
        return records

    run = records_run(2, change=change)
    for figure in draw_all(run).values():
        assert_legible(figure)
    (_, ratio) = static.attenuation_figure(frames.attenuation_frame(run)).axes[0].lines[0].get_data()
    assert np.isnan(ratio[3])


def test_a_layer_that_stands_alone_is_a_dot_with_its_interval(records_run):
    def change(records):
        for record in records:
            for values in record.flows["raw"].layers.values():
                values[::2] = np.nan
        return records

    frame = frames.attenuation_frame(records_run(2, change=change))
    upper = static.attenuation_figure(frame).axes[0]
    assert upper.lines[0].get_marker() == "o"
    ends = [segment[:, 1] for segment in upper.collections[0].get_segments() if segment.size]
    np.testing.assert_allclose(ends[0], frame.loc[1, ["visual_ratio_low", "visual_ratio_high"]].astype(float))


def test_the_only_layer_of_a_model_is_a_dot_with_its_interval(run_of):
    frame = frames.attenuation_frame(run_of(3, layers=1))
    for axes, metric in zip(static.attenuation_figure(frame).axes, ("visual_ratio", "ratio_lift"), strict=True):
        assert axes.lines[0].get_marker() == "o"
        (ends,) = axes.collections[0].get_segments()
        np.testing.assert_allclose(ends[:, 1], frame.loc[0, [f"{metric}_low", f"{metric}_high"]].astype(float))
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [0]


@pytest.mark.usefixtures("drawn")
def test_drawing_leaves_no_figure_open():
    assert plt.get_fignums() == []


@pytest.mark.parametrize("width_in", [COLUMN_IN, TEXT_IN])
def test_the_figure_of_videos_shows_means_by_frame_and_layer(width_in, assert_legible):
    rows = pd.MultiIndex.from_product([["a", "b"], range(0, 16, 2), range(32)], names=["sample_id", "frame", "layer"])
    frame = pd.DataFrame(
        {"visual_ratio": np.linspace(0, 1, len(rows)), "visual_entropy": 2.0}, index=rows
    ).reset_index()
    frame = frame[(frame["sample_id"] == "a") | (frame["frame"] < 8)]  # the second video is shorter
    frame.loc[frame["layer"] == 3, "visual_entropy"] = np.nan
    figure = static.video_figure(frame, width_in=width_in)
    assert_legible(figure)
    for axes, metric in zip(figure.axes, ("visual_ratio", "visual_entropy"), strict=False):
        wanted = frame.groupby(["frame", "layer"])[metric].mean().unstack().to_numpy()
        np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), wanted)
