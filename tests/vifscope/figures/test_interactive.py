"""What plotly draws is what the tables and maps hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vifscope.figures.interactive import (
    curve,
    multiples_figure,
    patch_figure,
    violins_figure,
)

LAYERS, ROWS, COLS = 5, 3, 4


@pytest.fixture
def maps():
    return np.random.default_rng(0).random((LAYERS, ROWS, COLS))


def test_an_interval_is_a_band():
    frame = pd.DataFrame({"layer": range(LAYERS), "lift": np.arange(LAYERS) + 1.0, "low": 0.5, "high": 9.0})
    band, line = curve(frame, "lift", "#000", "a")
    assert (min(band.y), max(band.y)) == (0.5, 9.0)
    assert list(line.y) == [1.0, 2.0, 3.0, 4.0, 5.0]


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
