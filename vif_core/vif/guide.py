"""The guide: what draws maps to where the extraction layer itself looks when it answers."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vif_core.flow.call import AttentionCall
from vif_core.vif.generator import Canvas
from vif_core.vif.turns import NONE, Turns


def response_flow(call: AttentionCall, turns: Turns, where: Canvas) -> Float[Tensor, "M P"]:
    """Mean flow over the canvas of the rows that produce each turn's response, renormalised over what it covers."""
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
        part.append((flow * (producing[own] >= 0)[..., None]).sum(1))
    flow = torch.cat(part) * where.covered
    return flow / flow.sum(-1, keepdim=True).clamp(min=1e-12)


def guide_loss(maps: Float[Tensor, "M P"], target: Float[Tensor, "M P"], seeking: bool = False) -> Tensor:
    """How far the map is from the flow of the layer whose features it was made from, sharpened by squaring.

    Cross-entropy in nats: the map covers all of the target, and is as broad as it is uncertain. Seeking: 1 minus the
    map's mean of the target over its peak, in [0, 1]: the map settles on the target's best place.
    """
    sharp = target.square()
    if seeking:
        return (1 - (maps * sharp / sharp.amax(-1, keepdim=True).clamp(min=1e-12)).sum(-1)).mean()
    sharp = sharp / sharp.sum(-1, keepdim=True).clamp(min=1e-12)
    return -(sharp * maps.clamp(min=1e-9).log()).sum(-1).mean()


def _among(values: Int[Tensor, "M T"], others: Int[Tensor, "M S"]) -> Tensor:
    return (values[:, :, None] == others[:, None]).any(-1)


def _sample(call: AttentionCall, b: int) -> AttentionCall:
    mask = call.mask if call.mask is None or len(call.mask) == 1 else call.mask[b : b + 1]
    one = slice(b, b + 1)
    return replace(call, query=call.query[one], key=call.key[one], value=call.value[one], mask=mask)
