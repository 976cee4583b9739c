"""The trainable part of VIF: from a layer's features to one map a turn. One generator serves all layer pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vif_core.errors import UsageError
from vif_core.vif.config import VIFConfig
from vif_core.vif.encoder import Condenser, Encoder, place_basis, place_code
from vif_core.vif.gmm import SlotDecoder, Spotlights, render
from vif_core.vif.losses import Latent
from vif_core.vif.turns import NONE, Turns


@dataclass(frozen=True)
class Canvas:
    """The keys that maps weigh.

    keys: positions, NONE fills up.    points, extent: where they lie (`gmm.gaussians`).    covered: has a place.
    """

    keys: Int[Tensor, "B P"]
    points: Float[Tensor, "M P A"]
    extent: Float[Tensor, "M P A"]
    covered: Bool[Tensor, "M P"]

    def of_visual(self, turns: Turns) -> Float[Tensor, "M V A"]:
        """Where the visual tokens lie."""
        if self.keys is turns.visual:
            return self.points
        at = turns.visual[turns.sample].clamp(min=0)
        return self.points.gather(1, at[..., None])

    def draw(self, lights: Spotlights, config: VIFConfig) -> Float[Tensor, "M P"]:
        assert config.normalise is not None
        return render(lights, self.points, self.extent, self.covered, config.normalise)


def canvas(turns: Turns, config: VIFConfig) -> Canvas:
    """The visual tokens that each turn sees; in variant full-sequence the text that its prior sees, too."""
    if config.variant == "full-sequence":
        return _sequence(turns)
    points = turns.points[turns.sample]
    if config.points == "linspace":
        points = _to_edges(points)
    covered = turns.seen & points.isfinite().all(-1)
    return Canvas(turns.visual, points.nan_to_num(0.5), turns.extent[turns.sample], covered)


@dataclass(frozen=True)
class Branches:
    """What the generator reads from one layer's features. posterior: None where no answer is known or asked for."""

    prior: Latent
    posterior: Latent | None


class Generator(nn.Module):
    """Prior and posterior encoder, and the decoder from slots to spotlights."""

    def __init__(self, config: VIFConfig, hidden_size: int) -> None:
        super().__init__()
        width, heads, depth, feed_forward = config.width, config.heads, config.depth, config.feed_forward
        if width is None or depth is None or feed_forward is None:
            raise ValueError("a generator is built from a resolved configuration")
        self.config = config
        axes = 1 if config.variant == "full-sequence" else 2
        self.slots = SlotDecoder(width, config.slots, config.min_spread, axes)
        basis = place_basis(width, axes)
        queries = place_code(self.slots.anchors.detach().sigmoid()) @ basis

        def encoder(condenser: Condenser) -> Encoder:
            return Encoder(
                hidden_size,
                width,
                depth=depth,
                heads=heads,
                feed_forward=feed_forward,
                logvar_bound=config.logvar_bound,
                basis=basis,
                condenser=condenser,
            )

        condenser = Condenser(width, queries, heads, feed_forward)
        self.prior = encoder(condenser)
        self.posterior: Encoder | None = None
        if config.variant != "no-posterior":
            own = condenser if config.shared_queries else Condenser(width, queries, heads, feed_forward)
            self.posterior = encoder(own)

    def forward(self, hidden: Float[Tensor, "B T D"], turns: Turns, where: Canvas, *, posterior: bool) -> Branches:
        """Both branches' slots for each turn, from one layer's hidden states."""
        hidden = hidden.to(self.slots.read.weight.dtype)
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        visual = hidden[rows, turns.visual.clamp(min=0)]  # [B V D]

        def read(encoder: Encoder, text: Tensor) -> Latent:
            features = hidden[turns.sample[:, None], text.clamp(min=0)]  # [M T D]
            return encoder(visual, where.of_visual(turns), features, turns.sample, turns.seen, text != NONE)

        prior = read(self.prior, turns.prior)
        if not posterior or self.posterior is None or turns.posterior is None:
            return Branches(prior, None)
        return Branches(prior, read(self.posterior, turns.posterior))


def swapped(lights: Spotlights, sample: Int[Tensor, " M"]) -> Spotlights:
    """Each turn's spotlights replaced by those of a turn of another sample, in a cycle.

    Raises UsageError where all turns belong to one sample.
    """
    places = torch.arange(len(sample), device=sample.device)
    other = sample[:, None] != sample  # [M M]
    if not other.any(1).all():
        raise UsageError(
            "swapped maps of a single sample",
            expected="turns of two samples or more in a batch",
            next_step='Set maps_from of the VIFModel to "own" where samples are read by themselves',
        )
    turned = places.roll(-int(sample.bincount().max()))  # each map once, where samples have equally many turns
    following = ((places - places[:, None]) % len(sample)).masked_fill(~other, len(sample)).argmin(1)
    order = torch.where(sample[turned] != sample, turned, following)
    return replace(lights, centres=lights.centres[order], spreads=lights.spreads[order], weights=lights.weights[order])


def _to_edges(points: Tensor) -> Tensor:
    """Cell centres stretched so that the first lies at 0 and the last at 1 (the release's linspace)."""
    low = points.nan_to_num(1.0).amin(1, keepdim=True)
    high = points.nan_to_num(0.0).amax(1, keepdim=True)
    return (points - low) / (high - low).clamp(min=1e-6)


def _sequence(turns: Turns) -> Canvas:
    length = turns.of.shape[1]
    place = torch.arange(length, device=turns.of.device)
    visual = turns.visual[turns.sample].where(turns.seen, NONE)
    at = torch.cat([turns.prior, visual], 1) % (length + 1)  # what is NONE goes into a column that is left out
    covered = torch.zeros(len(turns), length + 1, dtype=torch.bool, device=at.device).scatter(1, at, True)[:, :length]
    count = covered.sum(1, keepdim=True)
    points = ((covered.cumsum(1) - 0.5) / count).clamp(0, 1)[..., None].float()  # by rank: what a turn skips is no gap
    return Canvas(place.expand(len(turns.of), -1), points, torch.ones_like(points), covered)
