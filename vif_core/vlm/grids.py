"""Grid rules: how the visual tokens of an image lie on the image, for the ways in which processors lay them out.

A rule looks at what the processor returned for one image and gives that image's grids. Which rule holds is read off
the processor's outputs and the configuration, never off a table of families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt, sqrt
from typing import Any

import numpy as np
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from vif_core.data.sample import Box
from vif_core.errors import GridMismatch
from vif_core.vlm.layout import ImageGrid
from vif_core.vlm.tiling import Size, fitted, padded_canvas, pads_canvas, tile_split

LATENT = ("qformer_config", "perceiver_config", "projector_patch_to_query_dict")
"""Configuration entries of models whose visual tokens are latent queries, without a place in the image."""


def image_grids(
    config: Any, processor: Any, images: Sequence[Size], outputs: Mapping[str, Any], first: int, n_visual: int
) -> tuple[ImageGrid, ...]:
    """Grids of one sample, whose images are images `first`, `first` + 1, ... of the processor's `outputs`.

    images:   original sizes of the sample's images, (height, width) in pixels.
    n_visual: visual tokens in the sample's prompt.
    Returns no grid for latent queries. Raises GridMismatch, showing both numbers, where counts disagree.
    """
    if not images or any(getattr(config, name, None) is not None for name in LATENT):
        return ()
    image_processor = processor.image_processor
    splits = [tile_split(processor, size) for size in images]
    n_tiles = sum(1 if split == (1, 1) else 1 + split[0] * split[1] for split in splits if split)
    ends = int(getattr(processor, "cat_extra_token", False))  # HunYuan-VL: an image token before the grid, one after it
    grids: list[ImageGrid] = []
    offset = 0
    for number, size in enumerate(images):
        offset += ends
        crowded = False
        if "image_grid_thw" in outputs:
            found = [_merged(config, image_processor, outputs, first + number, size, newline=ends)]
        elif "image_position_ids" in outputs:
            found = [_placed(outputs["image_position_ids"][first + number], image_processor.pooling_kernel_size, size)]
        elif hasattr(image_processor, "max_pixels_tolerance"):
            found = _fitted(image_processor, size)
        elif (split := splits[number]) is not None:
            found = _tiled(image_processor, split, isqrt(n_visual // n_tiles), size)
        elif crowded := _has_company(outputs, first + number):
            found = _untiled(config, outputs["pixel_values"].shape[-2:], size)
        elif getattr(config, "image_grid_pinpoints", None) is not None:
            found = _anyres(config, outputs["pixel_values"].shape[-2:], size)
        elif "image_sizes" in outputs:
            found = [_patches(config, outputs["image_sizes"][first + number].tolist(), size)]
        else:
            found = [_square(config, image_processor, outputs["pixel_values"].shape, n_visual // len(images), size)]
        for grid in found:
            grids.append(replace(grid, image=number, offset=offset))
            offset += grid.n_tokens
        offset += ends + int(crowded)  # a newline token after each
    return counted(grids, offset, n_visual)


def _has_company(outputs: Mapping[str, Any], number: int) -> bool:
    """Whether an image is one of several in its prompt, as LLaVA-OneVision counts them."""
    counts = [int(count) for count in outputs.get("batch_num_images", ())]
    prompts = [count for count in counts for _ in range(count)]  # of each image
    return number < len(prompts) and prompts[number] > 1


def counted(grids: Sequence[ImageGrid], n_tokens: int, n_visual: int) -> tuple[ImageGrid, ...]:
    """Grids that take up n_tokens. Raises GridMismatch, showing both numbers, unless the prompt holds as many."""
    if n_tokens != n_visual:
        shapes = " + ".join(f"{grid.rows}x{max(grid.cols, grid.stride)}" for grid in grids)
        raise GridMismatch(
            f"grid {shapes} has {n_tokens} cells but the prompt holds {n_visual} visual tokens",
            expected="equal counts",
            next_step="Check that the processor belongs to the model (patch size, image size, tokens an image)",
        )
    return tuple(grids)


def _padded_square(size: Size) -> Box:
    above, left = (max(size) - size[0]) / 2, (max(size) - size[1]) / 2
    return (-left, -above, size[1] + left, size[0] + above)


def _grid(frame: str, rows: int, cols: int, rect_px: Box, newline: int = 0) -> ImageGrid:
    return ImageGrid(image=0, frame=frame, rows=rows, cols=cols, offset=0, stride=cols + newline, rect_px=rect_px)


def _whole(size: Size) -> Box:
    return (0.0, 0.0, float(size[1]), float(size[0]))


def _merged(
    config: Any, image_processor: Any, outputs: Mapping[str, Any], number: int, size: Size, newline: int
) -> ImageGrid:
    """Qwen-VL and its kin: the whole image in patches, merge x merge of them to a token; GLM-5 pads right and below."""
    grid_thw = outputs["image_grid_thw"][number].tolist()
    if "image_merge_sizes" in outputs:  # VideoLLaMA 3 merges images and videos differently
        merge = int(outputs["image_merge_sizes"][number])
    else:
        owners = (config.vision_config, config)
        merge = next((of.spatial_merge_size for of in owners if getattr(of, "spatial_merge_size", 0)), 0)
        merge = merge or image_processor.merge_size
    rows, cols = grid_thw[1] // merge, grid_thw[2] // merge
    if not hasattr(image_processor, "min_image_tokens"):
        return _grid("image", rows, cols, _whole(size), newline)
    cell_px = image_processor.patch_size * merge
    scale = min(rows * cell_px / size[0], cols * cell_px / size[1])
    if size[0] * size[1] >= cell_px**2 * image_processor.min_image_tokens:
        scale = min(1.0, scale)
    return _grid("image", rows, cols, (0.0, 0.0, cols * cell_px / scale, rows * cell_px / scale))


def _placed(positions: Tensor, pool: int, size: Size) -> ImageGrid:
    """Gemma 4: positions (column, row) of the picture's patches [P, 2], -1 for none, pool x pool of them to a token."""
    cols, rows = (int(last) // pool for last in positions.amax(0) + 1)
    return _grid("image", rows, cols, _whole(size))


def _patches(config: Any, resized: Size, size: Size) -> ImageGrid:
    """Mistral 3, Pixtral: the image keeps its shape, resized to `resized`; row breaks are no image tokens."""
    cell = config.vision_config.patch_size * getattr(config, "spatial_merge_size", 1)
    return _grid("image", resized[0] // cell, resized[1] // cell, _whole(size))


def _anyres(config: Any, tile: Size, size: Size) -> list[ImageGrid]:
    """LLaVA-NeXT: a thumbnail of the whole image, then its tiles as one grid whose rows end in a newline token.

    The tiles hold the image resized to fit them and padded; rows or columns of pure padding are left out. Of LLaVA-
    OneVision the grid is interpolated to a smaller one where it has too many cells ("anyres_max_9").
    """
    patch = config.vision_config.patch_size
    side_rows, side_cols = tile[0] // patch, tile[1] // patch
    best = select_best_resolution(size, config.image_grid_pinpoints)
    rows, cols = side_rows * (best[0] // tile[0]), side_cols * (best[1] // tile[1])
    height, width = size
    cut_rows = cut_cols = 0
    if width / height > cols / rows:
        cut_rows = (rows - int(round(height * cols / width, 7))) // 2
    else:
        cut_cols = (cols - int(round(width * rows / height, 7))) // 2
    scale = min(best[0] / height, best[1] / width)  # tile pixels a pixel of the original
    left_px, top_px = (best[1] - width * scale) / 2, (best[0] - height * scale) / 2
    edges = np.array([cut_cols, cut_rows, cols - cut_cols, rows - cut_rows]) * patch
    x0, y0, x1, y1 = ((edges - np.array([left_px, top_px] * 2)) / scale).tolist()
    rows, cols = rows - 2 * cut_rows, cols - 2 * cut_cols
    if most := getattr(config, "vision_aspect_ratio", "").removeprefix("anyres_max_"):
        ratio = sqrt(rows * cols / (int(most) * side_rows**2))
        if ratio > 1.1:
            rows, cols = int(rows // ratio), int(cols // ratio)
    tiles = _grid("tile", rows, cols, (x0, y0, x1, y1), newline=1)
    return [_grid("thumbnail", side_rows, side_cols, _whole(size)), tiles]


def _untiled(config: Any, pixels: Size, size: Size) -> list[ImageGrid]:
    """LLaVA-OneVision, one of several images: padded to a square."""
    side = config.vision_config.patch_size
    return [_grid("image", pixels[0] // side, pixels[1] // side, _padded_square(size))]


def one_grid(image_processor: Any, size: Size, side: int) -> ImageGrid:
    """The grid of a picture of side x side tokens, or of its tiles of as many, put together without a thumbnail."""
    if pads_canvas(image_processor):
        return _tiled(image_processor, padded_canvas(image_processor, size)[0], side, size)[0]
    return _grid("image", side, side, shown_rect(image_processor, size))


def _tiled(image_processor: Any, split: Size, side: int, size: Size) -> list[ImageGrid]:
    """Tiles of side x side tokens, put together into one grid of the whole image, and the thumbnail."""
    covered = _whole(size)
    if pads_canvas(image_processor):  # the tiles hold padding on the right and below
        _, shown = padded_canvas(image_processor, size)
        tile_px = image_processor.size["height"]
        covered = (0.0, 0.0, split[1] * tile_px * size[1] / shown[1], split[0] * tile_px * size[0] / shown[0])
    if split == (1, 1):
        return [_grid("image", side, side, covered)]
    tiles = replace(_grid("tile", split[0] * side, split[1] * side, covered), stride=side)
    thumbnail = _grid("thumbnail", side, side, _whole(size))
    return [thumbnail, tiles] if hasattr(image_processor, "use_covering_area_grid") else [tiles, thumbnail]


def _fitted(image_processor: Any, size: Size) -> list[ImageGrid]:
    """LFM2-VL: the image keeps its shape; a large one is cut into square tiles first, and follows them."""
    split, shown = fitted(image_processor, size)
    cell = image_processor.encoder_patch_size * image_processor.downsample_factor
    whole = _grid("image", shown[0] // cell, shown[1] // cell, _whole(size))
    if split == (1, 1):
        return [whole]
    side = image_processor.tile_size // cell
    tiles = replace(_grid("tile", split[0] * side, split[1] * side, _whole(size)), stride=side)
    return [tiles, replace(whole, frame="thumbnail")] if image_processor.use_thumbnail else [tiles]


def _square(config: Any, image_processor: Any, pixels: Sequence[int], n_tokens: int, size: Size) -> ImageGrid:
    """LLaVA, Gemma 3 and most others: a fixed picture in patches, which may be pooled to a smaller square."""
    patch = getattr(getattr(config, "vision_config", None), "patch_size", 1)  # none where a VQ-VAE reads (Chameleon)
    rows, cols = (length // patch for length in pixels[-2:])
    if n_tokens < rows * cols and rows == cols and isqrt(n_tokens) ** 2 == n_tokens:
        rows = cols = isqrt(n_tokens)
    return _grid("image", rows, cols, shown_rect(image_processor, size))


def shown_rect(image_processor: Any, size: Size) -> Box:
    """What the picture shows, in pixels of the original: more of it where the image is padded to a square (DeepSeek-VL,
    Janus), less where its shortest edge is resized and the centre cropped out (LLaVA)."""
    if getattr(image_processor, "do_pad", False) and hasattr(image_processor, "pad_to_square"):
        return _padded_square(size)
    shortest = (getattr(image_processor, "size", None) or {}).get("shortest_edge")
    if not getattr(image_processor, "do_center_crop", False) or not shortest:
        return _whole(size)
    height, width = size
    scale = shortest / min(size) if image_processor.do_resize else 1.0
    half_height, half_width = (image_processor.crop_size[side] / scale / 2 for side in ("height", "width"))
    return (width / 2 - half_width, height / 2 - half_height, width / 2 + half_width, height / 2 + half_height)
