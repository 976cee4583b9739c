"""What a pass of a model with VIF gives to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

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
        return logits.sum() * 0.0
    losses = F.cross_entropy(scores, wanted, reduction="none")
    if weights is None:
        return losses.mean()
    own = weights[:, 1:][told]
    return (losses * own).sum() / own.sum().clamp(min=1e-6)
