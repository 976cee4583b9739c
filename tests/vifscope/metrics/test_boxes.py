from __future__ import annotations

import numpy as np
import pytest
import torch

from vif_core.vlm.layout import ImageGrid, box_weights
from vifscope.metrics.boxes import box_lift, box_mass, pointing_hit

GRID = ImageGrid(image=0, frame="image", rows=2, cols=2, offset=0, stride=2, rect_px=(0, 0, 20, 20))
FIRST_PATCH, HALF_OF_IT = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 5.0, 10.0)


def weights(*boxes) -> torch.Tensor:
    return torch.from_numpy(box_weights([GRID], 4, boxes)).float()


@pytest.mark.parametrize(
    ("box", "mass"),
    [(FIRST_PATCH, 0.25), (HALF_OF_IT, 0.125), ((0, 0, 20, 20), 1.0), ((5, 5, 15, 15), 0.25)],
)
def test_uniform_attention_gives_a_box_its_share_of_the_image_and_lift_one(box, mass):
    flow = torch.full((3, 4), 0.1)
    torch.testing.assert_close(box_mass(flow, weights(box)), torch.full((3,), mass))
    torch.testing.assert_close(box_lift(flow, weights(box)), torch.ones(3))


def test_one_hot_attention_on_the_box():
    flow = torch.eye(4)[0]
    assert box_mass(flow, weights(FIRST_PATCH)).item() == 1
    assert box_lift(flow, weights(FIRST_PATCH)).item() == 4
    assert pointing_hit(flow, weights(FIRST_PATCH)).item() == 1


def test_one_hot_attention_on_a_patch_that_the_box_covers_by_half():
    flow = torch.eye(4)[0]
    assert box_mass(flow, weights(HALF_OF_IT)).item() == 0.5
    assert box_lift(flow, weights(HALF_OF_IT)).item() == 4
    assert pointing_hit(flow, weights(HALF_OF_IT)).item() == 1


def test_one_hot_attention_off_the_box():
    flow = torch.eye(4)[3]
    for metric in (box_mass, box_lift, pointing_hit):
        assert metric(flow, weights(FIRST_PATCH)).item() == 0


def test_boxes_that_overlap_count_once():
    flow = torch.full((4,), 0.25)
    assert box_mass(flow, weights(FIRST_PATCH, HALF_OF_IT)).item() == 0.25


def test_flow_on_text_and_newline_tokens_is_left_out():
    flow = torch.tensor([0.1, 0.1, 0.4, 0.1, 0.1, 0.2])  # a newline token third, text last
    on_keys = torch.tensor([1.0, 0.0, np.nan, 0.0, 0.0, np.nan])
    assert box_mass(flow, on_keys).item() == pytest.approx(0.25)
    assert box_lift(flow, on_keys).item() == pytest.approx(1)
    assert pointing_hit(torch.tensor([0.2, 0.1, 0.4, 0.1, 0.1, 0.1]), on_keys).item() == 1


@pytest.mark.parametrize("metric", [box_mass, box_lift, pointing_hit])
def test_without_boxes_the_metrics_are_undefined(metric):
    assert metric(torch.full((2, 4), 0.25), torch.full((4,), torch.nan)).isnan().all()


@pytest.mark.parametrize("metric", [box_mass, box_lift, pointing_hit])
def test_where_nearly_all_mass_is_on_text_the_metrics_are_undefined(metric):
    assert metric(torch.full((4,), 2e-7), weights(FIRST_PATCH)).isnan()


def test_a_box_that_covers_no_token_has_no_lift():
    assert box_mass(torch.full((4,), 0.25), weights((30, 30, 40, 40))).item() == 0
    assert box_lift(torch.full((4,), 0.25), weights((30, 30, 40, 40))).isnan()
