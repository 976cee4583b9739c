"""Processors for random models whose own needs torchvision: the same rule for how tokens lie on the picture, on PIL."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ImagesKwargs

from vif_core.vlm.tiling import fitted, padded_canvas


class PatchRows(ProcessorMixin):
    """Pixtral: rows of patches, each ended by a break token, the last by an end token."""

    image_token, image_token_id = "<image>", 3

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: Any = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.side_px = image_processor.patch_size["height"]

    def replace_image_token(self, image_inputs: Any, image_idx: int, **_: Any) -> str:
        rows, cols = (int(side) // self.side_px for side in image_inputs["image_sizes"][image_idx])
        return "<newline>".join([self.image_token * cols] * rows) + "<eoi>"

    @property
    def model_input_names(self) -> list[str]:
        return [*self.tokenizer.model_input_names, "pixel_values", "image_sizes"]


class CanvasPictures(PilBackend):
    """Llama 4: the picture on a canvas of tiles, padded on the right and below, and a thumbnail after them."""

    size: ClassVar = {"height": 336, "width": 336}
    resample = PILImageResampling.BILINEAR
    image_mean = image_std = (0.5, 0.5, 0.5)
    do_resize = do_rescale = do_normalize = do_convert_rgb = True
    max_patches, resize_to_max_canvas = 16, False

    def _preprocess(self, images: Any, **how: Any) -> BatchFeature:  # type: ignore[override]
        size, resample = how["size"], how["resample"]
        side = size.height
        pictures, splits = [], []
        for image in images:
            (rows, cols), (height, width) = padded_canvas(self, image.shape[-2:])
            shown = self.resize(image, SizeDict(height=height, width=width), resample=resample)
            canvas = np.pad(shown, ((0, 0), (0, rows * side - height), (0, cols * side - width)))
            tiles = canvas.reshape(3, rows, side, cols, side).transpose(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
            if rows * cols > 1:
                tiles = np.concatenate([tiles, self.resize(image, size, resample=resample)[None]])
            pictures.append(tiles)
            splits.append([rows, cols])
        mean, std = how["image_mean"], how["image_std"]
        values = np.stack([self.normalize(tile / 255.0, mean, std) for tile in np.concatenate(pictures)])
        found = {"pixel_values": torch.tensor(values, dtype=torch.float32), "aspect_ratios": splits}
        return BatchFeature(found, tensor_type=how["return_tensors"])


class FittedKwargs(ImagesKwargs, total=False):
    """return_row_col_info: what LFM2-VL's processor asks for; it is always given."""

    return_row_col_info: bool


class FittedPictures(PilBackend):
    """LFM2-VL: a picture of its own shape as patches, after its tiles where it is large; padded to one length."""

    size: ClassVar = {"height": 512, "width": 512}
    resample = PILImageResampling.BILINEAR
    image_mean = image_std = (0.5, 0.5, 0.5)
    do_resize = do_rescale = do_normalize = do_convert_rgb = do_image_splitting = use_thumbnail = True
    encoder_patch_size, tile_size, downsample_factor = 16, 512, 2
    min_tiles, max_tiles, min_image_tokens, max_image_tokens = 2, 10, 64, 256
    max_pixels_tolerance = 2.0
    valid_kwargs = FittedKwargs

    def _preprocess(self, images: Any, **how: Any) -> BatchFeature:  # type: ignore[override]
        patch = self.encoder_patch_size
        parts: list[np.ndarray] = []
        splits, sizes = [], []
        for image in images:
            (rows, cols), (height, width) = fitted(self, image.shape[-2:])
            if (rows, cols) != (1, 1):
                size = SizeDict(height=rows * self.tile_size, width=cols * self.tile_size)
                tiles = self.resize(image, size, resample=how["resample"])
                parts += [tile for row in np.split(tiles, rows, 1) for tile in np.split(row, cols, 2)]
            parts.append(self.resize(image, SizeDict(height=height, width=width), resample=how["resample"]))
            splits.append((rows, cols))
            sizes.append([height, width])
        shapes = [[part.shape[1] // patch, part.shape[2] // patch] for part in parts]
        longest = max(rows * cols for rows, cols in shapes)
        values = np.zeros((len(parts), longest, 3 * patch**2), np.float32)
        for value, part, (rows, cols) in zip(values, parts, shapes, strict=True):
            scaled = self.normalize(part / 255.0, how["image_mean"], how["image_std"])
            cut = scaled.reshape(3, rows, patch, cols, patch).transpose(1, 3, 2, 4, 0)
            value[: rows * cols] = cut.reshape(rows * cols, -1)
        found = {
            "pixel_values": values,
            "pixel_attention_mask": np.array([[i < rows * cols for i in range(longest)] for rows, cols in shapes], int),
            "spatial_shapes": shapes,
            "image_rows": [rows for rows, _ in splits],
            "image_cols": [cols for _, cols in splits],
            "image_sizes": sizes,
        }
        return BatchFeature(found, tensor_type=how["return_tensors"])


class RasterPictures(Qwen2VLImageProcessorPil):
    """Muse: patches row by row, where Qwen2-VL puts those that are merged beside each other."""

    def _preprocess(self, *args: Any, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        found = super()._preprocess(*args, **kwargs)
        pictures, first = [], 0
        for _, rows, cols in np.asarray(found["image_grid_thw"]).tolist():
            blocks = (rows // self.merge_size, cols // self.merge_size, self.merge_size, self.merge_size)
            patches = found["pixel_values"][first : first + rows * cols].reshape(*blocks, -1)
            pictures.append(torch.as_tensor(patches).transpose(1, 2).reshape(rows * cols, -1))
            first += rows * cols
        found["pixel_values"] = torch.cat(pictures)
        return found
