"""Which modules of a model compute the attention of its decoder, found by watching one forward pass.

Every attention module of transformers looks its implementation ("sdpa", "flash_attention_2", ...) up by name in
`ALL_ATTENTION_FUNCTIONS` and calls it with post-rotary queries and keys. That call is the attention op.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vif_core.errors import UnsupportedModel

AttentionFunction = Callable[..., tuple[torch.Tensor, Any]]


@dataclass(frozen=True)
class DecoderLayer:
    """One decoder layer that has an attention matrix over visual tokens. path: name of its attention module."""

    index: int
    path: str
    attention: nn.Module
    num_heads: int


def attention_function(name: str) -> AttentionFunction:
    """What transformers calls for implementation `name`. "eager" is each model file's own function."""
    return _own_eager if name == "eager" and name not in ALL_ATTENTION_FUNCTIONS else ALL_ATTENTION_FUNCTIONS[name]


def _own_eager(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
    names = ["eager_attention_forward"]
    if "Vision" in type(module).__name__:  # Llama 4 has two
        names.insert(0, "vision_eager_attention_forward")
    for cls in type(module).__mro__:
        for name in names:
            function = getattr(sys.modules[cls.__module__], name, None)
            if function is not None:
                return function(module, *args, **kwargs)
    raise UnsupportedModel(
        f"{type(module).__name__} has no eager attention function of its own",
        expected="eager_attention_forward in its model file",
        next_step="Load the model with attn='sdpa'",
    )


@contextmanager
def watched(name: str, see: Callable[..., None]) -> Iterator[None]:
    """For a while, `see(module, query, key)` is called at every call of attention implementation `name`."""
    original = attention_function(name)
    registered = name in ALL_ATTENTION_FUNCTIONS

    def watching(module: nn.Module, query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        see(module, query, key)
        return original(module, query, key, *args, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register(name, watching)
    try:
        yield
    finally:
        if registered:
            ALL_ATTENTION_FUNCTIONS.register(name, original)
        else:
            del ALL_ATTENTION_FUNCTIONS._global_mapping[name]


def decoder_of(model: Any) -> Any:
    """The language decoder of a vision-language model. Raises UnsupportedModel where there is none."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    if decoder is None or decoder is model:
        raise UnsupportedModel(
            f"{type(model).__name__} has no separate language decoder",
            expected="an image-text-to-text model of transformers",
            next_step="Choose another model",
        )
    return decoder


def discover_layers(model: Any, inputs: dict[str, torch.Tensor], n_keys: int | None = None) -> tuple[DecoderLayer, ...]:
    """Decoder layers in execution order, from one pass over `inputs`. Raises UnsupportedModel if none is reached.

    A layer's index counts decoder blocks, those without attention included, so that hybrids keep their depth.
    n_keys: of a model that sees the image by cross-attention, the keys that it has; only layers over these are found.
    """
    decoder = decoder_of(model)
    paths = {module: path for path, module in model.named_modules()}
    inside = set(decoder.modules())
    seen: dict[nn.Module, int] = {}

    def see(module: nn.Module, query: torch.Tensor, key: torch.Tensor) -> None:
        if module in inside and module not in seen and (n_keys is None or query.shape[2] != key.shape[2] == n_keys):
            seen[module] = query.shape[1]

    name = decoder.config._attn_implementation
    with watched(name, see), torch.inference_mode():
        model(**inputs)
    if not seen:
        raise UnsupportedModel(
            f"no decoder layer of {type(model).__name__} reached the attention op {name!r}",
            expected="attention modules that call transformers' attention interface",
            next_step="Choose another model: this family computes its attention elsewhere",
        )
    blocks_apart = getattr(decoder.config, "cross_layer_interval", 1)  # IDEFICS counts these blocks on their own
    return tuple(
        DecoderLayer(getattr(module, "layer_idx", number) * blocks_apart, paths[module], module, heads)
        for number, (module, heads) in enumerate(seen.items())
    )


def num_blocks(model: Any) -> int:
    """Blocks of the decoder, those without attention included."""
    config = decoder_of(model).config
    # of an encoder-decoder, num_hidden_layers counts the encoder's
    return getattr(config, "decoder_layers", config.num_hidden_layers)


def blocks_of(model: Any, layers: Sequence[DecoderLayer]) -> nn.ModuleList:
    """The decoder's blocks, those without attention included. Raises UnsupportedModel where they are no plain list."""
    path = layers[0].path.split(".")
    for end in range(len(path) - 1, 0, -1):
        blocks = model.get_submodule(".".join(path[:end]))
        if isinstance(blocks, nn.ModuleList):
            return blocks
    raise UnsupportedModel(
        f"the decoder blocks of {type(model).__name__} are not a list (attention at {layers[0].path})",
        expected="a ModuleList of blocks",
        next_step="Choose another model",
    )
