"""The guide: what draws maps to where the extraction layer itself looks when it answers."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vif_core.flow.call import AttentionCall
from vif_core.vif.generator import Canvas
from vif_core.vif.turns import NONE, Turns

_LEAST = 1e-9


def response_flow(call: AttentionCall, turns: Turns, where: Canvas) -> Float[Tensor, "M R P"]:
    """Flow over the canvas of each row that produces a token of a turn's response, averaged over heads.

    Zero where a turn has fewer rows than another, and where the canvas covers nothing.
    """
    assert turns.posterior is not None
    told = turns.posterior.where(~_among(turns.posterior, turns.prior), NONE)  # [M Tq] the answer's positions
    width = int((told != NONE).sum(1).max())
    producing = told.sort(descending=True).values[:, :width] - 1  # rows that produce them; NONE - 1 where none
    part = []
    for b in range(len(turns.of)):  # one sample's rows at a time: samples hold different numbers of turns
        own = turns.sample == b
        if not own.any():
            continue
        rows = producing[own].clamp(min=0)  # [m R]
        one = _sample(call, b)
        flow = one.rows(rows.flatten()[None])[0].mean(0)  # [m*R K]
        flow = flow[:, where.keys[b].clamp(min=0)].unflatten(0, rows.shape)  # [m R P]
        part.append(flow * (producing[own] >= 0)[..., None])
    return torch.cat(part) * where.covered[:, None]


def guide_loss(maps: Float[Tensor, "M P"], target: Float[Tensor, "M R P"], seeking: bool = False) -> Tensor:
    """How far each map is from the flow of the rows that produce its turn's response, sharpened by squaring.

    Cross-entropy in nats: the map covers all that the rows look at, and is as broad as it is uncertain. Seeking, in
    [0, 1]: 1 minus the root of the map's mean of a row's target over its peak, so the map settles on the best place
    of each row: on one for an answer of a word, on several for one that lists what is seen. Without the root it would
    settle on one for all rows, with a logarithm in its place it would cover what is merely likely. Rows count by their
    squared peak: those that end a response, or join its words, look at nothing for sure.
    """
    sharp = target.square()
    peak = sharp.amax(-1)  # [M R]
    share = peak / peak.sum(-1, keepdim=True).clamp(min=_LEAST)
    if seeking:
        found = torch.einsum("mp,mrp->mr", maps, sharp / peak.clamp(min=_LEAST)[..., None])
        return (1 - (share * found.clamp(min=_LEAST).sqrt()).sum(-1)).mean()
    sharp = sharp / sharp.sum(-1, keepdim=True).clamp(min=_LEAST)
    wanted = torch.einsum("mr,mrp->mp", share, sharp)
    return -(wanted * maps.clamp(min=_LEAST).log()).sum(-1).mean()


def _among(values: Int[Tensor, "M T"], others: Int[Tensor, "M S"]) -> Tensor:
    return (values[:, :, None] == others[:, None]).any(-1)


def _sample(call: AttentionCall, b: int) -> AttentionCall:
    mask = call.mask if call.mask is None or len(call.mask) == 1 else call.mask[b : b + 1]
    one = slice(b, b + 1)
    return replace(call, query=call.query[one], key=call.key[one], value=call.value[one], mask=mask)
