"""Footprints, box weights and query rows, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vif_core.errors import UsageError
from vif_core.vlm.layout import SEGMENTS, ImageGrid, Layout, box_weights, patch_boxes

PLAIN = ImageGrid(image=0, frame="image", rows=2, cols=3, offset=0, stride=3, rect_px=(0, 0, 30, 20))
NEWLINES = ImageGrid(image=0, frame="tile", rows=2, cols=2, offset=1, stride=3, rect_px=(0, 0, 20, 20))
SECOND = ImageGrid(image=1, frame="image", rows=1, cols=2, offset=6, stride=2, rect_px=(0, 0, 20, 10))


def test_values_over_tokens_are_laid_out_row_by_row():
    assert PLAIN.to_grid(np.arange(6)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_tensors_keep_their_leading_axes():
    assert PLAIN.to_grid(torch.zeros(4, 5, 6)).shape == (4, 5, 2, 3)


def test_newline_tokens_are_left_out_of_the_grid():
    assert NEWLINES.to_grid(np.arange(7)).tolist() == [[1, 2], [4, 5]]


def test_footprints_tile_the_picture():
    boxes = patch_boxes([PLAIN], 6)
    assert boxes[0].tolist() == [0, 0, 10, 10]
    assert boxes[5].tolist() == [20, 10, 30, 20]


def test_newline_tokens_have_no_footprint():
    assert np.isnan(patch_boxes([NEWLINES], 7)).all(axis=1).tolist() == [True, False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([(0, 0, 10, 10)], [1, 0, 0, 0, 0, 0], id="a-patch"),
        pytest.param([(0, 0, 5, 10)], [0.5, 0, 0, 0, 0, 0], id="half-a-patch"),
        pytest.param([(5, 5, 15, 15)], [0.25, 0.25, 0, 0.25, 0.25, 0], id="four-corners"),
        pytest.param([(0, 0, 30, 20)], [1] * 6, id="everything"),
        pytest.param([(0, 0, 5, 10), (0, 0, 10, 5)], [0.75, 0, 0, 0, 0, 0], id="overlap-counts-once"),
        pytest.param([(0, 0, 5, 10), (0, 0, 5, 10)], [0.5, 0, 0, 0, 0, 0], id="twice-the-same"),
        pytest.param([(-9, -9, 5, 10)], [0.5, 0, 0, 0, 0, 0], id="beyond-the-edge"),
        pytest.param([(0, 0, 1, 10), (2, 0, 4, 10), (20, 10, 30, 20)], [0.3, 0, 0, 0, 0, 1], id="apart"),
        pytest.param([], [0] * 6, id="none"),
    ],
)
def test_weights_are_the_share_covered_by_the_union(boxes, expected):
    np.testing.assert_allclose(box_weights([PLAIN], 6, boxes), expected, atol=1e-12)


def test_the_union_equals_painted_pixels():
    random = np.random.default_rng(0)
    grid = ImageGrid(image=0, frame="image", rows=4, cols=4, offset=0, stride=4, rect_px=(0, 0, 40, 40))
    for _ in range(20):
        corners = np.sort(random.integers(0, 41, (5, 2, 2)), axis=1)
        painted = np.zeros((40, 40))
        for (x0, y0), (x1, y1) in corners:
            painted[y0:y1, x0:x1] = 1
        expected = painted.reshape(4, 10, 4, 10).mean(axis=(1, 3)).ravel()
        np.testing.assert_allclose(box_weights([grid], 16, corners.reshape(5, 4).tolist()), expected, atol=1e-12)


def test_boxes_lie_on_the_first_image_alone_and_not_on_newlines():
    assert box_weights([NEWLINES, SECOND], 8, [(0, 0, 20, 20)]).tolist() == [0, 1, 1, 0, 1, 1, 0, 0]


BOS, TEMPLATE, VISUAL, QUESTION, RESPONSE = range(len(SEGMENTS))
EOS = 9


@pytest.fixture
def layout():
    """bos, template, 3 visual, template, 2 question, template, 3 response of which the last ends it."""
    segment = [BOS, TEMPLATE, VISUAL, VISUAL, VISUAL, TEMPLATE, QUESTION, QUESTION, TEMPLATE] + [RESPONSE] * 3
    ids = np.array([1, 2, 3, 3, 3, 4, 5, 6, 7, 20, 21, EOS])
    return Layout(ids, np.array([2, 3, 4]), (), np.array(segment, dtype=np.int8), response_start=9)


@pytest.mark.parametrize(
    ("which", "expected"),
    [("response", [8, 9, 10]), ("last", [8]), ("question", [6, 7]), ("text", [5, 6, 7, 8, 9, 10, 11])],
)
def test_rows(layout, which, expected):
    assert layout.rows(which).tolist() == expected


def test_the_row_that_ends_the_response_is_left_out(layout):
    assert layout.rows("response", eos=[EOS]).tolist() == [8, 9]


@pytest.mark.parametrize(
    ("max_rows", "expected"),
    [(1, [5]), (2, [5, 11]), (3, [5, 8, 11]), (7, [5, 6, 7, 8, 9, 10, 11]), (99, [*range(5, 12)])],
)
def test_few_rows_are_evenly_spaced_and_keep_the_first_and_last(layout, max_rows, expected):
    assert layout.rows("text", max_rows).tolist() == expected


def test_without_response_or_image_there_are_no_such_rows(layout):
    prompt = Layout(layout.input_ids[:9], layout.visual[:0], (), layout.segment[:9], response_start=9)
    assert prompt.rows("response").tolist() == []
    assert prompt.rows("text").tolist() == []
    assert prompt.rows("last").tolist() == [8]


def test_unknown_rows_are_refused(layout):
    with pytest.raises(UsageError, match="rows 'all'; expected response, last, question or text"):
        layout.rows("all")
