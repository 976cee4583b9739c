"""What a phase trains: a model with VIF, or the same model without it (the control)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vif_core.vif.model import VIFModel
from vif_core.vif.objective import VIFOutput, answer_loss
from vif_core.vif.turns import Turns
from vif_core.vlm.model import VLM


class Learner(nn.Module):
    """The parameters that may learn, under names that do not depend on VIF's presence: `base`, and VIF's `generator`.

    Called as a VIFModel is. Without VIF turns are ignored and its losses are 0.
    pictured: what learns and only images reach (`groups.learning` sets it). A pass of words alone has zeros hung on it:
    processes meet over every parameter, and one that was not read in the pass must be known to be so within it.
    """

    def __init__(self, vlm: VLM) -> None:
        super().__init__()
        self.vlm = vlm
        self.base = vlm.model
        self.pictured: list[nn.Parameter] = []
        if vlm.vif is not None:
            self.generator = vlm.vif.generator

    @property
    def vif(self) -> VIFModel | None:
        return self.vlm.vif

    def forward(
        self,
        turns: Turns | None = None,
        labels: Tensor | None = None,
        label_weights: Tensor | None = None,
        **inputs: Any,
    ) -> VIFOutput:
        if self.vif is not None:
            out = self.vif(turns=turns, labels=labels, label_weights=label_weights, **inputs)
        else:
            out = self._plain(labels, label_weights, inputs)
        if "pixel_values" in inputs:
            return out
        unread = sum((parameter.sum() for parameter in self.pictured), out.loss.new_zeros(())) * 0.0
        return replace(out, loss=out.loss + unread, cross_entropy=out.cross_entropy + unread)

    def _plain(self, labels: Tensor | None, label_weights: Tensor | None, inputs: dict[str, Any]) -> VIFOutput:
        logits = self.base(**inputs).logits
        zero = logits.new_zeros(())
        loss = zero if labels is None else answer_loss(logits, labels, label_weights)
        none = dict.fromkeys(("kl", "volume", "entropy", "guide"), zero)
        return VIFOutput(loss=loss, cross_entropy=loss, **none, logits=logits, readings=())
