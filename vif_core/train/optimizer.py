"""Muon for matrices, AdamW for the rest, behind one optimizer interface."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonalised momentum of each matrix, as large as AdamW's (Jordan 2024; Liu et al. 2025).

    It is `torch.optim.Muon` with adjust_lr_fn "match_rms_adamw" but for its precision: in float32, which on a CPU that
    does not multiply in bfloat16 halves the time of a step of VIF alone.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * sqrt(max(matrix.shape)) * group["lr"])


def orthogonal(matrix: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    """U S V of a matrix, with singular values S brought to about 1 by five quintic Newton-Schulz steps."""
    near = matrix.T if len(matrix) > matrix.shape[1] else matrix
    near = near / near.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = near @ near.T
        near = 3.4445 * near + (-4.7750 * gram + 2.0315 * gram @ gram) @ near
    return near.T if len(matrix) > matrix.shape[1] else near


class MuonAdamW(torch.optim.Optimizer):
    """`Muon` on weight matrices and `torch.optim.AdamW` on embeddings, biases and norms.

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
            self.parts.append(Muon(muon_groups, lr, weight_decay))
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
