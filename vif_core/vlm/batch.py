"""Samples made ready for one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.vlm.crossing import crossed
from vif_core.vlm.grids import image_grids
from vif_core.vlm.layout import SEGMENTS, Layout
from vif_core.vlm.prompt import Prompt, between, takes_parts, write_prompt, writes_special_tokens
from vif_core.vlm.video import frame_grids, video_inputs
from vif_core.vlm.visual import crosses, visual_positions


@dataclass
class Batch:
    """Padded inputs of B samples, ready for `model(**inputs)`: on the left, but for an encoder-decoder's.

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
        return max(left + len(layout) for left, layout in zip(self.pad, self.layouts, strict=True))

    @property
    def num_keys(self) -> int:
        """Keys that a row's attention is laid out over, padding included."""
        return max(left + len(layout.key_segment) for left, layout in zip(self.key_pad, self.layouts, strict=True))

    @property
    def key_pad(self) -> list[int]:
        """Padding keys before each sample's: `pad`, but none before those of a cross-attention."""
        return [left if own.crossing is None else 0 for left, own in zip(self.pad, self.layouts, strict=True)]


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
    special = prompts[0].needs_special_tokens(processor.tokenizer)
    texts = [prompt.text for prompt in prompts]
    outputs = process(processor, texts, images, special=special, typed=takes_types(model), videos=filmed)
    kept = outputs["attention_mask"].bool()
    layouts: list[Layout] = []
    first = video = 0
    for i, (prompt, pictures, frames) in enumerate(zip(prompts, images, videos, strict=True)):
        ids = outputs["input_ids"][i, kept[i]].numpy()
        visual = visual_positions(ids, model.config.video_token_id if frames else image_token_id)
        sizes = [(picture.height, picture.width) for picture in pictures]
        reply = np.array(responses[i] if responses else [], dtype=np.int64)
        segment = _segments(prompt, processor.tokenizer, ids, visual, len(reply))
        own = Layout(np.concatenate([ids, reply]), visual, (), segment, response_start=len(ids))
        if crosses(model.config):
            layouts.append(crossed(model, processor, own, sizes, outputs, i))
        else:
            if frames:
                grids = frame_grids(model.config, processor, frames, outputs, video, len(visual))
                video += 1
            else:
                grids = image_grids(model.config, processor, sizes, outputs, first, len(visual))
            layouts.append(replace(own, grids=grids))
        first += len(pictures)
    return _pad(model, processor.tokenizer.pad_token_id, outputs, layouts)


def process(
    processor: Any,
    texts: Sequence[str],
    images: Sequence[Sequence[Image.Image]],
    *,
    special: bool,
    typed: bool,
    videos: dict[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """What the processor returns for B prompts with their images, as the model takes it, padded.

    special: whether the prompts lack the tokenizer's special tokens.      typed: `takes_types` of the model.
    videos:  what `video_inputs` gives.
    """
    prompts: list[Any] = list(texts)
    if takes_parts(processor):
        prompts = [between(processor, text, pictures) for text, pictures in zip(texts, images, strict=True)]
    given = dict(
        processor(
            text=prompts,
            images=[list(pictures) for pictures in images] if any(images) and not takes_parts(processor) else None,
            padding=True,
            add_special_tokens=special and not writes_special_tokens(processor, any(images)),
            return_tensors="pt",
            **(videos or {}),
            **({"return_mm_token_type_ids": True} if typed else {}),
        )
    )
    if not typed:  # of a processor that serves several families
        given.pop("mm_token_type_ids", None)
    if "pixel_values_images" in given:  # Video-LLaVA's older name
        given["pixel_values"] = given.pop("pixel_values_images")
    given.pop("labels", None)  # PaliGemma's, of a question without an answer
    return given


def takes_types(model: Any) -> bool:
    """Whether the model wants to be told which tokens are of an image and which of a video."""
    return "mm_token_type_ids" in signature(model.forward).parameters


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
    if model.config.is_encoder_decoder:
        return _pad_decoder(model, pad_token_id, outputs, layouts)
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
                elif name == "token_type_ids":
                    laid[i, pad[i] + layout.response_start :] = response_type(model.config)
            values = laid
        elif name.endswith("attention_mask") and values.dim() > 2 and values.shape[:2] == shape:
            values = torch.stack([_seen(*own) for own in zip(values, kept, layouts, pad, strict=True)])
        cast = values.is_floating_point() and name != "second_per_grid_ts"  # time, from which positions are counted
        inputs[name] = values.to(model.device, model.dtype if cast else None)
    return Batch(inputs, layouts, pad)


def response_type(config: Any) -> int:
    """The token type of a response. PaliGemma's prompt, of type 0, is a block whose tokens all see one another."""
    return int(config.model_type == "paligemma")


def _seen(mask: torch.Tensor, kept: torch.Tensor, layout: Layout, left: int) -> torch.Tensor:
    """What each token of a sample sees of its images, [N, ...] laid anew: its response what the prompt's end sees."""
    response = mask[-1:].expand(len(layout) - layout.response_start, *mask.shape[1:])
    return torch.cat([mask.new_zeros(left, *mask.shape[1:]), mask[kept], response])


def _pad_decoder(model: Any, pad_token_id: int, outputs: dict[str, torch.Tensor], layouts: list[Layout]) -> Batch:
    """The processor's outputs are the encoder's. Both are padded right, as they count positions from 0."""
    ids = [torch.from_numpy(layout.input_ids) for layout in layouts]
    decoder = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad_token_id)
    inputs = {
        name: values.to(model.device, model.dtype if values.is_floating_point() else None)
        for name, values in (outputs | {"decoder_input_ids": decoder}).items()
    }
    return Batch(inputs, layouts, [0] * len(layouts))
