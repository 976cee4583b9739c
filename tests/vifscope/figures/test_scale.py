"""Grid lines lie where the cells' footprints end, and a bar's length is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from vif_core.vlm.layout import ImageGrid
from vifscope.figures.scale import bar_px, finest, grid_lines, token_words

GRID = {"frame": "image", "image": 0, "rows": 2, "cols": 3, "offset": 0, "stride": 3, "rect_px": (0.0, 0.0, 60.0, 20.0)}


def test_lines_are_the_edges_of_the_footprints():
    """On a grid that is not square, of tokens that are not square."""
    lines = grid_lines(GRID, (60, 20))
    assert lines.shape == (3 + 1 + 2 + 1, 2, 2)
    edges = ImageGrid(**GRID).boxes_px
    assert sorted({x for (x, _), (end, _) in lines.tolist() if x == end}) == sorted({*edges[..., [0, 2]].ravel()})
    assert sorted({y for (_, y), (_, end) in lines.tolist() if y == end}) == sorted({*edges[..., [1, 3]].ravel()})


def test_what_a_processor_padded_has_no_lines():
    """A picture of 60 x 20 in the middle of a square of 60: the grid reaches over it, its lines do not."""
    lines = grid_lines(GRID | {"rows": 6, "cols": 6, "rect_px": (0.0, -20.0, 60.0, 40.0)}, (60, 20))
    assert len(lines) == 7 + 3
    assert (lines[..., 1].min(), lines[..., 1].max()) == (0, 20)


def test_what_a_processor_cropped_away_has_no_lines():
    lines = grid_lines(GRID | {"rect_px": (20.0, 0.0, 40.0, 20.0)}, (60, 20))
    assert len(lines) == 7
    assert (lines[..., 0].min(), lines[..., 0].max()) == (20, 40)


@pytest.mark.parametrize("width", [2, 5, 96, 336, 1000, 4032])
def test_a_bar_is_round_and_fills_a_third_at_most(width):
    length = bar_px(width)
    assert str(length).rstrip("0") in ("1", "2", "5")
    assert length == 1 or width / 8.4 < length <= width / 3


def test_the_size_of_a_token_is_its_footprint_s():
    assert token_words(GRID) == "visual token 20 × 10 px"


def test_tiles_are_finer_than_their_thumbnail():
    thumbnail = GRID | {"frame": "thumbnail"}
    tiles = GRID | {"frame": "tile", "rows": 4, "cols": 6}
    assert finest([thumbnail, tiles, tiles | {"image": 1, "rows": 9}]) == tiles
    assert finest([tiles], image=1) is None


def test_lines_of_a_run_s_grid_are_as_many_as_its_cells_have_edges(run):
    grid = finest(run.grids(run.sample_ids[0]))
    assert len(grid_lines(grid, run.image(run.sample_ids[0], 0).size)) == grid["rows"] + 1 + grid["cols"] + 1
    assert np.diff(np.unique(grid_lines(grid, (96, 96))[..., 0])) == pytest.approx(8)
