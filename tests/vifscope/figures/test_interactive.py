"""What plotly draws is what the tables and maps hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vifscope.figures.interactive import (
    Track,
    curves_figure,
    multiples_figure,
    patch_figure,
    violins_figure,
)

LAYERS, ROWS, COLS = 5, 3, 4
METRICS = ("visual_ratio", "box_lift")


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((LAYERS, ROWS, COLS))


def track(name):
    curves = pd.DataFrame({"layer": range(LAYERS), "visual_ratio": 0.5, "box_lift": np.arange(LAYERS) + 1.0})
    return Track(name, curves.assign(box_lift_low=0.5, box_lift_high=9.0))


def lines(figure):
    return [trace for trace in figure.data if trace.type == "scatter" and trace.mode != "none"]


def test_the_curves_of_every_metric_share_the_layer_axis():
    figure = curves_figure([track("a"), track("b")], METRICS)
    assert len(lines(figure)) == 4
    assert lines(figure)[2].y == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert {tuple(axis.range) for axis in figure.select_xaxes()} == {(-0.6, LAYERS - 0.4)}


def test_runs_keep_their_colours_in_every_curve():
    figure = curves_figure([track("a"), track("b")], METRICS)
    colours = {name: {line.line.color for line in lines(figure) if line.name == name} for name in ("a", "b")}
    assert [len(each) for each in colours.values()] == [1, 1]
    assert colours["a"] != colours["b"]


def test_an_interval_is_a_band():
    figure = curves_figure([track("a")], ("box_lift",))
    (band,) = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "none"]
    assert (min(band.y), max(band.y)) == (0.5, 9.0)


def test_a_patch_has_a_line_a_row_and_a_column_a_layer():
    figure = patch_figure(np.arange(10.0).reshape(5, 2), ["one", "two"])
    assert np.array(figure.data[0].z).shape == (2, 5)
    assert figure.layout.yaxis.ticktext == ("one", "two")


def test_each_head_is_drawn_over_its_own_maximum(maps):
    figure = multiples_figure(maps, "head")
    assert len(figure.data) == LAYERS
    assert all(np.max(trace.z) == 1 for trace in figure.data)


def test_violins_stand_beside_each_other_and_the_ratio_has_an_axis_of_its_own():
    violin = pd.DataFrame({"layer": [0, 0, 1, 1], "weight": [0.01, 0.1] * 2, "density": [1.0, 2.0] * 2})
    ratio = pd.DataFrame(
        {"layer": [0, 1], "visual_ratio": [0.5, 0.4], "visual_ratio_low": 0.3, "visual_ratio_high": 0.6}
    )
    figure = violins_figure([violin, violin], [ratio, ratio], ["a", "b"])
    shapes = [trace for trace in figure.data if trace.yaxis in (None, "y")]
    lines = [trace for trace in figure.data if trace.yaxis == "y2" and trace.name]
    assert (len(shapes), len(lines)) == (4, 2)
    assert max(shapes[0].x) <= min(shapes[2].x)
    assert figure.layout.yaxis.type == "log"
