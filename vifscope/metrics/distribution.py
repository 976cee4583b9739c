"""The flow renormalised over visual tokens: the distribution that entropy and the long tail are measured on."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vifscope.metrics.ratio import visual_ratio

LEAST_RATIO = 1e-6
"""Below this visual ratio a row has no distribution over visual tokens to speak of: what is measured on it is NaN."""


def visual_distribution(flow: Float[Tensor, "*axes K"], visual: Bool[Tensor, "*#axes K"]) -> Float[Tensor, "*axes K"]:
    """Each row's flow over visual tokens, summing to 1, and 0 elsewhere; NaN where the ratio is under 1e-6.

    >>> visual_distribution(torch.tensor([0.1, 0.3, 0.6]), torch.tensor([True, True, False]))
    tensor([0.2500, 0.7500, 0.0000])
    """
    return flow * visual / defined(visual_ratio(flow, visual))[..., None]


def defined(ratio: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """`ratio` where it suffices for a distribution, NaN elsewhere."""
    return ratio.where(ratio >= LEAST_RATIO, torch.nan)
