"""Videos as frames, without torchvision: what stands in for a family's video processor, and how its tokens lie.

The family's own processor writes the tokens (their number, timestamps); it asks the reader here for the frames' pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    LlavaNextVideoProcessor,
    LlavaOnevisionProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
    VideoLlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.video_utils import VideoMetadata

from vif_core.data.sample import Box, Sample
from vif_core.errors import SampleError, UnsupportedModel
from vif_core.vlm.grids import Size, counted, shown_rect
from vif_core.vlm.layout import ImageGrid

PATCHED = (Qwen2VLProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor)
SQUARE = (LlavaOnevisionProcessor, LlavaNextVideoProcessor, VideoLlavaProcessor)

_EDGES = ("shortest_edge", "longest_edge", "height", "width")
_COMMON = ("size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
_PATCHED = (*_COMMON, "patch_size", "temporal_patch_size", "merge_size", "min_pixels", "max_pixels")
_SQUARE = (*_COMMON, "do_resize", "do_center_crop", "crop_size")


def frame_reader(processor: Any, settings: Mapping[str, Any]) -> PatchedFrames | SquareFrames | None:
    """What reads frames for a processor; None for families whose rule for videos is not known.

    settings: of the checkpoint's video processor; its image processor's stand where they say nothing.
    """
    if isinstance(processor, PATCHED):
        own = _settings(processor.image_processor, settings, _PATCHED)
        return PatchedFrames(type(processor.image_processor)(**own), shared=isinstance(processor, Qwen3VLProcessor))
    if isinstance(processor, SQUARE):
        own = {"do_center_crop": False} | _settings(processor.image_processor, settings, _SQUARE)
        return SquareFrames(CLIPImageProcessorPil(**own))
    return None


def _settings(pictures: Any, settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    own = {name: getattr(pictures, name) for name in names if getattr(pictures, name, None) is not None}
    own |= {name: settings[name] for name in names if settings.get(name) is not None}
    size = own["size"]
    size = {edge: getattr(size, edge, None) for edge in _EDGES} if not isinstance(size, dict) else size
    bounds = {"shortest_edge": own.pop("min_pixels", None), "longest_edge": own.pop("max_pixels", None)}
    if "size" not in settings:  # as older checkpoints say it
        size = size | {edge: pixels for edge, pixels in bounds.items() if pixels is not None}
    return own | {"size": {edge: length for edge, length in size.items() if length is not None}}


class PatchedFrames:
    """Qwen-VL: frames keep their shape; patches of `temporal_patch_size` frames become one, merge x merge to a token.

    shared: the number of pixels is bounded for all frames together (Qwen3-VL), not for each.
    """

    def __init__(self, pictures: Any, *, shared: bool) -> None:
        self.pictures = pictures
        self.shared = shared
        self.merge_size: int = pictures.merge_size
        self.temporal_patch_size: int = pictures.temporal_patch_size

    def __call__(
        self, videos: Sequence[Sequence[Image.Image]], video_metadata: list[VideoMetadata], **_: Any
    ) -> dict[str, Any]:
        """pixel_values_videos [all patches, values], video_grid_thw [videos, 3], and the metadata."""
        patches, grids = [], []
        for frames in videos:
            height, width = self.resized(len(frames), (frames[0].height, frames[0].width))
            resized = [frame.resize((width, height), self.pictures.resample) for frame in frames]
            read = self.pictures(images=resized, do_resize=False, return_tensors="pt")
            _, rows, cols = read["image_grid_thw"][0].tolist()
            patches.append(self._merged(read["pixel_values"], len(frames)))
            grids.append([-(-len(frames) // self.temporal_patch_size), rows, cols])
        return {
            "pixel_values_videos": torch.cat(patches),
            "video_grid_thw": torch.tensor(grids),
            "video_metadata": video_metadata,
        }

    def resized(self, n_frames: int, size: Size) -> Size:
        """(height, width) at which the frames are read: whole cells, within the bounds on their pixels.

        Raises SampleError for a video too short to be read.
        """
        cell = self.pictures.patch_size * self.merge_size
        least, most = self.pictures.size["shortest_edge"], self.pictures.size["longest_edge"]
        n, counted_as, (height, width) = 1, 1, size
        if self.shared:
            if n_frames < self.temporal_patch_size:
                raise SampleError(
                    f"a video of {n_frames} frame",
                    expected=f"at least {self.temporal_patch_size}",
                    next_step="Take more of them, or give the frame as an image",
                )
            n, counted_as = n_frames, round(n_frames / self.temporal_patch_size) * self.temporal_patch_size
            enlarged = max(1.0, cell / min(size))
            height, width = int(height * enlarged), int(width * enlarged)
        rows, cols = round(height / cell), round(width / cell)
        pixels = counted_as * rows * cols * cell**2
        if pixels > most:
            shrink = math.sqrt(n * height * width / most)
            rows, cols = (max(1, math.floor(side / shrink / cell)) for side in (height, width))
        elif pixels < least:
            grow = math.sqrt(least / (n * height * width))
            rows, cols = (math.ceil(side * grow / cell) for side in (height, width))
        return rows * cell, cols * cell

    def _merged(self, patches: Tensor, n_frames: int) -> Tensor:
        """Patches of single frames, each repeated over the time of a patch, as patches of consecutive frames."""
        time, side = self.temporal_patch_size, self.pictures.patch_size
        single = patches.view(n_frames, -1, 3, time, side * side)[:, :, :, 0]  # [N P C p*p]
        whole = torch.cat([single, *[single[-1:]] * (-n_frames % time)])
        return whole.unflatten(0, (-1, time)).permute(0, 2, 3, 1, 4).flatten(0, 1).flatten(1)

    def grids(self, _config: Any, outputs: Mapping[str, Any], video: int, size: Size) -> tuple[list[ImageGrid], int]:
        """Grids of video number `video` of the outputs, one a temporal step, and how many tokens they take up."""
        steps, rows, cols = outputs["video_grid_thw"][video].tolist()
        rows, cols = rows // self.merge_size, cols // self.merge_size
        found = [
            _grid(step * self.temporal_patch_size, rows, cols, step * rows * cols, (0.0, 0.0, size[1], size[0]))
            for step in range(steps)
        ]
        return found, steps * rows * cols


class SquareFrames:
    """LLaVA's kin: every frame becomes a picture of one size, whose patches are pooled (but for Video-LLaVA)."""

    def __init__(self, pictures: Any) -> None:
        self.pictures = pictures

    def __call__(self, videos: Sequence[Sequence[Image.Image]], **_: Any) -> dict[str, Any]:
        """pixel_values_videos [videos, frames, 3, height, width]. Raises SampleError where frames differ in number."""
        counts = sorted({len(frames) for frames in videos})
        if len(counts) > 1:
            raise SampleError(
                f"videos of {counts[0]} and {counts[-1]} frames in one batch",
                expected="as many frames in each, as this model family needs them",
                next_step="Give them as many frames, or pass them one by one (--batch-size 1)",
            )
        read = [self.pictures(images=list(frames), return_tensors="pt")["pixel_values"] for frames in videos]
        return {"pixel_values_videos": torch.stack(read)}

    def grids(self, config: Any, outputs: Mapping[str, Any], _video: int, size: Size) -> tuple[list[ImageGrid], int]:
        """Grids of a video, one a frame, and how many tokens they take up, those without a place included."""
        n_frames, _, height, _ = outputs["pixel_values_videos"].shape[1:]
        side = height // config.vision_config.patch_size
        before = after = 0
        if config.model_type == "llava_onevision":  # interpolated to half the side, a newline token after all frames
            side, after = -(-side // 2), 1
        elif config.model_type == "llava_next_video":
            side //= config.spatial_pool_stride
        else:  # Video-LLaVA keeps the class token, first of each frame
            before = 1
        rect = shown_rect(self.pictures, size)
        step = before + side * side
        return [_grid(i, side, side, i * step + before, rect) for i in range(n_frames)], n_frames * step + after


def _grid(frame: int, rows: int, cols: int, offset: int, rect_px: Box) -> ImageGrid:
    return ImageGrid(image=frame, frame="frame", rows=rows, cols=cols, offset=offset, stride=cols, rect_px=rect_px)


def reads_videos(model: Any, processor: Any) -> bool:
    """Whether a model takes videos and it is known how its processor reads their frames."""
    return hasattr(processor, "video_processor") and "pixel_values_videos" in signature(model.forward).parameters


def video_inputs(
    model: Any, processor: Any, samples: Sequence[Sample], videos: Sequence[Sequence[Image.Image]]
) -> dict[str, Any]:
    """What the processor is told of the samples' videos, none where no sample has frames. Raises UnsupportedModel for
    a family whose videos cannot be read."""
    told = [
        (list(frames), VideoMetadata(len(frames), sample.fps, frames_indices=list(range(len(frames)))))
        for sample, frames in zip(samples, videos, strict=True)
        if frames
    ]
    if not told:
        return {}
    if not reads_videos(model, processor):
        raise UnsupportedModel(
            f"videos cannot be read with model family {model.config.model_type!r}",
            expected="a Qwen-VL from 2 to 3.5, LLaVA-OneVision, LLaVA-NeXT-Video or Video-LLaVA",
            next_step="Choose one of them, or give the frames as images",
        )
    frames, metadata = zip(*told, strict=True)
    return {"videos": list(frames), "video_metadata": list(metadata)}


def frame_grids(
    config: Any, processor: Any, frames: Sequence[Image.Image], outputs: Mapping[str, Any], video: int, n_visual: int
) -> tuple[ImageGrid, ...]:
    """Grids of one sample's video, number `video` of the processor's `outputs`: one for each frame, or each pair of
    frames that are merged. Raises GridMismatch, showing both numbers, where the prompt's `n_visual` tokens disagree."""
    size = (frames[0].height, frames[0].width)
    grids, n_tokens = processor.video_processor.grids(config, outputs, video, size)
    return counted(grids, n_tokens, n_visual)
