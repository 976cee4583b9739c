"""Does VIF learn anything? Figures of a pass's maps, and a warning where they have collapsed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from vif_core.vif.losses import entropy, kl_divergence
from vif_core.vif.passes import PairReading

ACTIVE_NATS = 0.01
"""A latent dimension with at least this KL, as a mean over turns, is active."""

OPENING_STEPS = 100
"""A fresh map is one for every question at first; what it needs to leave that behind (half of it was seen)."""

WINDOW = 5
LEAST_SPREAD = 0.02
LEAST_BOX_LIFT = 1.2


@torch.no_grad()
def map_figures(readings: Sequence[PairReading], covered: Tensor) -> dict[str, Tensor]:
    """What a pass's maps are like: means over its layer pairs. Empty without maps.

    covered: [M, V] share of each visual token's footprint that the turn's target boxes cover; NaN where unknown.
    kl_nats:       KL(q || p) a turn, in nats.       active_dims: latent dimensions with at least 0.01 nats of it.
    map_entropy:   of the map, in nats.
    centre_spread: standard deviation over turns of the map's centre of mass, mean of row and column, in [0, 0.5];
                   two turns at least. Targets anywhere in the picture would give 0.29.
    map_box_lift:  the map's mass on the target boxes over an even map's; turns with known boxes alone.
    The last three are of the map that the prior's mean draws, as the model is used, where the posterior is in use too
    (its draws differ from turn to turn even when they tell nothing).
    """
    found: dict[str, list[Tensor]] = {}
    for reading in readings:
        figures: dict[str, Tensor] = {}
        if reading.posterior is not None:
            nats = kl_divergence(reading.posterior, reading.prior)  # [M K Z]
            figures["kl_nats"] = nats.sum((-1, -2)).mean()
            figures["active_dims"] = (nats.mean(0) >= ACTIVE_NATS).sum().float()
        maps = (reading.maps if reading.prior_maps is None else reading.prior_maps).float()
        figures["map_entropy"] = entropy(maps).mean()
        points, there = reading.canvas.points, reading.canvas.covered
        if points.shape[-1] == 2 and len(maps) > 1:
            centres = (maps[..., None] * points).sum(1)  # [M 2]
            figures["centre_spread"] = centres.std(0, correction=0).mean()
        known = covered.isfinite().all(-1)
        if maps.shape == covered.shape and known.any():
            weights, cells = covered[known], there[known].float()
            even = (weights * cells).sum(-1) / cells.sum(-1).clamp(min=1)
            lift = (maps[known] * weights).sum(-1) / even
            if (even > 0).any():
                figures["map_box_lift"] = lift[even > 0].mean()
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean() for name, values in found.items()}


def collapse(history: Sequence[dict[str, Any]]) -> str:
    """Why the map counts as collapsed, in words, from a phase's log lines; "" where it does not.

    It has collapsed where, as a mean over the last 5 log lines that tell of maps (no fewer), its centre moves by less
    than 0.02 of the picture from turn to turn (half a cell of a 24 x 24 grid: one map for every question), or where it
    lies on the target boxes less than 1.2 times as much as an even map would. A low KL alone is no collapse: a prior
    that knows the place needs no posterior.
    """
    lines = [line for line in history if "centre_spread" in line or "map_box_lift" in line][-WINDOW:]
    if len(lines) < WINDOW:
        return ""
    mean = {
        name: sum(values) / len(values)
        for name in ("centre_spread", "map_box_lift", "kl_nats", "active_dims")
        if (values := [line[name] for line in lines if name in line])
    }
    causes = []
    if mean.get("centre_spread", 1.0) < LEAST_SPREAD:
        causes.append(f"its centre moves by {mean['centre_spread']:.3f} of the picture from turn to turn")
    if mean.get("map_box_lift", LEAST_BOX_LIFT) < LEAST_BOX_LIFT:
        causes.append(f"its box lift is {mean['map_box_lift']:.2f}")
    if causes and "kl_nats" in mean:
        causes.append(f"KL {mean['kl_nats']:.3g} nats a turn, {mean['active_dims']:.0f} active dimensions")
    return ", ".join(causes)


class Watch(TrainerCallback):
    """One warning line a phase where the map has collapsed, once warm-ups are over and a fifth of the steps done.

    settled: step from which on the phase's losses are as they stay.
    learned: steps that VIF has learned in phases before; nothing is said before its hundredth.
    """

    def __init__(self, phase: str, settled: int, learned: int) -> None:
        self.phase, self.warned = phase, False
        self.from_step = max(settled, OPENING_STEPS - learned)

    def on_log(self, args, state, control, **kwargs):
        if (
            self.warned
            or not state.is_world_process_zero
            or state.global_step < max(self.from_step, state.max_steps // 5)
        ):
            return
        if cause := collapse(state.log_history):
            self.warned = True
            print(
                f"vifscope: warning: the map has collapsed in phase {self.phase} at step {state.global_step}: {cause}. "
                "Lower or delay losses.kl and losses.sparsity, raise losses.free_bits_nats, or give VIF a higher rate "
                "or more steps.",
                file=sys.stderr,
            )
