"""Each grid rule against what the family's processor does, and the error where counts disagree."""

from __future__ import annotations

import ast
import math
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace as Config

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import LlavaOnevisionProcessor
from transformers.models.llava_next.modeling_llava_next import unpad_image

from vif_core.data.sample import Sample
from vif_core.errors import GridMismatch
from vif_core.vlm.grids import image_grids
from vif_core.vlm.tiling import fitted, padded_canvas
from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_samples
from vifscope.check import visual_features

VISION = Config(patch_size=14, spatial_merge_size=2)
PLAIN = Config(image_processor=Config(do_center_crop=False))

LATENT = ("aria", "blip-2", "granite4_vision", "idefics", "idefics2", "instructblip")
MAPPED = [family for family in ALL_FAMILIES if family not in LATENT]


def pixels(*shape):
    return {"pixel_values": torch.zeros(shape)}


def shapes(grids):
    return [(grid.frame, grid.rows, grid.cols, grid.stride, grid.offset) for grid in grids]


def test_square():
    grids = image_grids(Config(vision_config=VISION), PLAIN, [(300, 400)], pixels(1, 3, 336, 336), 0, 576)
    assert shapes(grids) == [("image", 24, 24, 24, 0)]
    assert grids[0].rect_px == (0, 0, 400, 300)


def test_square_of_pooled_patches():
    grids = image_grids(Config(vision_config=VISION), PLAIN, [(300, 400)], pixels(1, 3, 896, 896), 0, 256)
    assert shapes(grids) == [("image", 16, 16, 16, 0)]


def test_a_cropped_centre_is_what_the_grid_covers():
    crop = Config(
        do_center_crop=True, do_resize=True, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
    )
    wide, tall, zoomed = ((100, 300), (300, 100), (200, 200))
    boxes = []
    for size in (wide, tall):
        (grid,) = image_grids(
            Config(vision_config=VISION), Config(image_processor=crop), [size], pixels(1, 3, 336, 336), 0, 576
        )
        boxes.append(grid.rect_px)
    np.testing.assert_allclose(boxes, [(100, 0, 200, 100), (0, 100, 100, 200)])
    crop.size = {"shortest_edge": 672}
    (grid,) = image_grids(
        Config(vision_config=VISION), Config(image_processor=crop), [zoomed], pixels(1, 3, 336, 336), 0, 576
    )
    np.testing.assert_allclose(grid.rect_px, (50, 50, 150, 150))


def test_merged_patches_follow_the_picture():
    outputs = {"image_grid_thw": torch.tensor([[1, 4, 4], [1, 20, 36], [1, 8, 6]])}
    grids = image_grids(Config(vision_config=VISION), PLAIN, [(280, 504), (112, 84)], outputs, 1, 10 * 18 + 4 * 3)
    assert shapes(grids) == [("image", 10, 18, 18, 0), ("image", 4, 3, 3, 180)]
    assert [grid.image for grid in grids] == [0, 1]
    assert grids[0].rect_px == (0, 0, 504, 280)


def test_pictures_that_keep_their_shape():
    outputs = {"image_sizes": torch.tensor([[56, 84]])} | pixels(1, 3, 56, 84)
    config = Config(vision_config=Config(patch_size=14), spatial_merge_size=2)
    assert shapes(image_grids(config, PLAIN, [(500, 750)], outputs, 0, 6)) == [("image", 2, 3, 3, 0)]


PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (480, 640), (1000, 200), (333, 1001), (672, 672), (31, 30)])
def test_tiles_cover_what_transformers_keeps_of_them(size):
    from transformers.image_processing_utils import select_best_resolution

    config = Config(vision_config=VISION, image_grid_pinpoints=PINPOINTS)
    best = select_best_resolution(size, PINPOINTS)
    # What each cell of the padded mosaic shows: its centre, in original pixels
    scale = min(best[0] / size[0], best[1] / size[1])
    y, x = np.meshgrid(np.arange(7, best[0], 14), np.arange(7, best[1], 14), indexing="ij")
    centres = torch.tensor(
        np.stack([(x - (best[1] - size[1] * scale) / 2) / scale, (y - (best[0] - size[0] * scale) / 2) / scale])
    )
    kept = unpad_image(centres, size).numpy()
    rows, cols = kept.shape[1:]
    n_visual = 24 * 24 + rows * (cols + 1)
    thumbnail, tiles = image_grids(config, PLAIN, [size], pixels(1, 5, 3, 336, 336), 0, n_visual)
    assert (thumbnail.frame, thumbnail.rows, thumbnail.cols) == ("thumbnail", 24, 24)
    assert (tiles.frame, tiles.rows, tiles.cols, tiles.stride, tiles.offset) == ("tile", rows, cols, cols + 1, 576)
    ours = tiles.boxes_px.reshape(rows, cols, 2, 2).mean(2)
    np.testing.assert_allclose(np.moveaxis(ours, -1, 0), kept, atol=1e-6)


ONE_VISION = [[384 * rows, 384 * cols] for rows in range(1, 7) for cols in range(1, 7)]


@pytest.mark.parametrize("size", [(720, 1280), (960, 1280), (1080, 1920), (1500, 1500), (3000, 4000), (4000, 600)])
def test_a_grid_with_too_many_cells_is_as_small_as_transformers_makes_it(size):
    reference = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    reference.image_processor = Config(image_grid_pinpoints=ONE_VISION)
    reference.num_image_tokens, reference.vision_aspect_ratio = 27 * 27, "anyres_max_9"
    n_visual = reference._get_number_of_features(*size, 384, 384)
    vision = Config(patch_size=14)
    config = Config(vision_config=vision, image_grid_pinpoints=ONE_VISION, vision_aspect_ratio="anyres_max_9")
    thumbnail, tiles = image_grids(config, PLAIN, [size], pixels(1, 5, 3, 384, 384), 0, n_visual)
    assert thumbnail.rows == 27
    covered, whole = tiles.boxes_px.reshape(-1, 4), np.array([0, 0, *size[::-1]])
    np.testing.assert_allclose([*covered.min(0)[:2], *covered.max(0)[2:]], whole, atol=max(size) / 27)


def test_several_pictures_of_llava_onevision_are_squares_each():
    vlm = tiny_model("llava_onevision")
    one, other, _ = tiny_samples(3)
    pair = Sample("pair", (*one.images, *other.images), "which ?")
    batch = vlm.encode([one, pair])
    frames = [[grid.frame for grid in layout.grids] for layout in batch.layouts]
    assert frames == [["thumbnail", "tile"], ["image", "image"]]
    for grid, image in zip(batch.layouts[1].grids, pair.images, strict=True):
        x0, y0, x1, y1 = grid.rect_px
        assert (x1 - x0, y1 - y0) == (max(image.size),) * 2
        assert (x0 + x1, y0 + y1) == image.size


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((300, 300), ((1, 1), (336, 336))),  # enlarged to a tile, never more
        ((336, 672), ((1, 2), (336, 672))),
        ((672, 336), ((2, 1), (672, 336))),
        ((500, 700), ((2, 3), (500, 700))),  # as it is, on the smallest canvas that holds it
        ((100, 500), ((1, 2), (100, 500))),
        ((3000, 3000), ((4, 4), (1344, 1344))),
    ],
)
def test_a_canvas_holds_the_picture_without_stretching_it(size, canvas):
    pictures = Config(size={"height": 336, "width": 336}, max_patches=16, resize_to_max_canvas=False)
    assert padded_canvas(pictures, size) == canvas


def test_tiles_of_a_padded_canvas_reach_over_the_picture():
    pictures = Config(size={"height": 336, "width": 336}, max_patches=16, resize_to_max_canvas=False)
    tiles, thumbnail = image_grids(
        Config(vision_config=VISION), Config(image_processor=pictures), [(500, 700)], {}, 0, 7 * 144
    )
    assert (tiles.rows, tiles.cols, tiles.stride, thumbnail.offset) == (24, 36, 12, 864)
    assert tiles.rect_px == (0, 0, 1008, 672)
    assert thumbnail.rect_px == (0, 0, 700, 500)


@pytest.fixture(scope="module")
def lfm2():
    """transformers' own choice of LFM2-VL's tiles, from the source of a module whose import needs torchvision."""
    source = Path(transformers.__path__[0], "models/lfm2_vl/image_processing_lfm2_vl.py").read_text()
    wanted = ("round_by_factor", "find_closest_aspect_ratio", "_target_ratios", "_get_grid_layout")
    wanted += ("smart_resize", "_is_image_too_large")
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name in wanted]
    names = {"math": math, "lru_cache": lru_cache}
    exec(compile(ast.fix_missing_locations(ast.Module(found, [])), "lfm2", "exec"), names)
    return type("Rules", (), {name: names[name] for name in wanted[2:]})()


def test_fitted_pictures_and_their_tiles_are_transformers_own(lfm2):
    settings = {"encoder_patch_size": 16, "downsample_factor": 2, "max_image_tokens": 256}
    tokens = {"min_image_tokens": 64}
    tiles = {"tile_size": 512, "min_tiles": 2, "max_tiles": 10, "max_pixels_tolerance": 2.0}
    pictures = Config(**settings, **tokens, **tiles, do_image_splitting=True)
    for height, width in np.random.default_rng(0).integers(20, 3000, (4000, 2)).tolist():
        split, whole = fitted(pictures, (height, width))
        assert whole[::-1] == lfm2.smart_resize(height, width, **settings, **tokens)
        large = lfm2._is_image_too_large(height, width, **settings, max_pixels_tolerance=2.0)
        cols, rows, *_ = lfm2._get_grid_layout(height, width, 2, 10, 512) if large else (1, 1)
        assert split == (rows, cols)


def test_latent_queries_have_no_place():
    config = Config(vision_config=VISION, qformer_config=Config())
    assert image_grids(config, PLAIN, [(64, 64)], pixels(1, 3, 224, 224), 0, 32) == ()


def test_no_picture_no_grid():
    assert image_grids(Config(vision_config=VISION), PLAIN, [], {}, 0, 0) == ()


@pytest.mark.parametrize(
    ("n_visual", "line"),
    [
        (575, "grid 24x24 has 576 cells but the prompt holds 575 visual tokens; expected equal counts"),
        (577, "grid 24x24 has 576 cells but the prompt holds 577 visual tokens; expected equal counts"),
    ],
)
def test_a_mismatch_shows_both_numbers(n_visual, line):
    with pytest.raises(GridMismatch, match=line):
        image_grids(Config(vision_config=VISION), PLAIN, [(300, 400)], pixels(1, 3, 336, 336), 0, n_visual)


def test_a_mismatch_of_several_grids_shows_their_sum():
    outputs = {"image_grid_thw": torch.tensor([[1, 4, 4], [1, 6, 4]])}
    with pytest.raises(GridMismatch, match=r"grid 2x2 \+ 3x2 has 10 cells but the prompt holds 11 visual tokens"):
        image_grids(Config(vision_config=VISION), PLAIN, [(56, 56), (84, 56)], outputs, 0, 11)


@pytest.mark.parametrize("family", MAPPED)
def test_every_visual_token_of_a_family_has_its_place(family):
    vlm = tiny_model(family)
    for layout in vlm.encode(tiny_samples(6)).layouts:
        cells = np.concatenate([grid.index.ravel() for grid in layout.grids])
        others = sum(grid.n_tokens - grid.rows * grid.cols for grid in layout.grids)  # newlines
        others += len(layout.visual) - sum(grid.n_tokens for grid in layout.grids) if vlm.crosses else 0  # class tokens
        others += 2 * getattr(vlm.processor, "cat_extra_token", False)  # HunYuan-VL's two ends
        assert len(set(cells)) == len(cells) == len(layout.visual) - others
        assert cells.max() < len(layout.visual)


def vision_features(vlm, *pictures):
    return visual_features(vlm, Sample("s", pictures, "where?"))


# Chameleon's tower sees the whole of so small a picture from each cell, and rounds what it saw to one of eight words
@pytest.mark.parametrize("family", [family for family in MAPPED if family != "chameleon"])
@pytest.mark.parametrize("size", [(84, 112), (112, 60)])
def test_a_change_under_a_cell_shows_in_that_cell(family, size):
    vlm = tiny_model(family, seed=1)  # another random tower of deepseek_vl spreads a patch over the padding
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before, grids = vision_features(vlm, Image.fromarray(noise))
    for grid in grids:
        centre = grid.boxes_px.reshape(grid.rows, grid.cols, 2, 2).mean(2)
        on_picture = np.argwhere(((centre > 0) & (centre < size[::-1])).all(-1))  # the others hold padding
        for row, col in on_picture[[0, len(on_picture) // 3, -1]].tolist():
            x0, y0, x1, y1 = grid.boxes_px[row, col].round().astype(int)
            changed = noise.copy()
            changed[max(y0, 0) : y1, max(x0, 0) : x1] = 255 - changed[max(y0, 0) : y1, max(x0, 0) : x1]
            change = grid.to_grid((vision_features(vlm, Image.fromarray(changed))[0] - before).norm(dim=-1))
            assert divmod(change.argmax().item(), grid.cols) == (row, col), grid


@pytest.mark.parametrize(
    "family",
    ["llava_next", "qwen3_vl", "idefics3", "internvl", "llama4", "ovis2", "gemma4", "hunyuan_vl", "mllama"],
)
def test_of_two_pictures_the_changed_one_changes(family):
    vlm = tiny_model(family)
    random = np.random.default_rng(0)
    first, second, other = (
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((60, 90), (70, 70), (70, 70))
    )
    before, grids = vision_features(vlm, first, second)
    change = (vision_features(vlm, first, other)[0] - before).norm(dim=-1)
    assert {grid.image for grid in grids} == {0, 1}
    for grid in grids:
        assert (grid.to_grid(change) > 1e-6).all() == (grid.image == 1)
        assert (grid.to_grid(change) > 1e-6).any() == (grid.image == 1)
