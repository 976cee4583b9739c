"""Random models of every supported kind, a few thousand weights each, with their real processors, built offline.

They exercise what differs between families: how many tokens an image takes, how its grid lies, masks, grouped
heads, attention sinks. Their tokenizer has a token for each byte, so that any text works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    GptOssConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vif_core.data.sample import Sample
from vif_core.vlm.model import VLM
from vif_core.vlm.processor import without_video
from vif_core.vlm.shrunk import FAMILIES, TILE_WORDS, shrunk_model

SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<video>", "<boi>", "<eoi>")
PAD, BOS, EOS, IMAGE, VIDEO, BOI, EOI = range(len(SPECIAL))

LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 256 + len(SPECIAL),
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "initializer_range": 0.2,  # wide, so that attention is far from uniform
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}


def tiny_model(family: str, attn: str = "sdpa", seed: int = 0) -> VLM:
    """A random model of `family` (TINY_FAMILIES, FAMILIES), the same for the same seed, in fp32 on the CPU.

    Where the family cannot run under `attn`, transformers' own choice for it stands, as when such a model is loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = (
            _BUILDERS[family](attn) if family in _BUILDERS else shrunk_model(family, attn, _any_tokenizer())
        )
    return VLM(model, processor, name=f"tiny-{family}")


def tiny_samples(n: int = 3, seed: int = 0) -> list[Sample]:
    """Noise pictures of different sizes and shapes, with questions of different lengths, some with a system line."""
    random = np.random.default_rng(seed)
    return [
        Sample(
            sample_id=f"tiny-{i}",
            images=(Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)),),
            question="what is this" + ", and this" * (i % 3) + "?",
            system="be brief" if i % 2 else "",
        )
        for i, (height, width) in enumerate(random.integers(30, 91, (n, 2)))
    ]


def tiny_videos(counts: Sequence[int] = (3, 2, 4), seed: int = 0) -> list[Sample]:
    """Noise videos of so many frames each, of different sizes, with the questions of `tiny_samples`."""
    random = np.random.default_rng(seed)
    videos = []
    for sample, n_frames in zip(tiny_samples(len(counts), seed), counts, strict=True):
        (picture,) = sample.open_images()
        noise = random.integers(0, 256, (n_frames, picture.height, picture.width, 3), dtype=np.uint8)
        videos.append(replace(sample, images=(), frames=tuple(map(Image.fromarray, noise))))
    return videos


def _tokenizer(**extra: str) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<video>"],
        extra_special_tokens={"image_token": "<image>", **extra},
    )


def _any_tokenizer() -> PreTrainedTokenizerFast:
    """One that has every special token that some family's processor asks its tokenizer for."""
    named = {
        "<image>": "context_image_token",
        "<boi>": "start_image_token boi_token vision_bos_token image_start_token video_start_token "
        "image_boundary_token boa_token",
        "<eoi>": "end_image_token eoi_token vision_eos_token image_end_token video_end_token eoa_token",
        "<video>": "video_token audio_token",
        "<newline>": "image_break_token",
    }
    tokenizer = _tokenizer(**{name: token for token, names in named.items() for name in names.split()})
    tokenizer.add_tokens([AddedToken(token, special=True) for token in TILE_WORDS])
    return tokenizer


def _llava(attn: str, text: Any = None) -> tuple[Any, Any]:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=text or LlamaConfig(**LLAMA),
        image_token_index=IMAGE,
        image_seq_length=16,
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        pictures, _tokenizer(), patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    return LlavaForConditionalGeneration._from_config(config, attn_implementation=attn), processor


def _sinks(attn: str) -> tuple[Any, Any]:
    text = GptOssConfig(**LLAMA, num_local_experts=2, num_experts_per_tok=1, sliding_window=16)
    return _llava("eager" if attn == "sdpa" else attn, text)  # its sinks cannot go through sdpa


def _llava_next(attn: str) -> tuple[Any, Any]:
    pinpoints = [[28, 56], [56, 28], [56, 56], [28, 84]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**LLAMA),
        image_token_index=IMAGE,
        image_grid_pinpoints=pinpoints,
    )
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
    )
    processor = LlavaNextProcessor(
        pictures, _tokenizer(), patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    return LlavaNextForConditionalGeneration._from_config(config, attn_implementation=attn), processor


def _qwen2_5_vl(attn: str) -> tuple[Any, Any]:
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": 7,
            "window_size": 28,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={**LLAMA, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BOI,
        vision_end_token_id=EOI,
    )
    pictures = Qwen2VLImageProcessorPil(
        patch_size=7, merge_size=2, size={"shortest_edge": 28 * 28, "longest_edge": 84 * 84}
    )
    template = (
        "{% for m in messages %}<s>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}"
        "{% else %}<boi><{{ c.type }}><eoi>{% endif %}{% endfor %}</s>\n{% endfor %}<s>assistant\n"
    )
    tokenizer = _tokenizer(video_token="<video>")
    processor = without_video(Qwen2_5_VLProcessor)(pictures, tokenizer, chat_template=template)
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attn), processor


def _gemma3(attn: str) -> tuple[Any, Any]:
    config = Gemma3Config(
        text_config={**LLAMA, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"] * 2}
        | {"num_hidden_layers": 4, "query_pre_attn_scalar": 16},
        vision_config=SiglipVisionConfig(**{**VISION, "image_size": 56}),
        image_token_index=IMAGE,
        boi_token_index=BOI,
        eoi_token_index=EOI,
        mm_tokens_per_image=16,
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    tokenizer = _tokenizer(boi_token="<boi>", eoi_token="<eoi>")
    template = (
        "<s>{% for m in messages %}{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}<boi>"
        "{% else %}{{ c.text | trim }}{% endif %}{% endfor %}\n{% endfor %}model\n"
    )
    processor = Gemma3Processor(pictures, tokenizer, image_seq_length=16, chat_template=template)
    model = Gemma3ForConditionalGeneration._from_config(config, attn_implementation=attn)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zero until trained
    return model, processor


_BUILDERS: dict[str, Callable[[str], tuple[Any, Any]]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_5_vl": _qwen2_5_vl,
    "gemma3": _gemma3,
    "sinks": _sinks,
}
TINY_FAMILIES = tuple(_BUILDERS)
"""Families built by hand, one for each thing that differs; most tests run over these."""
ALL_FAMILIES = (*TINY_FAMILIES, *FAMILIES)
