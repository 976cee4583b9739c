"""What one forward pass of a model with VIF carries from layer to layer, and what each layer pair made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

from jaxtyping import Float, Int
from torch import Tensor

from vif_core.errors import UsageError
from vif_core.flow.blend import Blend
from vif_core.vif.generator import Canvas
from vif_core.vif.gmm import Spotlights
from vif_core.vif.losses import Latent
from vif_core.vif.turns import NONE, Turns

MADE_BY = "_vif_pass"
"""Name under which a cache carries the pass that filled it; None where that had no image."""

Draw = Literal["prior-mean", "prior-draw", "posterior-mean", "posterior-draw"]
"""Whose latent gives the map, and whether it is the mean or drawn."""

MapsFrom = Literal["own", "swapped", "constant"]
"""A turn's own spotlights; those of another sample; or the same for all, learned (controls)."""


@dataclass(frozen=True)
class PairReading:
    """What one layer pair made of a pass's M turns.

    lights, maps: of the latent in use.     prior_maps: of the prior's mean, where the posterior is in use.
    target: flow of the extraction layer's response rows over the canvas, where it is asked for; guide: `guide_loss` of
            the turn's own maps against it.
    """

    lights: Spotlights
    maps: Float[Tensor, "M P"]
    prior: Latent
    posterior: Latent | None
    canvas: Canvas
    prior_maps: Float[Tensor, "M P"] | None = None
    target: Float[Tensor, "M R P"] | None = None
    guide: Tensor | None = None


@dataclass
class Pass:
    """One forward pass over sequences, from its prefill on: what the layers hand to one another.

    pairs: that have a map.
    seeds: of each turn's noise, where it must be the same in every pass; None for fresh noise.
    chance: in [0, 1] for each turn, whether its map comes from the posterior (`posterior_share`).
    over: its prefill is; the steps that go on from its cache read its maps and make none.
    A cache that is copied goes on with the same maps, so that no copy is made of a pass.
    """

    turns: Turns
    draw: Draw
    pairs: frozenset[tuple[int, int]]
    seeds: list[int] | None = None
    chance: Tensor | None = None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    readings: dict[int, PairReading] = field(default_factory=dict)
    blends: dict[int, Blend] = field(default_factory=dict)
    noise: dict[int, Tensor] = field(default_factory=dict)
    targets: dict[int, Tensor] = field(default_factory=dict)
    over: bool = False

    def __deepcopy__(self, _memo: dict[int, Any]) -> Pass:
        return self


def text_seeds(ids: Int[Tensor, "B T"], turns: Turns) -> list[int]:
    """A seed for each turn, from the text that its prior sees: the same wherever and in whichever batch it stands."""
    ids, texts = ids.cpu(), turns.prior.cpu()
    return [
        crc32(ids[b, own[own != NONE]].numpy().tobytes()) for b, own in zip(turns.sample.tolist(), texts, strict=True)
    ]


def cached_tokens(inputs: Mapping[str, Any]) -> int:
    """Positions in the cache that a pass is given."""
    cache = inputs.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def in_parts(seen: str) -> UsageError:
    """What is raised for a prompt that does not arrive whole."""
    return UsageError(
        seen,
        expected="the whole prompt in one pass: maps are made from all of it",
        next_step="Give no past_key_values of a part of the prompt, and no prefill_chunk_size",
    )
