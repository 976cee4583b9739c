from __future__ import annotations

import math

import pytest
import torch

from vifscope.metrics.distribution import visual_distribution
from vifscope.metrics.entropy import relative_entropy, visual_entropy, visual_entropy_mean_of_heads


def visual(tokens: int, keys: int) -> torch.Tensor:
    return torch.arange(keys) < tokens


@pytest.mark.parametrize("tokens", [1, 2, 144, 576])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 1e-5])
def test_a_uniform_spread_has_entropy_ln_v_whatever_the_ratio(tokens, ratio):
    flow = torch.cat([torch.full((tokens,), ratio / tokens), torch.tensor([1 - ratio])])
    assert visual_entropy(flow, visual(tokens, tokens + 1)).item() == pytest.approx(math.log(tokens), abs=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 1e-5])
def test_one_hot_attention_has_entropy_zero(ratio):
    flow = torch.tensor([0.0, ratio, 0.0, 1 - ratio])
    assert visual_entropy(flow, visual(3, 4)).item() == pytest.approx(0, abs=1e-6)
    assert relative_entropy(flow, visual(3, 4)).item() == pytest.approx(0, abs=1e-6)


def test_entropy_of_a_known_distribution():
    flow = torch.tensor([0.25, 0.125, 0.125, 0.5])
    expected = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert visual_entropy(flow, visual(3, 4)).item() == pytest.approx(expected)
    assert relative_entropy(flow, visual(3, 4)).item() == pytest.approx(expected / math.log(3))


def test_a_uniform_spread_has_relative_entropy_one():
    assert relative_entropy(torch.full((10,), 0.1), visual(7, 10)).item() == pytest.approx(1)


@pytest.mark.parametrize(("ratio", "defined"), [(0.0, False), (0.9e-6, False), (1.1e-6, True)])
def test_entropy_is_undefined_where_nearly_all_mass_is_on_text(ratio, defined):
    flow = torch.tensor([ratio / 2, ratio / 2, 1 - ratio])
    for metric in (visual_entropy, relative_entropy):
        assert metric(flow, visual(2, 3)).isnan().item() is not defined


def test_relative_entropy_is_undefined_for_a_single_token():
    assert relative_entropy(torch.tensor([0.5, 0.5]), visual(1, 2)).isnan()


def test_heads_that_look_at_different_tokens_are_sharp_each_and_diffuse_together():
    heads = torch.eye(4)[:, None]  # [H=4 R=1 K=4]
    everything = visual(4, 4)
    assert visual_entropy_mean_of_heads(heads, everything).item() == 0
    assert visual_entropy(heads.mean(0), everything).item() == pytest.approx(math.log(4))


def test_the_mean_of_heads_leaves_out_heads_that_ignore_the_image():
    heads = torch.tensor([[[0.5, 0.5, 0.0]], [[0.0, 0.0, 1.0]]])
    assert visual_entropy_mean_of_heads(heads, visual(2, 3)).item() == pytest.approx(math.log(2))


def test_the_distribution_sums_to_one_over_visual_tokens_and_is_zero_elsewhere():
    flow = torch.softmax(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), -1)
    p = visual_distribution(flow, visual(3, 5))
    torch.testing.assert_close(p.sum(-1), torch.ones(3))
    assert (p[:, 3:] == 0).all()
