"""Attention probabilities of a few query rows, recomputed from what the attention op was given."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def row_probabilities(
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B G K D"],
    mask: Tensor | None,
    rows: Int[Tensor, "B R"] | Int[Tensor, " R"],
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    sinks: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
) -> Float[Tensor, "B H R K"]:
    """The probabilities that one call of the attention op uses for the query rows `rows`.

    key:     as the op gets it; its G heads serve H / G query heads each.
    mask:    as the op gets it: boolean (True = visible) or additive over edges, padding [B, K] (flash kernels), None.
    rows:    positions among the op's Q queries, one set for all samples or one each; negative ones from the end.
    scaling: factor of the scores; None for 1 / sqrt(D).      softcap: bound of the scaled scores, by tanh.
    sinks:   logits that take part in the softmax without being a key: [H], or [B, H, Q, 1].
    causal, window: without a mask of edges, the last query sees all keys and each one before it a key less, and of
             those the last `window`.
    Returns fp32 values in [0, 1]; a row sums to 1, or to less where there are sinks. Rows that see no key are uniform.
    """
    n_heads, n_queries, width = query.shape[1:]
    n_groups, n_keys = key.shape[1:3]
    rows = rows.to(query.device).expand(query.shape[0], -1) % n_queries  # [B R]
    picked = _at_rows(query, rows)  # [B H R D]
    grouped = picked.reshape(len(picked), n_groups, -1, width)  # [B G (H/G R) D]
    scores = (grouped @ key.transpose(2, 3)).view(len(picked), n_heads, -1, n_keys).float()
    scores *= width**-0.5 if scaling is None else scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if position_bias is not None:
        scores += _at_rows(position_bias, rows)
    if mask is None or mask.dim() == 2:
        nearest = n_queries - n_keys if causal and n_queries > 1 else None  # the last query sees the last key
        mask = _visible(mask, rows, n_keys, nearest, window)
    else:
        mask = _at_rows(mask, rows)[..., :n_keys]
    if mask is not None:
        scores += _additive(mask) if mask.dtype == torch.bool else mask
    if sinks is None:
        return scores.softmax(-1)
    sinks = sinks.view(1, -1, 1, 1) if sinks.dim() == 1 else _at_rows(sinks, rows)
    return torch.cat([scores, sinks.expand(*scores.shape[:3], 1)], -1).softmax(-1)[..., :-1]


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
    """What the op means by causal without a mask: query i sees keys 0 to K - Q + i. Boolean [1, 1, Q, K]."""
    return torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def _visible(
    padding: Tensor | None, rows: Tensor, n_keys: int, nearest: int | None, window: int | None
) -> Tensor | None:
    """Keys that rows [B, R] see without a mask of edges: boolean, broadcast to [B, 1, R, K]; None for all.

    nearest: index of a row minus that of the last key that it sees; None where order hides none.
    """
    visible = None if padding is None else padding[:, None, None, :n_keys].bool()
    if nearest is not None:
        distance = rows[:, None, :, None] - torch.arange(n_keys, device=rows.device)
        near = distance >= nearest
        near = near if window is None else near & (distance < nearest + window)
        visible = near if visible is None else visible & near
    return visible


def _additive(visible: Tensor) -> Tensor:
    """A boolean mask as one to add, which is several times faster than filling the scores."""
    return torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, torch.finfo(torch.float32).min)


def _at_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows [B, R] of a [B or 1, H or 1, Q or 1, ...] tensor: [B, H or 1, R, ...]; Q = 1 serves every row."""
    if values.shape[2] == 1:
        return values
    sample = torch.arange(len(rows), device=rows.device)[:, None]
    return values.transpose(1, 2).expand(len(rows), -1, -1, -1)[sample, rows].transpose(1, 2)
