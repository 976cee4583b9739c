"""What tests of several rooms of the core share: equations 5 to 7 with the matrices built, as the text has them."""

from __future__ import annotations

import pytest
import torch


def written_out(call, blend):
    """A, A' and A'' of one call, [B, H, Q, K] each; and which rows take a map and see some of it, [B, Q]."""
    width, n_queries, n_keys = call.query.shape[-1], call.query.shape[2], call.key.shape[2]
    key = call.key.repeat_interleave(call.query.shape[1] // call.key.shape[1], 1)
    scores = call.query @ key.transpose(2, 3) * call.extras.get("scaling", width**-0.5)
    if call.extras.get("softcap"):
        scores = torch.tanh(scores / call.extras["softcap"]) * call.extras["softcap"]
    visible = torch.ones(len(scores), 1, n_queries, n_keys, dtype=torch.bool)
    if call.mask is not None and call.mask.dim() == 4:
        mask = call.mask[..., :n_keys]
        visible = visible & (mask if mask.dtype == torch.bool else mask > -1e30)
    else:
        if call.causal and n_queries > 1:
            visible = visible.tril(n_keys - n_queries)
        if call.extras.get("sliding_window") and n_queries > 1:
            visible = visible.triu(n_keys - n_queries + 1 - call.extras["sliding_window"])
        if call.mask is not None:
            visible = visible & call.mask[:, None, None, :n_keys].bool()
    scores = scores.masked_fill(~visible, -1e30)
    if call.sinks is not None:
        scores = torch.cat([scores, call.sinks.view(1, -1, 1, 1).expand(len(scores), -1, n_queries, 1)], -1)
    before = scores.softmax(-1)[..., :n_keys]  # A

    laid = torch.zeros(len(scores), n_queries, n_keys)
    last = [max(row) for row in blend.turn.tolist()]
    for b, keys in enumerate(blend.keys.tolist()):
        for q, position in enumerate(call.query_positions):
            known = position < blend.turn.shape[1]
            turn = blend.turn[b, position] if known else last[b] if blend.later else -1
            for p, key_position in enumerate(keys):
                if turn >= 0 and key_position >= 0 and key_position in call.key_positions:
                    laid[b, q, key_position - call.key_positions.start] += blend.maps[turn, p]
    laid = laid[:, None]
    mixed = (1 - blend.alpha) * before + blend.alpha * laid  # A'
    kept = mixed * visible
    after = kept / kept.sum(-1, keepdim=True).clamp(min=1e-30)  # A''
    changed = (laid * visible).sum(-1, keepdim=True) > 0
    return before, mixed, torch.where(changed, after, before), changed[:, 0, :, 0]


def output_of(flow, value):
    """What the op returns for a flow [B, H, Q, K]: [B, Q, H, D]."""
    return (flow @ value.repeat_interleave(flow.shape[1] // value.shape[1], 1)).transpose(1, 2)


@pytest.fixture(scope="session")
def flows():
    return written_out


@pytest.fixture(scope="session")
def attended():
    return output_of
