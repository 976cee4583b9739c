"""Which positions of a prompt hold image features."""

from __future__ import annotations

import numpy as np

from vif_core.errors import UnsupportedModel


def image_token_id(config) -> int:
    """Id of the token whose positions image features fill. Raises UnsupportedModel where the model has none, and where
    its decoder sees the image by cross-attention alone."""
    text = config.get_text_config()
    if getattr(text, "cross_attention_layers", None) or getattr(text, "is_encoder_decoder", False):
        raise UnsupportedModel(
            f"the decoder of model family {config.model_type!r} sees the image by cross-attention",
            expected="image features among the decoder's own tokens",
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


def visual_positions(input_ids: np.ndarray, token_id: int) -> np.ndarray:
    """Positions [V] of the visual tokens in one unpadded sequence."""
    return np.flatnonzero(input_ids == token_id)
