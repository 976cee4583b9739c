from __future__ import annotations

import pytest
import torch

from vifscope.metrics.ratio import ratio_lift, visual_ratio

VISUAL = torch.tensor([False, True, True, True, False])


def test_uniform_attention_gives_the_share_of_visual_tokens():
    flow = torch.full((2, 3, 4, 5), 0.2)
    torch.testing.assert_close(visual_ratio(flow, VISUAL), torch.full((2, 3, 4), 0.6))


@pytest.mark.parametrize(("at", "ratio"), [(0, 0.0), (1, 1.0), (3, 1.0), (4, 0.0)])
def test_one_hot_attention_gives_all_or_nothing(at, ratio):
    assert visual_ratio(torch.eye(5)[at], VISUAL).item() == ratio


def test_a_prompt_without_image_has_ratio_zero():
    assert visual_ratio(torch.full((5,), 0.2), torch.zeros(5, dtype=torch.bool)).item() == 0


def test_the_mean_over_heads_is_the_ratio_of_the_head_mean_row():
    flow = torch.softmax(torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(0)), -1)
    torch.testing.assert_close(visual_ratio(flow, VISUAL).mean(0), visual_ratio(flow.mean(0), VISUAL))


def test_masks_may_differ_from_sample_to_sample():
    flow = torch.full((2, 1, 5), 0.2)
    visual = torch.stack([VISUAL, ~VISUAL])[:, None]
    torch.testing.assert_close(visual_ratio(flow, visual), torch.tensor([[0.6], [0.4]]))


def test_what_a_sink_takes_is_on_no_token():
    assert visual_ratio(torch.tensor([0.0, 0.1, 0.1, 0.1, 0.2]), VISUAL).item() == pytest.approx(0.3)


@pytest.mark.parametrize("seen", [2, 3, 4, 5])
def test_uniform_attention_over_the_keys_seen_has_lift_one(seen):
    flow = torch.zeros(5)
    flow[:seen] = 1 / seen
    assert ratio_lift(flow, VISUAL).item() == pytest.approx(1)


def test_the_largest_lift_is_keys_over_visual_tokens():
    flow = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0])
    assert ratio_lift(flow, VISUAL, seen=torch.ones(5, dtype=torch.bool)).item() == pytest.approx(5 / 3)


def test_all_mass_on_text_has_lift_zero():
    flow = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    assert ratio_lift(flow, VISUAL, seen=torch.ones(5, dtype=torch.bool)).item() == 0


def test_lift_is_undefined_where_no_visual_token_is_seen():
    assert ratio_lift(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]), VISUAL).isnan()
