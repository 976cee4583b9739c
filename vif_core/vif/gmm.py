"""Spotlights: from latent slots to a mixture of Gaussians, and from that to a map (equations 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

_FIRST_SPREAD = 0.25
"""Spread of fresh spotlights: wide enough that the gradient reaches every cell."""


@dataclass(frozen=True)
class Spotlights:
    """K Gaussian components for each of M turns.

    centres: (row, col) in [0, 1] of the image, A = 2; or the place along the sequence, A = 1.
    spreads: in units of the image's longer side.
    weights: at least 0, sum 1 over K.
    """

    centres: Float[Tensor, "*M K A"]
    spreads: Float[Tensor, "*M K"]
    weights: Float[Tensor, "*M K"]


class SlotDecoder(nn.Module):
    """Each latent slot's centre, spread and weight. Fresh centres are spread evenly over the image.

    axes: 2 for an image, 1 for the place along a sequence (variant full-sequence).
    """

    def __init__(self, width: int, slots: int, min_spread: float, axes: int = 2) -> None:
        super().__init__()
        self.min_spread, self.axes = min_spread, axes
        self.read = nn.Linear(width, axes + 2)
        nn.init.normal_(self.read.weight, std=0.5 * width**-0.5)
        nn.init.zeros_(self.read.bias)
        self.anchors = nn.Parameter(_even_places(slots, axes).logit())
        with torch.no_grad():
            wide = max(_FIRST_SPREAD - min_spread, 0.05)
            self.read.bias[axes] = torch.tensor(wide).expm1().log()  # the inverse of softplus

    def forward(self, z: Float[Tensor, "*M K Z"]) -> Spotlights:
        out = self.read(z.to(self.read.weight.dtype)).float()
        centres = (self.anchors + out[..., : self.axes]).sigmoid()
        spreads = F.softplus(out[..., self.axes]) + self.min_spread
        return Spotlights(centres, spreads, out[..., self.axes + 1].softmax(-1))


def gaussians(
    lights: Spotlights, points: Float[Tensor, "M P A"], extent: Float[Tensor, "M P A"]
) -> Float[Tensor, "M K P"]:
    """G_k(u) = exp(-|u - c_k|^2 / (2 s_k^2)) (equation 3): 1 at the centre.

    points: (row, col) in [0, 1].     extent: height and width over the image's longer side, the unit of spreads.
    """
    return _exponents(lights, points, extent).exp()


def render(
    lights: Spotlights,
    points: Float[Tensor, "M P A"],
    extent: Float[Tensor, "M P A"],
    covered: Bool[Tensor, "M P"],
    normalise: Literal["sum", "softmax"] = "sum",
) -> Float[Tensor, "M P"]:
    """B(u) = sum_k pi_k G_k(u), normalised over the covered cells (equation 4). Rows without any are 0.

    normalise: "sum" divides by the sum; "softmax" takes the softmax of B's values, as the authors' release does.
    """
    weights = lights.weights[..., None]  # [M K 1]
    if normalise == "softmax":
        values = (weights * gaussians(lights, points, extent)).sum(1)  # [M P]
    else:  # in logs: a narrow spotlight between the cells of a coarse grid would be 0 at all of them
        values = (weights.clamp(min=1e-30).log() + _exponents(lights, points, extent)).logsumexp(1)
    return values.masked_fill(~covered, torch.finfo(values.dtype).min).softmax(-1) * covered


def _exponents(
    lights: Spotlights, points: Float[Tensor, "M P A"], extent: Float[Tensor, "M P A"]
) -> Float[Tensor, "M K P"]:
    offset = (points[:, None] - lights.centres[:, :, None]) * extent[:, None]  # [M K P A]
    return -offset.square().sum(-1) / (2 * lights.spreads.square()[..., None])


def _even_places(slots: int, axes: int) -> Tensor:
    """Centres of K cells that tile the unit square (or line): [K, axes]."""
    if axes == 1:
        return ((torch.arange(slots) + 0.5) / slots)[:, None]
    cols = int(slots**0.5 + 0.999)
    rows = -(-slots // cols)
    place = torch.arange(slots)
    return torch.stack([(place // cols + 0.5) / rows, (place % cols + 0.5) / cols], dim=-1)
