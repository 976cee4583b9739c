"""An attention call knows its positions, its sinks and whether it is causal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vif_core.flow.call import AttentionCall


def call(n_queries, n_keys, mask=None, total=None, module=None, **extras):
    shape = torch.zeros(1, 2, n_queries, 4)
    keys = torch.zeros(1, 1, n_keys, 4)
    return AttentionCall(module or nn.Module(), shape, keys, keys, mask, extras, total)


@pytest.mark.parametrize(
    ("n_queries", "n_keys", "total", "queries", "keys"),
    [
        pytest.param(5, 5, None, range(5), range(5), id="one-pass"),
        pytest.param(1, 9, 9, range(8, 9), range(9), id="cached-step"),
        pytest.param(1, 4, 9, range(8, 9), range(5, 9), id="cropped-cache"),
        pytest.param(2, 9, 9, range(7, 9), range(9), id="trimmed-queries"),
        pytest.param(1, 16, 9, range(8, 9), range(16), id="static-cache"),
    ],
)
def test_positions_count_from_the_end(n_queries, n_keys, total, queries, keys):
    made = call(n_queries, n_keys, total=total)
    assert made.query_positions == queries
    assert made.key_positions == keys


def test_causality_is_asked_of_the_call_then_of_the_module():
    module = nn.Module()
    assert call(3, 3, module=module).causal
    module.is_causal = False
    assert not call(3, 3, module=module).causal
    assert call(3, 3, module=module, is_causal=True).causal


def test_sinks_are_found_in_the_call_or_on_the_module():
    module, given = nn.Module(), torch.ones(2)
    assert call(3, 3).sinks is None
    assert call(3, 3, s_aux=given).sinks is given
    assert call(3, 3, sinks=given).sinks is given
    module.sinks = nn.Parameter(torch.zeros(2))
    assert call(3, 3, module=module).sinks is module.sinks


@pytest.mark.parametrize(
    ("options", "seen"), [({}, [8, 9, 10]), ({"sliding_window": 4}, [4, 4, 4])], ids=["all", "window"]
)
def test_several_cached_queries_without_a_mask_see_what_lies_before_them(options, seen):
    made, keys = call(3, 10, **options), torch.arange(10)[None]
    visible = made.visible(torch.arange(3)[None], keys)[0]
    assert visible.sum(-1).tolist() == seen
    assert [row.nonzero().max().item() for row in visible] == [7, 8, 9]
    assert torch.equal(made.rows(torch.arange(3)[None])[0, 0] > 0, visible)
    if not options:
        blocked = torch.zeros(1, 1, 3, 10, dtype=torch.bool)
        assert torch.equal(made.without(blocked).mask[0, 0] == 0, visible)


VISIBLE = torch.ones(1, 1, 3, 3, dtype=torch.bool).tril()
ADDITIVE = torch.zeros(1, 1, 3, 3).masked_fill(~VISIBLE, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("mask", [None, VISIBLE, ADDITIVE], ids=["none", "boolean", "additive"])
def test_blocked_edges_lose_their_mass_whatever_the_mask(mask):
    blocked = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    blocked[..., 2, 1] = True
    flow = call(3, 3, mask).without(blocked).rows(torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(flow[0, 0], torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]))


def test_a_single_cached_query_without_mask_can_be_blocked():
    blocked = torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    blocked[..., 1] = True
    flow = call(1, 3).without(blocked).rows(torch.tensor([[0]]))
    torch.testing.assert_close(flow[0, 0], torch.tensor([[0.5, 0, 0.5]]))


def test_a_call_is_not_changed_in_place():
    mask = VISIBLE.clone()
    made = call(3, 3, mask)
    made.without(torch.ones(1, 1, 3, 3, dtype=torch.bool))
    assert torch.equal(mask, VISIBLE)
    assert replace(made) == made
