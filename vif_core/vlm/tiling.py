"""How processors cut an image into tiles, where their outputs do not tell."""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any

from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.ovis2.image_processing_pil_ovis2 import get_min_tile_covering_grid

Size = tuple[int, int]
"""(height, width) in pixels, or (rows, cols)."""


def cuts_tiles(processor: Any) -> bool:
    """Whether a processor may cut an image into tiles, of which its outputs do not tell how they lie on the image."""
    pictures = processor.image_processor
    return (
        getattr(pictures, "do_image_splitting", False) or hasattr(pictures, "resize_to_max_canvas") or _crops(processor)
    )


def _crops(processor: Any) -> bool:
    own = getattr(processor.image_processor, "crop_to_patches", False)
    return getattr(processor, "images_kwargs", {}).get("crop_to_patches", own)


def tile_split(processor: Any, size: Size) -> Size | None:
    """Rows and columns of tiles that a processor cuts an image into, (1, 1) for none; None of one that never does.

    All add a thumbnail. They stretch the image to a whole number of tiles (Idefics 3, SmolVLM; InternVL, Aya Vision;
    Ovis 2) or pad it to one (Llama 4), so that the tiles together cover the image.
    """
    pictures = processor.image_processor
    if hasattr(pictures, "max_pixels_tolerance"):
        return None  # LFM2-VL's thumbnail has another number of tokens than a tile: see `fitted`
    if hasattr(pictures, "do_image_splitting"):
        _, rows, cols = pictures.get_number_of_image_patches(*size, {})
        return max(rows, 1), max(cols, 1)
    if hasattr(pictures, "resize_to_max_canvas"):
        return padded_canvas(pictures, size)[0]
    if not hasattr(pictures, "crop_to_patches"):
        return None
    if not _crops(processor):
        return 1, 1
    tile = (pictures.size["height"], pictures.size["width"])
    if getattr(pictures, "use_covering_area_grid", False):
        cols, rows = get_min_tile_covering_grid(size, tile[0], pictures.max_patches)
        return rows, cols
    cols, rows = get_optimal_tiled_canvas(size, tile, pictures.min_patches, pictures.max_patches)
    return rows, cols


def pads_canvas(image_processor: Any) -> bool:
    """Whether a processor pads the image right and below to a whole number of tiles."""
    return any(hasattr(image_processor, name) for name in ("resize_to_max_canvas", "max_image_tiles"))


def padded_canvas(image_processor: Any, size: Size) -> tuple[Size, Size]:
    """The canvas of Llama 4 and Llama 3.2 Vision for an image of (height, width) pixels.

    Its tiles (rows, cols), and the size (height, width) at which the image lies in its upper left corner: enlarged
    least, or else made smaller least, on the fewest tiles.
    """
    side = image_processor.size["height"]
    most = getattr(image_processor, "max_image_tiles", None) or image_processor.max_patches
    to_largest = getattr(image_processor, "resize_to_max_canvas", False)
    splits = [(rows, cols) for rows in range(1, most + 1) for cols in range(1, most // rows + 1)]
    scale = {split: min(split[0] * side / size[0], split[1] * side / size[1]) for split in splits}
    larger = [each for each in scale.values() if each >= 1]
    best = (max if to_largest or not larger else min)(larger or scale.values())
    rows, cols = min((split for split in splits if scale[split] == best), key=lambda split: split[0] * split[1])
    room = (rows * side, cols * side)
    if not to_largest:  # never larger than it is, or than a tile
        room = (min(max(size[0], side), room[0]), min(max(size[1], side), room[1]))
    if room[1] / size[1] < room[0] / size[0]:
        return (rows, cols), (min(int(size[0] * (room[1] / size[1])), room[0]) or 1, room[1])
    return (rows, cols), (room[0], min(int(size[1] * (room[0] / size[0])), room[1]) or 1)


def fitted(image_processor: Any, size: Size) -> tuple[Size, Size]:
    """LFM2-VL's tiles (rows, cols) for an image of (height, width) pixels, and the size (height, width)
    in pixels to which the whole of it is resized besides.

    The whole is rounded to cells and brought within the least and the most tokens. An image that exceeds these by more
    than its tolerance is cut too, into the tiles whose shape is closest, the most of them where it is large enough.
    """
    given = image_processor
    cell = given.encoder_patch_size * given.downsample_factor
    height, width = size
    least, most = (tokens * cell**2 for tokens in (given.min_image_tokens, given.max_image_tokens))
    whole = [max(cell, round(side / cell) * cell) for side in size]
    if whole[0] * whole[1] > most:
        whole = [max(cell, floor(side / sqrt(height * width / most) / cell) * cell) for side in size]
    elif whole[0] * whole[1] < least:
        whole = [ceil(side * sqrt(least / (height * width)) / cell) * cell for side in size]
    rounded = [max(given.encoder_patch_size, round(side / cell) * cell) for side in size]
    split = (1, 1)
    fewest, largest = (given.min_tiles, given.max_tiles) if given.do_image_splitting else (1, 1)
    if rounded[0] * rounded[1] > most * given.max_pixels_tolerance and largest > 1:
        counts = range(1, largest + 1)
        splits = [(rows, cols) for cols in counts for rows in counts if fewest <= rows * cols <= largest]
        best = float("inf")
        for rows, cols in sorted(splits, key=lambda each: each[0] * each[1]):
            off = abs(width / height - cols / rows)
            if off < best or (off == best and height * width > 0.5 * given.tile_size**2 * rows * cols):
                best, split = off, (rows, cols)
    return split, (whole[0], whole[1])
