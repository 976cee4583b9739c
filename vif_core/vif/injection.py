"""What VIF does at the attention op: it blends its map in at injection layers, and reads extraction layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from vif_core.flow.blend import Blend
from vif_core.flow.call import AttentionCall
from vif_core.vif.generator import canvas
from vif_core.vif.guide import response_flow

if TYPE_CHECKING:
    from vif_core.vif.model import VIFModel


class Injection:
    """The intervention at one injection layer: its pass's blend, or nothing."""

    def __init__(self, model: VIFModel, layer: int) -> None:
        self.model, self.layer = model, layer

    @property
    def blend(self) -> Blend | None:
        return self.model.current.blends.get(self.layer) if self.model.current else None

    def before(self, call: AttentionCall) -> AttentionCall:
        blends = self.model.current.blends if self.model.current else {}
        blend = blends.get(self.layer)
        if blend and blend.maps.device != call.value.device:  # a model on several devices: moved once a pass
            blends[self.layer] = blend.to(call.value.device)
        return call

    def after(self, call: AttentionCall, output: Tensor) -> Tensor:
        return self.blend.after(call, output) if self.blend else output

    def rows(self, call: AttentionCall, rows: Tensor, flow: Tensor) -> Tensor:
        return self.blend.rows(call, rows, flow) if self.blend else flow

    def changes(self, call: AttentionCall) -> Tensor:
        return self.blend.changes(call) if self.blend else first_row(call)


class Guide:
    """At an extraction layer: reads the flow of each turn's response rows over its canvas. Changes nothing."""

    def __init__(self, model: VIFModel, layer: int) -> None:
        self.model, self.layer = model, layer

    def before(self, call: AttentionCall) -> AttentionCall:
        return call

    def after(self, call: AttentionCall, output: Tensor) -> Tensor:
        current = self.model.current
        if self.model.guiding and current is not None and current.turns.posterior is not None:
            with torch.no_grad():
                turns = current.turns.to(call.query.device)
                current.targets[self.layer] = response_flow(call, turns, canvas(turns, self.model.config))
        return output

    def rows(self, call: AttentionCall, rows: Tensor, flow: Tensor) -> Tensor:
        return flow

    def changes(self, call: AttentionCall) -> Tensor:
        return first_row(call)


def first_row(call: AttentionCall) -> Int[Tensor, "B 1"]:
    return torch.zeros(len(call.query), 1, dtype=torch.long, device=call.query.device)
