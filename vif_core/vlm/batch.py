"""Samples made ready for one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.vlm.grids import image_grids
from vif_core.vlm.layout import SEGMENTS, Layout
from vif_core.vlm.prompt import Prompt, write_prompt
from vif_core.vlm.video import frame_grids, video_inputs
from vif_core.vlm.visual import visual_positions


@dataclass
class Batch:
    """Left-padded inputs of B samples, ready for `model(**inputs)`.

    layouts: where everything is in each sample, padding left out.
    pad:     padding tokens before each sample: position p of a sample is position pad + p of its padded row.
    """

    inputs: dict[str, torch.Tensor]
    layouts: list[Layout]
    pad: list[int]

    def __len__(self) -> int:
        return len(self.layouts)

    @property
    def length(self) -> int:
        """Padded length in tokens."""
        return self.inputs["input_ids"].shape[1]


def encode(
    model: Any,
    processor: Any,
    image_token_id: int,
    samples: Sequence[Sample],
    responses: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """What `VLM.encode` does, for a model and its processor."""
    images = [sample.open_images() for sample in samples]
    videos = [sample.open_frames() for sample in samples]
    filmed = video_inputs(model, processor, samples, videos)
    prompts = [write_prompt(processor, sample) for sample in samples]
    outputs = _process(model, processor, prompts, images, filmed)
    kept = outputs["attention_mask"].bool()
    layouts: list[Layout] = []
    first = video = 0
    for i, (prompt, pictures, frames) in enumerate(zip(prompts, images, videos, strict=True)):
        ids = outputs["input_ids"][i, kept[i]].numpy()
        visual = visual_positions(ids, model.config.video_token_id if frames else image_token_id)
        if frames:
            grids = frame_grids(model.config, processor, frames, outputs, video, len(visual))
            video += 1
        else:
            sizes = [(picture.height, picture.width) for picture in pictures]
            grids = image_grids(model.config, processor, sizes, outputs, first, len(visual))
            first += len(pictures)
        reply = np.array(responses[i] if responses else [], dtype=np.int64)
        segment = _segments(prompt, processor.tokenizer, ids, visual, len(reply))
        layouts.append(Layout(np.concatenate([ids, reply]), visual, grids, segment, response_start=len(ids)))
    return _pad(model, processor.tokenizer.pad_token_id, outputs, layouts)


def _process(
    model: Any,
    processor: Any,
    prompts: Sequence[Prompt],
    images: Sequence[Sequence[Image.Image]],
    videos: dict[str, Any],
) -> dict[str, torch.Tensor]:
    typed = {"return_mm_token_type_ids": True} if "mm_token_type_ids" in signature(model.forward).parameters else {}
    outputs = processor(
        text=[prompt.text for prompt in prompts],
        images=[list(pictures) for pictures in images] if any(images) else None,
        padding=True,
        add_special_tokens=prompts[0].needs_special_tokens(processor.tokenizer),
        return_tensors="pt",
        **videos,
        **typed,
    )
    given = dict(outputs)
    if not typed:  # of a processor that serves several families
        given.pop("mm_token_type_ids", None)
    if "pixel_values_images" in given:  # Video-LLaVA's older name
        given["pixel_values"] = given.pop("pixel_values_images")
    given.pop("labels", None)  # PaliGemma's, of a question without an answer
    return given


def _segments(prompt: Prompt, tokenizer: Any, ids: np.ndarray, visual: np.ndarray, n_response: int) -> np.ndarray:
    segment = np.full(len(ids) + n_response, SEGMENTS.index("template"), dtype=np.int8)
    segment[prompt.question_positions(tokenizer, ids)] = SEGMENTS.index("question")
    if ids[0] == tokenizer.bos_token_id:
        segment[0] = SEGMENTS.index("bos")
    segment[visual] = SEGMENTS.index("visual")
    segment[len(ids) :] = SEGMENTS.index("response")
    return segment


def _pad(model: Any, pad_token_id: int, outputs: dict[str, torch.Tensor], layouts: list[Layout]) -> Batch:
    """Append the responses and pad left again: every tensor with an entry a token is laid out anew."""
    shape = outputs["input_ids"].shape
    kept = outputs["attention_mask"].bool()
    length = max(len(layout) for layout in layouts)
    pad = [length - len(layout) for layout in layouts]
    inputs = {}
    for name, values in outputs.items():
        if values.shape == shape and not values.is_floating_point():
            laid = values.new_full((len(layouts), length), pad_token_id if name == "input_ids" else 0)
            for i, layout in enumerate(layouts):
                laid[i, pad[i] : pad[i] + layout.response_start] = values[i, kept[i]]
                if name == "input_ids":
                    laid[i, pad[i] :] = torch.from_numpy(layout.input_ids)
                elif name == "attention_mask":
                    laid[i, pad[i] :] = 1
            values = laid
        cast = values.is_floating_point() and name != "second_per_grid_ts"  # time, from which positions are counted
        inputs[name] = values.to(model.device, model.dtype if cast else None)
    return Batch(inputs, layouts, pad)
