"""How spread out the flow over visual tokens is."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vifscope.metrics.distribution import visual_distribution


def visual_entropy(flow: Float[Tensor, "*axes K"], visual: Bool[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """Shannon entropy in nats of the flow renormalised over visual tokens (paper section 5.3.4).

    flow:   attention probabilities; head-mean rows for the metric of that name, or each head's own.
    visual: True at visual tokens.
    Returns values in [0, ln V] for V visual tokens; NaN where the visual ratio is under 1e-6.

    >>> visual_entropy(torch.tensor([0.25, 0.25, 0.25, 0.25]), torch.tensor([True, True, False, False])).item()
    0.6931471824645996
    """
    p = visual_distribution(flow, visual)
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(-1)  # twice as fast as torch.special.entr


def visual_entropy_mean_of_heads(
    flow: Float[Tensor, "*axes H R K"], visual: Bool[Tensor, "*#axes 1 1 K"] | Bool[Tensor, " K"]
) -> Float[Tensor, "*axes R"]:
    """The entropy of each head's own row, then the mean over heads; heads whose entropy is undefined are left out.

    Never above `visual_entropy` of the head-mean row where all heads have the same visual ratio: heads that look at
    different places are each sharp and together diffuse.

    >>> heads = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two heads, one row, each on a token of its own
    >>> visual_entropy_mean_of_heads(heads, torch.tensor([True, True])).item()
    0.0
    """
    return visual_entropy(flow, visual).nanmean(-2)


def relative_entropy(flow: Float[Tensor, "*axes K"], visual: Bool[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """The visual entropy over ln V, its largest value for V visual tokens, so that grids of any size compare.

    Returns values in [0, 1]: 0 for a single token, 1 for a uniform spread. NaN where the entropy is, and for V < 2.

    >>> relative_entropy(torch.tensor([0.25, 0.25, 0.25, 0.25]), torch.tensor([True, True, False, False])).item()
    1.0
    """
    return visual_entropy(flow, visual) / largest_entropy(visual)


def largest_entropy(visual: Bool[Tensor, "*axes K"]) -> Float[Tensor, "*axes"]:
    """ln V, the entropy in nats of a uniform spread over V visual tokens; NaN for V < 2.

    >>> largest_entropy(torch.tensor([True, True, False])).item()
    0.6931471824645996
    """
    tokens = visual.sum(-1)
    return tokens.log().where(tokens > 1, torch.nan)
