"""Which positions of a prompt hold image features."""

from __future__ import annotations

from typing import Any

import numpy as np

from vif_core.errors import UnsupportedModel


def crosses(config: Any) -> bool:
    """Whether the decoder sees the image by cross-attention alone: over image features (Llama 3.2 Vision, IDEFICS), or
    over an encoder's tokens, image features among them (Florence-2)."""
    if config.is_encoder_decoder:
        return hasattr(config, "image_token_id") and not _merges(config)
    return any(
        getattr(owner, name, None)
        for owner in (config, config.get_text_config())
        for name in ("cross_attention_layers", "cross_layer_interval")
    )


def image_token_id(config: Any) -> int:
    """Id of the token whose positions image features fill. Raises UnsupportedModel where the model has none, or sees it
    through an encoder in one attention with its own tokens."""
    if _merges(config):
        raise UnsupportedModel(
            f"the decoder of model family {config.model_type!r} sees its own and an encoder's tokens in one attention",
            expected="a decoder whose keys are its own tokens, or a cross-attention",
            next_step="Choose a model that puts image features at image tokens, such as LLaVA, Qwen-VL or Gemma 3",
        )
    words = getattr(config, "vocabulary_map", None) or {}  # Chameleon
    token_id = words.get("<image>", getattr(config, "image_token_id", None))
    if token_id is None:
        raise UnsupportedModel(
            f"model family {config.model_type!r} has no image token",
            expected="image_token_id in its configuration",
            next_step="Choose a model that puts image features at image tokens, such as LLaVA, Qwen-VL or Gemma 3",
        )
    return token_id


def _merges(config: Any) -> bool:
    """T5Gemma 2."""
    return config.is_encoder_decoder and hasattr(config, "encoder") and hasattr(config, "image_token_id")


def visual_positions(input_ids: np.ndarray, token_id: int) -> np.ndarray:
    """Positions [V] of the visual tokens in one unpadded sequence."""
    return np.flatnonzero(input_ids == token_id)
