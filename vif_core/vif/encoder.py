"""The encoder of VIF: from visual and text features of one layer to K latent slots (paper, section 4).

Blocks of bidirectional cross-attention fuse both, latent queries condense what was fused into slots, and two heads read
each slot's mean and log-variance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vif_core.vif.losses import Latent

_PERIODS = 4
_FIRST_GAIN = 2.5
_FIRST_LOGVAR = -4.0


class CrossAttention(nn.Module):
    """Multi-head attention from x to y and a feed-forward network, both residual and normalised before."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_x, self.norm_y, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        with torch.no_grad():  # sharper than usual from the start: nearly uniform attention learns very slowly
            self.query.weight.mul_(_FIRST_GAIN)
            self.key_value.weight[:width].mul_(_FIRST_GAIN)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, feed_forward * width), nn.Linear(feed_forward * width, width)

    def forward(
        self, x: Float[Tensor, "M N W"], y: Float[Tensor, "M S W"], seen: Bool[Tensor, "M S"]
    ) -> Float[Tensor, "M N W"]:
        """x after reading y, of which each row sees the entries `seen`."""
        query = self.query(self.norm_x(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(self.norm_y(y)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # by hand: one side has a few tokens, for which fused kernels are slow (their backward on a CPU by 10 times)
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        scores = scores.masked_fill(~seen[:, None, None], torch.finfo(scores.dtype).min)
        x = x + self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_out(x))))


class Condenser(nn.Module):
    """K latent queries that read the fused features: one slot each.

    queries: their first values, such as the codes of the places where the slots' spotlights begin. They are matched
    with keys by one projection at first, so that a fresh slot looks around its own place. Without that all slots read
    the same average, and the maps of a short training stay flat.
    """

    def __init__(self, width: int, queries: Float[Tensor, "K W"], heads: int, feed_forward: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(queries.clone())
        self.read = CrossAttention(width, heads, feed_forward)
        with torch.no_grad():
            self.read.key_value.weight[:width] = self.read.query.weight

    def forward(self, fused: Float[Tensor, "M S W"], seen: Bool[Tensor, "M S"]) -> Float[Tensor, "M K W"]:
        return self.read(self.queries.expand(len(fused), -1, -1), fused, seen)


class Encoder(nn.Module):
    """One branch, prior or posterior: features -> K diagonal Gaussians.

    basis: first directions of the place code (`place_basis`).    condenser: may be shared between branches.
    """

    def __init__(
        self,
        hidden_size: int,
        width: int,
        *,
        depth: int,
        heads: int,
        feed_forward: int,
        logvar_bound: float,
        basis: Float[Tensor, "C W"],
        condenser: Condenser,
    ) -> None:
        super().__init__()
        self.logvar_bound = logvar_bound
        self.project = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width))
        self.kind = nn.Parameter(0.02 * torch.randn(2, width))  # tells visual from text
        self.place = nn.Parameter(basis.clone())
        self.read_visual = nn.ModuleList(CrossAttention(width, heads, feed_forward) for _ in range(depth))
        self.read_text = nn.ModuleList(CrossAttention(width, heads, feed_forward) for _ in range(depth))
        self.condenser = condenser
        self.norm = nn.LayerNorm(width)
        self.mean, self.logvar = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.logvar.weight)
        nn.init.constant_(self.logvar.bias, _FIRST_LOGVAR)  # little noise until there is a signal

    def forward(
        self,
        visual: Float[Tensor, "B V D"],
        places: Float[Tensor, "M V A"],
        text: Float[Tensor, "M T D"],
        sample: Tensor,
        visual_seen: Bool[Tensor, "M V"],
        text_seen: Bool[Tensor, "M T"],
    ) -> Latent:
        """visual: features of each sample's visual tokens.  text: of each turn's text.  sample: [M] a turn's sample."""
        lying = place_code(places).to(self.place.dtype) @ self.place
        seeing = self.project(visual)[sample] + self.kind[0] + lying  # [M V W]
        reading = self.project(text) + self.kind[1]  # [M T W]
        for read_visual, read_text in zip(self.read_visual, self.read_text, strict=True):
            reading = read_visual(reading, seeing, visual_seen)
            seeing = read_text(seeing, reading, text_seen)
        fused, seen = torch.cat([seeing, reading], 1), torch.cat([visual_seen, text_seen], 1)
        slots = self.norm(self.condenser(fused, seen))
        bound = self.logvar_bound
        return Latent(self.mean(slots).float(), self.logvar(slots).float().clamp(-bound, bound))


def place_code(places: Float[Tensor, "*M A"]) -> Float[Tensor, "*M C"]:
    """Sines and cosines of each coordinate in [0, 1], of 1/2 to 4 periods: near places have like codes."""
    angles = places[..., None] * torch.pi * 2.0 ** torch.arange(_PERIODS, device=places.device)  # [*M A periods]
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def place_basis(width: int, axes: int) -> Float[Tensor, "C W"]:
    """Random first directions of the place code in features of unit scale."""
    codes = 2 * _PERIODS * axes
    return torch.randn(codes, width) * (axes * _PERIODS) ** -0.5
