"""Where everything is among the keys of a cross-attention, for decoders that see the image through one.

The keys are image features alone (Llama 3.2 Vision, whose images are cut into tiles, and IDEFICS), or the tokens of an
encoder, image features among them (Florence-2). Each picture or tile has one token before those of its patches: a class
token, or the mean of the patches. IDEFICS may condense a picture into latent queries instead. Text before an image is
not counted as seeing it, though Llama 3.2 Vision lets it see all tiles evenly, unused ones too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

import numpy as np

from vif_core.errors import GridMismatch
from vif_core.vlm.grids import one_grid
from vif_core.vlm.layout import SEGMENTS, Crossing, ImageGrid, Layout
from vif_core.vlm.tiling import Size

TEMPLATE, VISUAL, RESPONSE = (SEGMENTS.index(name) for name in ("template", "visual", "response"))


def crossed(
    model: Any, processor: Any, own: Layout, sizes: Sequence[Size], outputs: Mapping[str, Any], number: int
) -> Layout:
    """The layout of sample `number` of the processor's `outputs`, whose text and response are laid out in `own`.

    sizes: original sizes of its images, (height, width) in pixels.
    Raises GridMismatch, showing both numbers, where counts disagree.
    """
    config = model.config
    if config.is_encoder_decoder:
        return _over_encoder(model, processor, own, sizes)
    latent = getattr(config, "use_resampler", False)
    side = config.vision_config.image_size // config.vision_config.patch_size
    tokens = config.perceiver_config.resampler_n_latents if latent else 1 + side**2
    tiles = outputs["pixel_values"].shape[1:-3] if "pixel_values" in outputs else (0,)  # images, and tiles of each
    keys = np.arange(int(np.prod(tiles)) * tokens).reshape(tiles[0], int(np.prod(tiles[1:])), tokens)
    visual: list[int] = []
    grids: list[ImageGrid] = []
    for image, size in enumerate(sizes):
        used = keys[image]
        if "aspect_ratio_mask" in outputs:
            used = used[: int(outputs["aspect_ratio_mask"][number, image].sum())]
        if not latent:
            grid = one_grid(processor.image_processor, size, side)
            _agree(grid.n_tokens + len(used), used.size)
            grids.append(replace(grid, image=image, offset=len(visual) + len(used)))
        visual += [*used[:, 0], *used[:, 1:].flat]  # the class tokens of all tiles first
    segment, held = own.segment.copy(), np.full(keys.size, TEMPLATE, dtype=np.int8)
    segment[own.visual] = TEMPLATE  # the token that stands for an image holds none of it
    held[visual] = VISUAL
    first = int(own.visual[0]) if len(own.visual) else len(own)
    return replace(
        own, visual=np.array(visual, np.int64), grids=tuple(grids), segment=segment, crossing=Crossing(held, first)
    )


def _over_encoder(model: Any, processor: Any, own: Layout, sizes: Sequence[Size]) -> Layout:
    """The encoder's tokens are the keys; the decoder's own are a start token, one that is forced, and the response."""
    held = own.segment[: own.response_start]
    response = own.input_ids[own.response_start :]
    given = (model.generation_config, model.config.get_text_config())
    start, forced = (
        next((token for each in given if (token := getattr(each, name, None)) is not None), None)
        for name in ("decoder_start_token_id", "forced_bos_token_id")
    )
    begun = [token for token in (start, forced) if token is not None]
    grids = [replace(one_grid(processor.image_processor, size, isqrt(len(own.visual))), offset=1) for size in sizes]
    _agree(sum(1 + grid.n_tokens for grid in grids), len(own.visual))
    return Layout(
        np.concatenate([np.array(begun, np.int64), response]),
        own.visual,
        tuple(grids),
        np.array([TEMPLATE] * len(begun) + [RESPONSE] * len(response), dtype=np.int8),
        response_start=len(begun),
        crossing=Crossing(held, first=0),
    )


def _agree(expected: int, found: int) -> None:
    if expected != found:
        raise GridMismatch(
            f"the grids and class tokens of the images make {expected} visual tokens but the keys hold {found}",
            expected="equal counts",
            next_step="Check that the processor belongs to the model (patch size, image size)",
        )
