"""How much of the flow lands on visual tokens, and how that compares with uniform attention."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def visual_ratio(flow: Float[Tensor, "*axes K"], visual: Bool[Tensor, "*#axes K"]) -> Float[Tensor, "*axes"]:
    """Share of each row's attention that lands on visual tokens (paper section 2.1).

    flow:   attention probabilities; each row sums to 1 over K (to less where the model has attention sinks).
    visual: True at visual tokens.
    Returns values in [0, 1]; 0 where the prompt has no image. The mean over heads of their ratios is the ratio of the
    head-mean row.

    >>> visual_ratio(torch.full((1, 1, 1, 4), 0.25), torch.tensor([True, False, False, False])).item()
    0.25
    """
    return (flow * visual).sum(-1)


def ratio_lift(
    flow: Float[Tensor, "*axes K"],
    visual: Bool[Tensor, "*#axes K"],
    seen: Bool[Tensor, "*#axes K"] | None = None,
) -> Float[Tensor, "*axes"]:
    """The visual ratio over the visual tokens' share of the keys that the row sees: 1 is what uniform attention gives.

    flow:   attention probabilities.
    visual: True at visual tokens.
    seen:   True at the keys that the row sees; by default those with any flow (hidden keys have exactly none).
    Returns values >= 0; NaN where the row sees no visual token.

    >>> flow = torch.tensor([0.4, 0.4, 0.2, 0.0])  # the row sees three keys, two of them visual
    >>> round(ratio_lift(flow, torch.tensor([True, True, False, False])).item(), 6)
    1.2
    """
    seen_keys = (flow > 0 if seen is None else seen).to(flow.dtype)
    uniform = visual_ratio(seen_keys, visual) / seen_keys.sum(-1)
    return visual_ratio(flow, visual) / uniform.where(uniform > 0, torch.nan)
