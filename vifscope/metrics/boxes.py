"""How much of the flow over visual tokens falls into the target boxes.

`weights` lies along the same axis as the flow: at each visual token the share of its footprint that the union of the
boxes covers, NaN at keys without a footprint (text, newline tokens), which these metrics leave out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vifscope.metrics.distribution import LEAST_RATIO, defined
from vifscope.metrics.ratio import visual_ratio


def box_mass(flow: Float[Tensor, "*axes K"], weights: Float[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """sum p_v w_v: the share of the flow over visual tokens that falls into the boxes.

    flow:    attention probabilities, or the flow on visual tokens alone.
    weights: covered share of each token's footprint, in [0, 1]; NaN without one; all NaN without boxes.
    Returns values in [0, 1]; NaN without boxes and where the flow on visual tokens is under 1e-6.

    >>> box_mass(torch.tensor([0.3, 0.1, 0.6]), torch.tensor([1.0, 0.0, torch.nan])).item()  # the last key is text
    0.75
    """
    return (flow * weights.nan_to_num()).sum(-1) / defined(visual_ratio(flow, ~weights.isnan()))


def box_lift(flow: Float[Tensor, "*axes K"], weights: Float[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """The box mass over the mean weight: 1 is what uniform attention gives, 5 five times that.

    Returns values >= 0; NaN where the box mass is, and where the boxes cover no token.

    >>> round(box_lift(torch.tensor([0.3, 0.1, 0.6]), torch.tensor([1.0, 0.0, torch.nan])).item(), 6)
    1.5
    """
    return box_mass(flow, weights) / uniform_box_mass(weights)


def uniform_box_mass(weights: Float[Tensor, "*axes K"]) -> Float[Tensor, "*axes"]:
    """The box mass of uniform attention, which is the mean weight; NaN where the boxes cover no token.

    >>> uniform_box_mass(torch.tensor([1.0, 0.0, torch.nan])).item()
    0.5
    """
    mean = weights.nanmean(-1)
    return mean.where(mean > 0, torch.nan)


def pointing_hit(flow: Float[Tensor, "*axes K"], weights: Float[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """1 where the visual token with the most flow touches a box, else 0; NaN where the box mass is.

    >>> pointing_hit(torch.tensor([0.3, 0.1, 0.6]), torch.tensor([0.5, 0.0, torch.nan])).item()
    1.0
    """
    placed = ~weights.isnan()
    strongest = (flow * placed).argmax(-1, keepdim=True)
    hit = (weights.expand(flow.shape).gather(-1, strongest)[..., 0] > 0).to(flow.dtype)
    return hit.where(visual_ratio(flow, placed) >= LEAST_RATIO, torch.nan)
