"""Turns of what a processor gives, where nobody told them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vif_core.errors import UsageError
from vif_core.vif.turns import NONE, Turns, grid_places, turns_of
from vif_core.vlm.grids import image_grids
from vif_core.vlm.model import VLM
from vif_core.vlm.tiling import cuts_tiles


def turns_of_inputs(vlm: VLM, inputs: Mapping[str, Any]) -> Turns:
    """Turns of plain processor outputs: all text is question, and sequences with images hold as many each.

    Of a conversation that is one turn too, earlier answers included: nothing in the tokens tells them apart.

    Raises UsageError where the images are not among the inputs or may be cut into tiles, GridMismatch where they do
    not fit their tokens.
    """
    ids = inputs["input_ids"].cpu()
    if inputs.get("pixel_values_videos") is not None:
        raise UsageError(
            f"videos of {vlm.name} without turns",
            expected="all that VLM.encode returns: turns tell where each frame lies",
            next_step="Call vlm.encode(samples) in place of the processor, and pass all of its inputs",
        )
    mask = inputs.get("attention_mask")
    kept = mask.bool().cpu() if mask is not None and mask.dim() == 2 else torch.ones_like(ids, dtype=torch.bool)
    visual = (ids == vlm.image_token_id) & kept
    outputs = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    sizes = inputs["image_sizes"].tolist() if "image_sizes" in inputs else None
    listed: Any = next(
        (outputs[key] for key in ("image_grid_thw", "image_sizes", "pixel_values") if key in outputs), []
    )
    each, odd = divmod(len(listed), max(1, int(visual.any(1).sum())))  # images of a sequence that has any
    if visual.any() and (not each or odd):
        raise UsageError(
            f"{len(listed)} images for the visual tokens of {int(visual.any(1).sum())} prompts",
            expected="as many images in each prompt that has any, and their pixel_values",
            next_step="Call the VIFModel's generate, and pass the turns that VLM.encode tells",
        )
    if visual.any() and cuts_tiles(vlm.processor):
        raise UsageError(
            f"inputs of {vlm.name} without turns, whose pictures may be cut into tiles",
            expected="all that VLM.encode returns: turns tell where each tile lies",
            next_step="Call vlm.encode(samples) in place of the processor, and pass all of its inputs",
        )
    places, first = [], 0
    for row in visual.numpy():
        count = each if row.any() else 0
        own = [tuple(size) for size in sizes[first : first + count]] if sizes else [(1, 1)] * count
        grids = image_grids(vlm.model.config, vlm.processor, own, outputs, first, int(row.sum()))
        places.append(grid_places(grids, int(row.sum())))
        first += count
    turn = np.where(kept.numpy(), 1, NONE)
    return turns_of(turn, np.zeros_like(turn, dtype=bool), visual.numpy(), places)
