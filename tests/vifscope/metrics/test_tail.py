from __future__ import annotations

import pytest
import torch

from vifscope.metrics.tail import top_share


@pytest.mark.parametrize(("tokens", "counted"), [(1, 1), (19, 1), (20, 1), (39, 1), (40, 2), (144, 7), (576, 28)])
def test_uniform_attention_gives_the_top_tokens_their_number(tokens, counted):
    flow = torch.full((tokens + 1,), 1 / (tokens + 1))
    assert top_share(flow, torch.arange(tokens + 1) < tokens).item() == pytest.approx(counted / tokens)


def test_one_hot_attention_has_top_share_one():
    assert top_share(torch.eye(144)[3] / 2, torch.ones(144, dtype=torch.bool)).item() == 1


def test_the_strongest_tokens_are_counted_wherever_they_are():
    flow = torch.full((41,), 0.1 / 38)
    flow[[5, 17]] = torch.tensor([0.2, 0.3])
    flow[40] = 0.4  # text
    assert top_share(flow, torch.arange(41) < 40).item() == pytest.approx(0.5 / 0.6)


def test_samples_of_different_size_in_one_batch_count_their_own_five_percent():
    flow = torch.full((2, 1, 40), 1 / 40)
    visual = torch.stack([torch.arange(40) < 40, torch.arange(40) < 20])[:, None]
    torch.testing.assert_close(top_share(flow, visual), torch.tensor([[2 / 40], [1 / 20]]))


def test_top_share_is_undefined_where_nearly_all_mass_is_on_text():
    assert top_share(torch.tensor([1e-7, 1.0]), torch.tensor([True, False])).isnan()
