"""Layers are found by watching the op; what never reaches it is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, T5Gemma2Config
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vif_core.errors import UnsupportedModel
from vif_core.vlm.discover import attention_function, decoder_of, discover_layers, watched
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model
from vif_core.vlm.visual import image_token_id


@pytest.mark.parametrize("family", TINY_FAMILIES)
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_the_decoder_s_layers_are_found_and_the_vision_tower_s_are_not(family, attn):
    vlm = tiny_model(family, attn=attn)
    assert [layer.path for layer in vlm.layers] == [
        f"model.language_model.layers.{i}.self_attn" for i in range(vlm.num_layers)
    ]


@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_watching_leaves_the_implementation_as_it_was(name):
    before, known = attention_function(name), name in ALL_ATTENTION_FUNCTIONS
    with watched(name, lambda *_: None):
        assert attention_function(name) is not before
    assert attention_function(name) is before
    assert (name in ALL_ATTENTION_FUNCTIONS) == known


def test_layers_without_attention_are_left_out(monkeypatch):
    vlm = tiny_model("llava")
    skipped = vlm.layers[1].attention
    monkeypatch.setattr(skipped, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None))
    assert [layer.index for layer in discover_layers(vlm.model, vlm.probe().inputs)] == [0, 2]


def test_a_model_that_never_reaches_the_op_is_refused(monkeypatch):
    vlm = tiny_model("llava")
    for layer in vlm.layers:
        monkeypatch.setattr(
            layer.attention, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)
        )
    with pytest.raises(UnsupportedModel, match=r"no decoder layer of LlavaForConditionalGeneration reached .* 'sdpa'"):
        discover_layers(vlm.model, vlm.probe().inputs)


def test_a_model_without_decoder_is_refused():
    with pytest.raises(UnsupportedModel, match="Linear has no separate language decoder; expected an image-text"):
        decoder_of(nn.Linear(1, 1))


def test_a_model_without_image_token_is_refused():
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(UnsupportedModel, match="model family 'llama' has no image token; expected image_token_id"):
        image_token_id(model.config)


def test_a_decoder_with_both_its_own_and_an_encoder_s_keys_is_refused():
    with pytest.raises(UnsupportedModel, match="'t5gemma2' sees its own and an encoder's tokens in one attention"):
        image_token_id(T5Gemma2Config())


def test_an_eager_module_without_its_own_function_is_refused():
    states = torch.zeros(1, 1, 1, 1)
    with pytest.raises(UnsupportedModel, match="Linear has no eager attention function of its own"):
        attention_function("eager")(nn.Linear(1, 1), states, states, states, None)
