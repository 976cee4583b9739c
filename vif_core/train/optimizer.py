"""Muon for matrices, AdamW for the rest, behind one optimizer interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` on weight matrices and `torch.optim.AdamW` on embeddings, biases and norms.

    groups: (named parameters, learning-rate scale) pairs. The parameter groups of both are this optimizer's own, so
    that one scheduler drives them.
    """

    def __init__(
        self, groups: Iterable[tuple[list[tuple[str, nn.Parameter]], float]], lr: float, weight_decay: float
    ) -> None:
        matrices, rest = [], []
        for named, scale in groups:
            split: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
            for name, parameter in named:
                split[parameter.ndim != 2 or "embed" in name].append(parameter)
            matrices.append({"params": split[0], "lr": lr * scale})
            rest.append({"params": split[1], "lr": lr * scale})
        adam_groups, muon_groups = ([g for g in each if g["params"]] for each in (rest, matrices))
        self.parts: list[torch.optim.Optimizer] = []
        if adam_groups:
            self.parts.append(torch.optim.AdamW(adam_groups, betas=(0.9, 0.98), weight_decay=0.0))
        if muon_groups:
            self.parts.append(torch.optim.Muon(muon_groups, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure=None):
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
