"""Random models of any family, from its default configuration made small, with its real processor where that is built
without torchvision and one of the same rule where not.

Nothing is known of a family but its name and, where the general rule breaks its configuration, what it needs instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from inspect import signature
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, processors
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedTokenizerBase
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from vif_core.vlm import synthetic
from vif_core.vlm.processor import without_video

PATCH_PX, IMAGE_PX = 8, 32
VOCABULARY = 320

NUMBERS = {
    name: number
    for number, names in {
        32: "hidden_size d_model embed_dim out_hidden_size projector_hidden_size text_hidden_size projection_dim "
        "vision_output_dim projection_hidden_size encoder_hidden_size vision_hidden_size output_dim image_size "
        "projector_input_dim projector_output_dim image_token_embed_dim window_size",
        64: "intermediate_size ffn_dim mlp_dim moe_intermediate_size shared_expert_intermediate_size "
        "encoder_ffn_dim alignment_intermediate_size projection_intermediate_size num_position_embeddings",
        24: "sliding_window",
        16: "head_dim image_seq_length num_image_tokens q_lora_rank kv_lora_rank",
        8: "hidden_size_per_layer_input qk_rope_head_dim patch_size linear_key_head_dim linear_value_head_dim "
        "pos_emb_height pos_emb_width linear_head_dim",
        4: "num_attention_heads num_heads attention_heads linear_num_value_heads linear_num_heads n_routed_experts "
        "num_experts encoder_attention_heads num_local_experts moe_num_experts",
        2: "num_key_value_heads num_experts_per_tok moe_topk moe_k linear_num_key_heads depth num_layers layers "
        "encoder_layers",
        1: "n_group topk_group n_shared_experts",
        VOCABULARY: "vocab_size vocab_size_per_layer_input",
        2048: "max_position_embeddings",
    }.items()
    for name in names.split()
}
"""What a configuration's entries become, wherever in it they stand."""

TILE_WORDS = (
    "<IMG_ATOM>",
    "<IMG_START>",
    "<IMG_GRID>",
    "<IMG_COL>",
    "<IMG_ROW>",
    "<IMG_END>",
    "<|patch|>",
    "<|image|>",
    "<|image_start|>",
    "<|image_end|>",
    "<|tile_x_separator|>",
    "<|tile_y_separator|>",
    "<|video|>",
    "<|vid_frame_separator|>",
    "<|vid_start|>",
    "<|vid_end|>",
    "<fake_token_around_image>",
)
"""Tokens that processors write around tiles by name; the tokenizer numbers them from 264."""
BOUNDED = (
    "{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}<boi><image><eoi>{% else %}{{ c.text }}"
    "{% endif %}{% endfor %}\n{% endfor %}"
)
"""A chat template with tokens around an image's placeholder, since HunYuan-VL's processor refuses prompts without."""
SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PINPOINTS = [[32, 64], [64, 32], [64, 64], [32, 96]]
TEXT_LAYERS, VISION_LAYERS = 4, 3
SECTIONS = {2: [1, 1, 0], 4: [1, 1, 2], 8: [2, 3, 3]}
"""Shares of time, row and column in a rotary embedding of so many pairs."""


ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def _sections(pairs: int) -> dict[str, Any]:
    return {"text_config": {"rope_parameters": ROPE | {"mrope_section": SECTIONS[pairs]}}}


def _glm(pairs: int = 4, share: float = 0.5) -> dict[str, Any]:
    rope = _sections(pairs)["text_config"]["rope_parameters"] | {"partial_rotary_factor": share}
    return {"text_config": {"rope_parameters": rope, "head_dim": 16, "pad_token_id": 0}}


OMNI = {"vision_start_token_id": 5, "vision_end_token_id": 6}
"""What the checkpoints' configurations hold and the class does not."""

BY_LAYER = {
    kind: _sections(8)["text_config"]["rope_parameters"]
    for kind in ("full_attention", "sliding_attention", "indexed_attention")
}
INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "aria": {"vision_config": {"patch_size": 70, "image_size": 980}, "projector_patch_to_query_dict": {196: 8}},
    "aya_vision": {},
    "blip-2": {"image_token_index": 3, "num_query_tokens": 8, "text_config": {"word_embed_proj_dim": 32}},
    "chameleon": {
        "vocabulary_map": {"<image>": 3, **{f"IMGIMG{letter}Z": 10 + i for i, letter in enumerate("ABCDEFGH")}},
        "vq_config": {"num_embeddings": 8, "channel_multiplier": [1, 1, 1, 1], "base_channels": 32},
    },
    "cohere2_vision": {},
    "cohere_compass": {"text_config": {"rope_parameters": BY_LAYER}},
    "cosmos3_edge": {},
    "cosmos3_omni": {},
    "deepseek_vl": {},
    "deepseek_vl_hybrid": {},
    "ernie4_5_vl_moe": _sections(4),
    "exaone4_5": {},
    "florence2": {
        "text_config": {"decoder_layers": 3, "decoder_start_token_id": 2, "forced_eos_token_id": None},
        "vision_config": {
            "depths": [1, 1, 1, 1],
            "patch_size": [2, 2, 2, 1],
            "patch_padding": [0, 0, 0, 0],
            "patch_stride": [2, 2, 2, 1],
            "embed_dim": [8, 16, 16, 32],
            "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2],
            "window_size": 2,
            "projection_dim": 32,
            "max_position_embeddings": 50,
        },
    },
    "gemma4": {
        "audio_config": None,
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "patch_size": 8,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
        },
    },
    "glm46v": _glm(),
    "glm4v": _glm(),
    "glm4v_moe": _glm(),
    "glm5_next": {"text_config": {"qk_rope_head_dim": 0}},
    "glm_ocr": _glm(),
    "glmga": _glm(),
    "granite4_vision": {
        "deepstack_layer_map": [[1, 0]],
        "downsample_rate": "1/2",
        "vision_config": {"hidden_size": 64},
        "text_config": {"attention_multiplier": 0.35},
    },
    "granite_docling": {},
    "hunyuan_vl": {
        "im_start_id": 5,
        "im_end_id": 6,
        "im_newline_id": 7,
        "text_config": {"head_dim": 16, "rope_parameters": ROPE | {"mrope_section": [2, 2, 2, 2]}},
        "vision_config": {"max_image_size": 96},
    },
    "hyperclovax_vision_v2": {},
    "idefics": {
        "alpha_initializer": "ones",
        "cross_layer_interval": 2,
        "num_hidden_layers": 4,
        "use_resampler": True,
        "perceiver_config": {"use_resampler": True, "resampler_n_latents": 6},
    },
    "idefics2": {"perceiver_config": {"resampler_n_latents": 16, "resampler_depth": 1}},
    "idefics3": {},
    "instructblip": {"image_token_index": 3, "num_query_tokens": 8, "text_config": {"word_embed_proj_dim": 32}},
    "internvl": {},
    "janus": {},
    "lfm2_vl": {
        "text_config": {"layer_types": ["conv", "full_attention"] * 2, "full_attn_idxs": None},
        "vision_config": {"num_hidden_layers": 1},  # more of them spread a change over a tile of four tokens
    },
    "lfm3_vl": {},
    "lighton_ocr": {"vision_config": {"head_dim": 8}},
    "llama4": {
        "image_token_index": 270,
        "text_config": {"no_rope_layers": [1, 0, 1, 0], "moe_layers": [1, 3], "intermediate_size_mlp": 64},
        "vision_config": {"intermediate_size": 128},
    },
    "llava_next_video": {},
    "llava_onevision": {},
    "minimax_m3_vl": {},
    "mllama": {
        "text_config": {"cross_attention_layers": [1, 3]},
        "vision_config": {"intermediate_layers_indices": [0, 1], "num_global_layers": 1, "vision_output_dim": 96},
    },
    "mistral3": {"vision_config": {"head_dim": 8}},
    "mistral_large4": {
        "vision_config": {"head_dim": 8},
        "text_config": {"kv_source_layers": [0, 1, 2, 3], "num_global_layers": 1},
    },
    "muse_glimmer": {"image_token_id": 270, "out_hidden_size": 128, "text_config": {"qk_scale_factor": 1.0}},
    "muse_spark": {
        "image_token_id": 270,
        "out_hidden_size": 128,
        "text_config": {"qk_scale_factor": 1.0},
        "audio_config": {"num_hidden_layers": 4},
    },
    "ovis2": {
        "image_token_id": 264,
        "visual_indicator_token_ids": [265, 266, 267, 268, 269],
        "vision_config": {"vocab_size": 64},
    },
    "paddleocr_vl": _sections(8),
    "paligemma": {},
    "pp_chart2table": {},
    "qianfan_ocr": {},
    "qwen2_5_omni_thinker": _sections(4) | OMNI,
    "qwen2_vl": _sections(4),
    "qwen3_5": {},
    "qwen3_5_moe": {},
    "qwen3_omni_moe_thinker": OMNI,
    "qwen3_vl": {},
    "qwen3_vl_moe": {},
    "qwen4_exp": {"text_config": INDEXER},
    "shieldgemma2": {"mm_tokens_per_image": 16},
    "smolvlm": {},
    "video_llama_3": {},
    "video_llava": {"image_token_index": 3},
    "vipllava": {"vision_feature_layers": [-1, -2, -2, -1, 2]},
}
"""Each family with the entries of its configuration that the general rule cannot know."""

PROCESSOR_OF = {
    "cohere2_vision": "AyaVisionProcessor",
    "cohere_compass": "Qwen3VLProcessor",
    "cosmos3_omni": "Qwen3VLProcessor",
    "glm_ocr": "Glm46VProcessor",
    "glmga": "Glm46VProcessor",
    "lighton_ocr": "PatchRows",
    "muse_spark": "MuseGlimmerProcessor",
    "minimax_m3_vl": "Qwen3VLProcessor",
    "mistral3": "PatchRows",
    "mistral_large4": "PatchRows",
    "qwen2_5_omni_thinker": "Qwen2_5_VLProcessor",
    "qwen3_omni_moe_thinker": "Qwen3VLProcessor",
    "shieldgemma2": "Gemma3Processor",
}
"""Processors of families for which transformers names none, or one that needs torchvision or asks fixed questions."""
PICTURES_OF = {
    "cohere2_vision": "GotOcr2ImageProcessorPil",
    "cohere_compass": "Qwen2VLImageProcessorPil",
    "glm4v_moe": "Glm4vImageProcessorPil",
    "glm_ocr": "Glm46VImageProcessorPil",
    "lfm2_vl": "FittedPictures",
    "llama4": "CanvasPictures",
    "muse_glimmer": "RasterPictures",
    "muse_spark": "RasterPictures",
    "minimax_m3_vl": "Qwen2VLImageProcessorPil",
    "qwen2_5_omni_thinker": "Qwen2VLImageProcessorPil",
    "qwen3_omni_moe_thinker": "Qwen2VLImageProcessorPil",
    "qwen3_vl_moe": "Qwen2VLImageProcessorPil",
}


def shrunk_model(family: str, attn: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Any]:
    """A random model of `family` (one of FAMILIES) and its processor. Draws from torch's generator."""
    config_class = CONFIG_MAPPING[family]
    default = config_class()
    config = config_class(**_merged(_shrunk(default, text=False), FAMILIES[family]))
    try:
        model = AutoModelForImageTextToText.from_config(config, attn_implementation=attn)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager")
    decoder = {id(weight) for weight in model.get_decoder().parameters()}
    with torch.no_grad():
        for weight in model.parameters():
            # wide, so that attention is far from uniform; Gemma's projector is zero until trained
            if weight.dim() == 2 and (id(weight) in decoder or not weight.any()):
                weight.normal_(std=0.2)
            elif weight.numel() == 1 and not weight.any():  # gates of cross-attention, closed until trained
                weight.fill_(1.0)
    return model, _processor(family, config, tokenizer)


def _shrunk(config: Any, *, text: bool) -> dict[str, Any]:
    """A configuration's entries with small numbers in them."""
    return dict(_entries(config, text))


def _entries(config: Any, text: bool) -> Iterator[tuple[str, Any]]:
    inner = getattr(config, "sub_configs", {})
    n_layers = TEXT_LAYERS if text else VISION_LAYERS
    given = config.to_dict()
    for name, value in given.items():
        if name in ("model_type", "architectures", "transformers_version", "dtype"):
            continue
        if name in inner and getattr(config, name, None) is not None:
            part = getattr(config, name)
            value = _shrunk(part, text="text" in name) | {"model_type": part.model_type}
        elif name in SPECIAL_IDS:
            value = SPECIAL_IDS[name]
        elif name == "num_hidden_layers":
            value = n_layers
        elif name in ("layer_types", "mlp_layer_types") and value:
            kinds = list(dict.fromkeys(value))
            value = [kinds[i % len(kinds)] for i in range(n_layers)]
        elif name == "per_layer_config":
            value = _by_kind(value, given.get("layer_types") or [], n_layers)
        elif name in ("deepstack_visual_indexes", "fullatt_block_indexes"):
            value = [1]
        elif name == "image_grid_pinpoints" and value:
            value = PINPOINTS
        elif name in ("image_size", "patch_size") and isinstance(value, list | tuple):
            value = [NUMBERS[name]] * 2
        elif name == "num_key_value_heads" and value == given.get("num_attention_heads"):
            value = NUMBERS["num_attention_heads"]
        elif name == "rope_parameters" and "mrope_section" in (value or {}):
            share = value.get("partial_rotary_factor") or given.get("partial_rotary_factor") or 1
            value = value | {"mrope_section": SECTIONS[int(NUMBERS["head_dim"] * share) // 2]}
        elif isinstance(value, int) and not isinstance(value, bool):
            value = _token(name) if name.endswith(("token_id", "token_index")) else NUMBERS.get(name, value)
        yield name, value


def _by_kind(entries: Mapping[str, Any], kinds: Sequence[str], n_layers: int) -> dict[int, Any]:
    """What single layers have of their own, for the layers kept, whose kinds take turns."""
    first = {kind: f"{kinds.index(kind):02d}" for kind in dict.fromkeys(kinds)}
    turns = list(first) or [""]
    kept = {i: entries.get(first.get(turns[i % len(turns)], "")) for i in range(n_layers)}
    return {i: {name: NUMBERS.get(name, value) for name, value in own.items()} for i, own in kept.items() if own}


def _token(name: str) -> int:
    """Which of the tokenizer's special tokens an entry of a configuration means."""
    if any(word in name for word in ("start", "boi", "bos")):
        return 5
    if any(word in name for word in ("end", "eoi", "eos")):
        return 6
    return 4 if "video" in name else 3


def _merged(entries: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(entries.get(name), dict) and name.endswith("_config")
        entries[name] = _merged(entries[name], value) if inner else value
    return entries


def _processor(family: str, config: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    pictures = _pictures(family)
    if config.is_encoder_decoder:
        pictures.image_seq_length = 1 + _tokens_an_image(config)  # Florence-2: the mean of the patches, and these
        ends = {"<s>": 1, "</s>": 2}
        written = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[*ends.items()])
        tokenizer.backend_tokenizer.post_processor = written  # BART's
    name = PROCESSOR_OF.get(family) or PROCESSOR_MAPPING_NAMES[family]
    cls = getattr(synthetic, name, None) or getattr(transformers, name)
    taken = signature(cls.__init__).parameters
    if {"video_processor", "feature_extractor"} & set(cls.get_attributes()):
        cls = without_video(cls, also=["feature_extractor"])
    vision = getattr(config, "vision_config", None)
    clip = vision is not None and "siglip" not in vision.model_type
    known = {
        "image_token": "<image>",
        "img_patch_token": "<image>",
        "patch_size": PATCH_PX,
        "img_size": IMAGE_PX,
        "downsample_factor": 2,
        "spatial_merge_size": getattr(config, "spatial_merge_size", 1),
        "image_seq_length": _tokens_an_image(config),
        "image_seq_len": _tokens_an_image(config),
        "num_image_tokens": _tokens_an_image(config),
        "vision_feature_select_strategy": "default" if clip else "full",
        "num_additional_image_tokens": int(clip),
        "size_conversion": {490: 8, 980: 8},
        "chat_template": BOUNDED if "cat_extra_token" in taken else None,
        "downsample_rate": getattr(config, "downsample_rate", None),
        "num_query_tokens": getattr(config, "num_query_tokens", None),
        "qformer_tokenizer": tokenizer,
        "video_processor": None,
        "feature_extractor": None,
    }
    chosen = {name: value for name, value in known.items() if name in taken}
    processor = cls(image_processor=pictures, tokenizer=tokenizer, **chosen)
    if "num_query_tokens" in taken:  # as these make it themselves where their tokenizer names none
        processor.image_token = AddedToken("<image>", normalized=False, special=True)
    return processor


def _tokens_an_image(config: Any) -> int:
    """Patches of one picture or tile, less what a pixel shuffle merges."""
    owner = config if hasattr(config, "scale_factor") else getattr(config, "vision_config", config)
    merge = getattr(owner, "scale_factor", 1) / getattr(config, "downsample_ratio", 1)
    return int((IMAGE_PX // PATCH_PX / merge) ** 2)


def _pictures(family: str) -> Any:
    """The family's image processor on PIL, for pictures of a few patches."""
    name = PICTURES_OF.get(family) or IMAGE_PROCESSOR_MAPPING_NAMES[family]["pil"]
    cls = getattr(synthetic, name, None) or getattr(transformers, name, None) or _found(name)
    square = {"height": IMAGE_PX, "width": IMAGE_PX}
    size: Any = cls().size or {}
    if name.startswith("Pixtral"):
        return cls(patch_size={"height": 16, "width": 16}, size={"longest_edge": 64})
    if hasattr(cls, "max_pixels_tolerance"):
        tokens = {"min_image_tokens": 4, "max_image_tokens": 16, "tile_size": IMAGE_PX}
        return cls(encoder_patch_size=PATCH_PX, max_tiles=6, max_pixels_tolerance=1.0, **tokens)
    if hasattr(cls, "do_image_splitting") and hasattr(cls, "max_image_size"):
        return cls(size={"longest_edge": 64}, max_image_size={"longest_edge": IMAGE_PX})
    if hasattr(cls, "merge_size"):
        return cls(patch_size=PATCH_PX, size={"shortest_edge": IMAGE_PX**2, "longest_edge": (3 * IMAGE_PX) ** 2})
    if hasattr(cls, "crop_to_patches"):
        return cls(size=square, min_patches=1, max_patches=6, crop_to_patches=True)
    if hasattr(cls, "resize_to_max_canvas"):
        return cls(size=square, max_patches=6)
    if hasattr(cls, "max_soft_tokens"):
        return cls(patch_size=PATCH_PX, max_soft_tokens=70, pooling_kernel_size=2)
    if hasattr(cls, "high_res_size"):
        return cls(size=square, high_res_size=square)
    if "shortest_edge" in size and "longest_edge" in size:
        return cls(size={"shortest_edge": IMAGE_PX, "longest_edge": 2 * IMAGE_PX})
    pinpoints = {"image_grid_pinpoints": PINPOINTS} if hasattr(cls, "image_grid_pinpoints") else {}
    if "shortest_edge" in size:
        return cls(size={"shortest_edge": IMAGE_PX}, crop_size=square, **pinpoints)
    pictures = cls(size=square, **pinpoints)
    pictures.image_seq_length = (IMAGE_PX // PATCH_PX) ** 2  # what PaliGemma's processor asks it for
    return pictures


def _found(name: str) -> Any:
    """A class that transformers does not offer at its top, from the module of the family that it is named after."""
    for family, kinds in IMAGE_PROCESSOR_MAPPING_NAMES.items():
        if name in (kinds or {}).values():
            folder = family.replace("-", "_")
            for stem in ("image_processing_pil", "image_processing"):
                try:
                    return getattr(import_module(f"transformers.models.{folder}.{stem}_{folder}"), name)
                except (ImportError, AttributeError):
                    continue
    raise LookupError(f"{name} is nowhere in transformers {transformers.__version__}")
