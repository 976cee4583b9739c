"""Row probabilities equal the rows of a full attention matrix computed the plain way."""

from __future__ import annotations

import pytest
import torch

from vif_core.flow.rows import row_probabilities

B, H, G, Q, K, D = 2, 4, 2, 7, 7, 8
ROWS = torch.tensor([[1, 3, 6], [0, 4, 5]])


def matrix(query, key, bias, scaling=D**-0.5, softcap=None, position_bias=0.0, sinks=None):
    """All rows, one head and query at a time."""
    full = torch.zeros(B, H, query.shape[2], key.shape[2])
    for b in range(B):
        for h in range(H):
            for q in range(query.shape[2]):
                scores = key[b, h * key.shape[1] // H] @ query[b, h, q] * scaling
                scores = softcap * torch.tanh(scores / softcap) if softcap else scores
                scores = scores + bias[b, q] + (position_bias[b, h, q] if torch.is_tensor(position_bias) else 0)
                logits = scores if sinks is None else torch.cat([scores, sinks[h : h + 1]])
                full[b, h, q] = logits.softmax(-1)[: len(scores)]
    return full


def additive(visible):
    return torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)


CAUSAL = torch.ones(Q, K, dtype=torch.bool).tril().expand(B, Q, K)
PADDED = CAUSAL & (torch.arange(K) >= torch.tensor([0, 2])[:, None, None]) | torch.eye(K, dtype=torch.bool)
EDGE_MASK = PADDED[:, None]  # [B 1 Q K]
POSITION_BIAS = torch.randn(B, H, Q, K, generator=torch.Generator().manual_seed(1))
SINKS = torch.tensor([-1.0, 0.0, 1.0, 3.0])
NO_BIAS = torch.zeros(B, Q, K)
PADDING = (torch.arange(K) >= torch.tensor([0, 2])[:, None]).long()  # [B K]
WINDOW = CAUSAL & ~torch.ones(Q, K, dtype=torch.bool).tril(-3)

CASES = {
    "unmasked": (None, {}, NO_BIAS, {}),
    "boolean-mask": (EDGE_MASK, {}, additive(PADDED), {}),
    "additive-mask": (additive(EDGE_MASK), {}, additive(PADDED), {}),
    "mask-longer-than-keys": (
        torch.nn.functional.pad(EDGE_MASK, (0, 3), value=True),
        {},
        additive(PADDED),
        {},
    ),
    "causal-without-mask": (None, {"causal": True}, additive(CAUSAL), {}),
    "causal-flag-beside-mask": (EDGE_MASK, {"causal": True}, additive(PADDED), {}),
    "window-without-mask": (None, {"causal": True, "window": 3}, additive(WINDOW), {}),
    "scaling": (None, {"scaling": 0.3}, NO_BIAS, {"scaling": 0.3}),
    "softcap": (None, {"softcap": 2.0}, NO_BIAS, {"softcap": 2.0}),
    "position-bias": (None, {"position_bias": POSITION_BIAS}, NO_BIAS, {"position_bias": POSITION_BIAS}),
    "sinks": (EDGE_MASK, {"sinks": SINKS}, additive(PADDED), {"sinks": SINKS}),
    "sinks-a-query": (
        EDGE_MASK,
        {"sinks": SINKS.view(1, H, 1, 1).expand(B, H, Q, 1)},
        additive(PADDED),
        {"sinks": SINKS},
    ),
}


@pytest.fixture
def qk():
    torch.manual_seed(0)
    return torch.randn(B, H, Q, D), torch.randn(B, G, K, D)


def pick(full, rows):
    return full.take_along_dim(rows[:, None, :, None], dim=2)


@pytest.mark.parametrize("case", CASES)
def test_rows_match_the_full_matrix(case, qk):
    mask, options, bias, reference_options = CASES[case]
    flow = row_probabilities(*qk, mask, ROWS, **options)
    torch.testing.assert_close(flow, pick(matrix(*qk, bias, **reference_options), ROWS), atol=1e-6, rtol=0)


def test_padding_of_flash_kernels_hides_keys(qk):
    seen = CAUSAL & PADDING[:, None].bool()
    rows = torch.tensor([[1, 6], [3, 6]])
    flow = row_probabilities(*qk, PADDING, rows, causal=True)
    torch.testing.assert_close(flow, pick(matrix(*qk, additive(seen)), rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_query_heads_share_key_heads(groups, qk):
    key = torch.randn(B, groups, K, D)
    flow = row_probabilities(qk[0], key, None, ROWS)
    torch.testing.assert_close(flow, pick(matrix(qk[0], key, NO_BIAS), ROWS), atol=1e-6, rtol=0)


def test_the_same_rows_for_all_samples_may_be_given_once(qk):
    once = row_probabilities(*qk, None, torch.tensor([2, 5]), causal=True)
    assert torch.equal(once, row_probabilities(*qk, None, torch.tensor([[2, 5], [2, 5]]), causal=True))


def test_negative_rows_count_from_the_end(qk):
    assert torch.equal(
        row_probabilities(*qk, EDGE_MASK, torch.tensor([-1, -3])),
        row_probabilities(*qk, EDGE_MASK, torch.tensor([6, 4])),
    )


def test_one_query_of_a_cache_sees_every_key(qk):
    query, key = qk[0][:, :, -1:], qk[1]
    flow = row_probabilities(query, key, None, torch.tensor([-1]), causal=True)
    torch.testing.assert_close(flow, matrix(query, key, NO_BIAS[:, -1:]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [None, 4])
def test_several_cached_queries_see_what_lies_before_them(window, qk):
    """As flash kernels do without a mask: of 3 queries over 7 keys, the last sees all, and the first 5 of them."""
    query, key = qk[0][:, :, -3:], qk[1]
    seen = (CAUSAL if window is None else CAUSAL & ~torch.ones(Q, K, dtype=torch.bool).tril(-4))[:, -3:]
    flow = row_probabilities(query, key, None, torch.arange(3), causal=True, window=window)
    torch.testing.assert_close(flow, matrix(query, key, additive(seen)), atol=1e-6, rtol=0)


def test_rows_sum_to_one_and_to_less_with_sinks(qk):
    assert torch.allclose(row_probabilities(*qk, EDGE_MASK, ROWS).sum(-1), torch.ones(B, H, 3))
    assert (row_probabilities(*qk, EDGE_MASK, ROWS, sinks=SINKS).sum(-1) < 1).all()


def test_equal_keys_get_equal_probability(qk):
    flow = row_probabilities(qk[0], torch.ones(B, G, K, D), None, torch.tensor([4]), causal=True)
    torch.testing.assert_close(flow[..., :5], torch.full((B, H, 1, 5), 0.2))
    assert not flow[..., 5:].any()


def test_padding_rows_that_see_nothing_are_finite(qk):
    flow = row_probabilities(*qk, torch.zeros(B, 1, Q, K, dtype=torch.bool), ROWS)
    torch.testing.assert_close(flow, torch.full_like(flow, 1 / K))


def test_half_precision_is_read_in_full(qk):
    query, key = (x.bfloat16() for x in qk)
    flow = row_probabilities(query, key, None, ROWS)
    assert flow.dtype == torch.float32
    torch.testing.assert_close(flow, row_probabilities(query.float(), key.float(), None, ROWS), atol=1e-2, rtol=0)
