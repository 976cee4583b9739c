"""What a pass of a model with VIF gives to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vif_core.vif.config import VIFConfig
from vif_core.vif.losses import entropy, kl_divergence, volume
from vif_core.vif.passes import PairReading


@dataclass(frozen=True)
class VIFOutput:
    """What a pass of a VIFModel gives. Losses are scalars, 0 where they do not apply.

    loss: equation 10 with the configuration's weights, and logits as the base model's.
    kl: mean or sum as configured.      guide: see `guide_loss`.        readings: of the pairs that had a map.
    """

    loss: Tensor
    cross_entropy: Tensor
    kl: Tensor
    volume: Tensor
    entropy: Tensor
    guide: Tensor
    logits: Tensor
    readings: tuple[PairReading, ...]


def answer_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of the labelled tokens (equation 8's first term), weighted where weights are given."""
    told = labels[:, 1:] >= 0
    scores, wanted = logits[:, :-1][told].float(), labels[:, 1:][told]
    if not len(wanted):
        return scores.sum()  # of nothing: 0 with a graph, where 0 times logits may be NaN
    losses = F.cross_entropy(scores, wanted, reduction="none")
    if weights is None:
        return losses.mean()
    own = weights[:, 1:][told]
    return (losses * own).sum() / own.sum().clamp(min=1e-6)


def pair_losses(readings: Sequence[PairReading], config: VIFConfig) -> tuple[Tensor | float, ...]:
    """KL, volume, entropy and guide over a pass's pairs."""
    if not readings:
        return 0.0, 0.0, 0.0, 0.0
    kls = [kl_divergence(r.posterior, r.prior) for r in readings if r.posterior is not None]
    if config.kl_reduction == "sum":
        kls = [kl.sum((-1, -2)) for kl in kls]
    assert config.volume_of is not None
    volumes = [volume(r.lights, config.volume_of).mean() for r in readings]
    entropies = [entropy(r.maps if config.entropy_of == "map" else r.lights.weights).mean() for r in readings]
    guides = [r.guide for r in readings if r.guide is not None]
    of = slice(0, 1) if config.losses_of == "first-pair" else slice(None)
    sums = [torch.stack([loss.mean() for loss in losses[of]]).mean() if losses else 0.0
            for losses in (kls, volumes, entropies)]  # fmt: skip
    return (*sums, torch.stack(guides).mean() if guides else 0.0)
