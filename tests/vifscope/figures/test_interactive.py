"""What plotly draws is what the tables and maps hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vifscope.figures.interactive import (
    Track,
    curve,
    multiples_figure,
    overlay_figure,
    patch_figure,
    ranks,
    spine_figure,
    violins_figure,
)

LAYERS, ROWS, COLS = 5, 3, 4
METRICS = ("visual_ratio", "box_lift")


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((LAYERS, ROWS, COLS))


def track(name, maps):
    curves = pd.DataFrame({"layer": range(LAYERS), "visual_ratio": 0.5, "box_lift": np.arange(LAYERS) + 1.0})
    return Track(name, maps, curves.assign(box_lift_low=0.5, box_lift_high=9.0))


def test_strip_and_curves_share_the_layer_axis(maps):
    figure = spine_figure([track("a", maps), track("b", maps)], METRICS)
    strips = [trace for trace in figure.data if trace.type == "heatmap"]
    lines = [trace for trace in figure.data if trace.type == "scatter" and trace.mode != "none"]
    assert (len(strips), len(lines)) == (2, 4)
    ranges = {tuple(axis.range) for axis in figure.select_xaxes()}
    assert ranges == {(-0.6, LAYERS - 0.4)}
    for layer in range(LAYERS):
        shown = [x for x in strips[0].x if layer - 0.5 < x < layer + 0.5]
        assert len(shown) == COLS


def test_a_layers_strip_is_its_map_over_its_maximum_upright(maps):
    strip = np.array(spine_figure([track("a", maps)], METRICS).data[0].z, dtype=float)  # drawn from below
    third = strip[::-1, 2 * (COLS + 1) : 2 * (COLS + 1) + COLS]
    assert third == pytest.approx(maps[2] / maps[2].max())


def test_runs_keep_their_colours_in_strip_title_and_curves(maps):
    figure = spine_figure([track("a", maps), track("b", None)], METRICS)
    colours = {trace.name: trace.line.color for trace in figure.data if trace.type == "scatter" and trace.name}
    assert len(set(colours.values())) == 2
    assert figure.layout.yaxis.title.font.color == colours["a"]


def test_an_interval_is_a_band(maps):
    figure = spine_figure([track("a", maps)], ("box_lift",))
    (band,) = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "none"]
    assert (min(band.y), max(band.y)) == (0.5, 9.0)


def test_a_map_lies_where_its_grid_lies_on_the_image(maps):
    grid = {"rect_px": [10, 20, 50, 80]}
    figure = overlay_figure("/picture", (100, 90), grid, maps[0], [[1, 2, 3, 4]])
    heat = figure.data[0]
    assert (heat.x0 - heat.dx / 2, heat.x0 + heat.dx * (COLS - 0.5)) == (10, 50)
    assert (heat.y0 - heat.dy / 2, heat.y0 + heat.dy * (ROWS - 0.5)) == (20, 80)
    assert tuple(figure.layout.yaxis.range) == (90, 0)
    assert (figure.layout.images[0].sizex, figure.layout.images[0].sizey) == (100, 90)
    assert (figure.layout.shapes[0].x0, figure.layout.shapes[0].y1) == (1, 4)


def test_a_map_has_the_lines_of_its_grid_and_a_scale_bar(maps):
    figure = overlay_figure("/picture", (100, 90), {"rect_px": [10, 20, 50, 80]}, maps[0], [[1, 2, 3, 4]])
    _, lines, bar = figure.layout.shapes
    assert lines.path.count("M") == COLS + 1 + ROWS + 1
    assert lines.path.startswith("M10,20L10,80M20,20L20,80")
    (words,) = figure.layout.annotations
    assert words.text == f"{bar.x1 - bar.x0} px   visual token 10 × 20 px"
    assert bar.yanchor == words.y == 0, "at the picture's lower edge"
    assert bar.y0 == bar.y1 == words.yshift < 0, "and a little under it, in pixels of the screen"


def test_ranks_are_a_permutation_with_the_largest_first(maps):
    found = ranks(maps[0])
    assert sorted(found.ravel()) == list(range(1, ROWS * COLS + 1))
    assert found.ravel()[maps[0].argmax()] == 1


def test_a_patch_has_a_line_a_row_and_a_column_a_layer():
    figure = patch_figure(np.arange(10.0).reshape(5, 2), ["one", "two"])
    assert np.array(figure.data[0].z).shape == (2, 5)
    assert figure.layout.yaxis.ticktext == ("one", "two")


def test_each_head_is_drawn_over_its_own_maximum(maps):
    figure = multiples_figure(maps, "head")
    assert len(figure.data) == LAYERS
    assert all(np.max(trace.z) == 1 for trace in figure.data)


def test_violins_stand_beside_each_other_and_the_ratio_has_an_axis_of_its_own():
    columns = {"layer": [0, 0, 1, 1], "weight": [0.01, 0.1] * 2, "density": [1.0, 2.0] * 2, "share": [0.4, 0.6] * 2}
    violin = pd.DataFrame(columns)
    ratio = pd.DataFrame(
        {
            "layer": [0, 1],
            "deep": [False, True],
            "visual_ratio": [0.5, 0.4],
            "visual_ratio_low": 0.3,
            "visual_ratio_high": 0.6,
        }
    )
    figure = violins_figure([violin, violin], [ratio, ratio], ["a", "b"])
    shapes = [trace for trace in figure.data if trace.fill and trace.yaxis != "y2"]
    lines = [trace for trace in figure.data if trace.yaxis == "y2" and trace.name]
    assert (len(shapes), len(lines)) == (4, 2)
    assert max(shapes[0].x) <= min(shapes[2].x)
    assert figure.layout.yaxis.type == "log"
    assert [shape.x0 for shape in figure.layout.shapes] == [0.5], "the deep layers"
    medians = [trace for trace in figure.data if trace.error_y.array is not None]
    assert [trace.y.tolist() for trace in medians] == [[0.1, 0.1]] * 2
    assert medians[0].customdata.tolist() == [[0.01, 0.1]] * 2


def test_a_band_has_a_gap_where_a_layer_is_undefined():
    frame = pd.DataFrame({"layer": range(5), "mean": 1.0, "low": [0, 0, np.nan, 0, 0], "high": [2, 2, np.nan, 2, 2]})
    band, line = curve(frame, "mean", "red", "a")
    assert band.x == (0, 1, 1, 0, None, 3, 4, 4, 3)
    assert line.customdata.tolist()[0] == [0, 2], "the interval under the pointer"
