"""The long tail of the flow over visual tokens."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vifscope.metrics.distribution import defined
from vifscope.metrics.ratio import visual_ratio

ONE_IN = 20
"""The top share counts one visual token in 20 (5 %), rounded down, and at least one."""


def top_share(flow: Float[Tensor, "*axes K"], visual: Bool[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """Share of the flow on visual tokens that the strongest 5 % of them (at least one) receive.

    flow:   attention probabilities.
    visual: True at visual tokens.
    Returns values in (0, 1], the share of tokens counted where attention is uniform; NaN where the ratio is under 1e-6.

    >>> top_share(torch.tensor([0.3, 0.1, 0.6]), torch.tensor([True, True, False])).item()
    0.75
    """
    counted = (visual.sum(-1) // ONE_IN).clamp(min=1)
    most = max(1, flow.shape[-1] // ONE_IN)
    strongest = _largest(flow * visual, most)
    total = (strongest * (torch.arange(most, device=flow.device) < counted[..., None])).sum(-1)
    return total / defined(visual_ratio(flow, visual))


def _largest(values: Float[Tensor, "*axes K"], most: int) -> Float[Tensor, "*axes most"]:
    """The largest values of each row, in falling order."""
    if values.is_cpu:  # numpy sorts whole rows ten times faster than torch finds a few of them
        return torch.from_numpy(np.sort(values.detach().numpy(), axis=-1)).flip(-1)[..., :most]
    return values.topk(most, -1).values
